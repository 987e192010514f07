"""Merges an adapter into its base model, for ``launcher merge``, and compares the result with base and adapter.

    python -m trainer.after.merge TARGET FOLDER '{"dtype": "bfloat16" | null, "compare": true}'

FOLDER exists and is empty. The answer is {"base", "dtype", "tensors", "changed", "bytes", "agreement": {…} | null, "said",
"warnings", "notices"}. The base's config, tokenizer and generation settings are copied; the adapter's own tokenizer wins.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from launcher.data.text.pair import Pair
from launcher.errors import LauncherError
from launcher.experiment.schema import Experiment
from launcher.job.model import TOKENIZER_FILES
from launcher.job.target import Target
from launcher.runs.whole import write_whole

from ..output import notices, say, stage
from ..processes.ranks.importing import quickly
from .exchange import Requests, serve

if TYPE_CHECKING:
    from .agreement import Agreement, Ids
    from .merging import Merging, Outcome

_WEIGHTS: Final = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.gguf", "*.onnx", "*.index.json")
_NOT_COPIED: Final = (*_WEIGHTS, "adapter_config.json", "README.md", ".*", "origin.json", "trainer_state.json")
_DTYPE_KEYS: Final = ("dtype", "torch_dtype")


def main(requests: Requests) -> Mapping[str, Any]:
    folder, out, asked = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    with stage("importing torch and transformers", after=0), quickly():
        from . import agreement, merging  # noqa: F401 - what takes long is imported here
    return merged(Target.of(folder), out, asked["dtype"], compare=asked["compare"], cache=Path(os.environ["DPO_CACHE_ROOT"]))


def merged(target: Target, out: Path, dtype: str | None, *, compare: bool, cache: Path) -> Mapping[str, Any]:
    """Writes the merged model to ``out``. Raises LauncherError if its log-probabilities differ from base plus adapter."""
    import torch

    from .agreement import place
    from .merging import Merging

    experiment = _plain(target.settings)
    if target.adapter is None:
        raise LauncherError(f"{target.weights} has whole weights: nothing to merge")
    base, adapters = _base_folder(target, cache), [target.adapter]  # an adapter trained on a merged one holds both
    merging = Merging(base, adapters, trust_remote_code=experiment.hyperparameters.trust_remote_code)
    chosen = None if dtype is None else getattr(torch, dtype)
    _check_disk(out, merging.bytes(chosen) + _copied(base))
    if compare:
        place(merging.files.numbers)  # raises before anything is written
    outcome = _write(merging, out, chosen)
    _copy_beside(base, target.weights, out, outcome)
    _describe(target, base, out)
    found = _compared(target, experiment, base, adapters, out, merging, outcome, cache) if compare else None
    return {
        "base": str(base),
        "dtype": str(outcome.dtype).removeprefix("torch."),
        "tensors": outcome.tensors,
        "changed": outcome.changed,
        "bytes": outcome.bytes,
        "agreement": None if found is None else found.json(),
        "said": None if found is None else str(found),
        "warnings": _warnings(target),
        "notices": _notices(outcome),
    }


def _base_folder(target: Target, cache: Path) -> Path:
    """The folder with the base model's files. A hub id is resolved at the run's commit, or at the newest one without a run."""
    from huggingface_hub import hf_hub_download

    from ..inputs.hub import at_commit, from_hub
    from ..inputs.models.starting import locate
    from ..inputs.recorded import recorded_base

    experiment = target.settings.model_copy(update={"adapter": None})
    path = locate(experiment, Path(), cache, first=True).path
    if target.run is not None:
        path, said = recorded_base(target.run, experiment, path)
        notices(said)
    if Path(path).is_dir():
        return Path(path)
    hub = experiment.hyperparameters.model_cache_dir
    file = from_hub(
        path, "model", hub, lambda cached: hf_hub_download(path, "config.json", cache_dir=hub, local_files_only=cached)
    )
    commit = Path(file).parent.name
    with stage(f"downloading {path}"):
        return at_commit(path, commit, hub)


def _plain(experiment: Experiment) -> Experiment:
    """The experiment with unquantised 16-bit weights, the merge target, and attention that works in any precision."""
    plain = {"load_in_4bit": False, "load_in_8bit": False, "attn_implementation": None}
    return experiment.model_copy(update={"hyperparameters": experiment.hyperparameters.model_copy(update=plain)})


def _check_disk(folder: Path, needed: int) -> None:
    """Raises LauncherError if ``folder``'s disk has less than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise LauncherError(
            f"the merged model needs {needed / 2**30:.1f} GiB in {folder.parent}, {free / 2**30:.1f} GiB are free; "
            "free some, or name a folder on another disk"
        )


def _copy_beside(base: Path, weights: Path, out: Path, outcome: Outcome) -> None:
    """Copies the files beside the base's weights, then the adapter's own tokenizer, and writes the configuration."""
    own = any((weights / name).is_file() for name in TOKENIZER_FILES)
    for folder in (base, weights) if own else (base,):
        for file in _beside(folder):
            if folder == base or file.name != "config.json":
                shutil.copyfile(file, out / file.name)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    name = str(outcome.dtype).removeprefix("torch.")
    for part in (config, *(one for key, one in config.items() if key.endswith("_config") and isinstance(one, dict))):
        for key in _DTYPE_KEYS:
            if key in part:
                part[key] = name
        if outcome.untied and (part is config or "tie_word_embeddings" in part):
            part["tie_word_embeddings"] = False
    if not any(key in config for key in _DTYPE_KEYS):
        config["dtype"] = name
    write_whole(out / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _describe(target: Target, path: Path, out: Path) -> None:
    """Writes the model card. An adapter without a run has no record to write it from."""
    from ..card.base import Base
    from ..card.card import write_card

    if target.run is not None and target.experiment is not None:
        base = Base.of(target.experiment, str(path), target.run.read_record().get("model") or {})
        write_card(target.run, target.experiment, out, base, is_merged=True)


def _sequences(target: Target, experiment: Experiment, tokenizer: Any, cache: Path) -> list[Ids]:
    """Token ids of the run's first pairs, as trained on; short sentences for an adapter without a run."""
    from ..inputs.tokens.tokens import tokenize
    from .agreement import PAIRS, PLAIN

    pairs = _first_pairs(target, PAIRS) or list(PLAIN)
    tokens = tokenize(pairs, tokenizer, experiment.hyperparameters, source="the run's first pairs", cache=cache).pairs
    found = [(list(pair.prompt), list(answer)) for pair in tokens for answer in (pair.chosen, pair.rejected)]
    return [(prompt, answer) for prompt, answer in found if prompt and answer]


def _first_pairs(target: Target, number: int) -> list[Pair]:
    if target.run is None or not (file := target.run.data / "train.jsonl").is_file():
        return []
    with file.open(encoding="utf-8") as lines:
        return [Pair.parsed(json.loads(line)) for line, _ in zip(lines, range(number), strict=False)]


def _write(merging: Merging, out: Path, dtype: Any) -> Outcome:
    files = merging.files
    say(f"{len(files.tensors):,} tensors in {files.folder}, {len(merging.changed):,} parameters changed by the adapter")
    with stage("merging") as progress:
        return merging.write(out, dtype, lambda done, total: progress.at(done >> 20, total >> 20, "MiB"))


def _compared(
    target: Target,
    experiment: Experiment,
    base: Path,
    adapters: list[Path],
    out: Path,
    merging: Merging,
    outcome: Outcome,
    cache: Path,
) -> Agreement:
    from transformers import AutoTokenizer

    from .agreement import compare

    tokenizer = AutoTokenizer.from_pretrained(str(out), trust_remote_code=experiment.hyperparameters.trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    asked = _sequences(target, experiment, tokenizer, cache)
    rounded = None if merging.files.dtype != outcome.dtype else {*merging.changed, *outcome.untied}
    with stage("comparing the merged model with base and adapter"):
        found = compare(
            experiment.model_copy(update={"model_name": str(base)}), base, adapters, out, asked, (outcome.dtype, rounded)
        )
    if not found.holds:
        raise LauncherError(f"the merged model differs from base and adapter: {found}; nothing was kept")
    return found


def _warnings(target: Target) -> list[str]:
    h = target.settings.hyperparameters
    if not (h.load_in_4bit or h.load_in_8bit):
        return []
    bits = 4 if h.load_in_4bit else 8
    return [f"trained on {bits}-bit weights, merged into 16-bit ones: log-probabilities differ from those of the run"]


def _notices(outcome: Outcome) -> list[str]:
    if not outcome.untied:
        return []
    return ["the adapter changes one of two tied embeddings: both are written, and tie_word_embeddings is false"]


def _beside(folder: Path) -> list[Path]:
    """Files of a model other than weights: configuration, tokenizer, template, generation settings, code, licence."""
    return [
        file for file in sorted(folder.iterdir()) if file.is_file() and not any(fnmatch(file.name, one) for one in _NOT_COPIED)
    ]


def _copied(folder: Path) -> int:
    return sum(file.stat().st_size for file in _beside(folder))


if __name__ == "__main__":
    serve(main)
