"""The rewards of new pairs under a run's weights, for ``launcher score``.

    python -m trainer.after.score RUN FILE ANSWERS

RUN is the run's folder, FILE a CSV file with the columns of its data. ANSWERS gets {"pairs": […], "learned": {…},
"notices": […]}, the pairs as in ``evaluation/pairs.jsonl``, or {"error": {"code", "text", "mistakes"}}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from launcher.data.pairs import read_other
from launcher.data.prompt import Prompt
from launcher.errors import LauncherError
from launcher.experiment.schema import Experiment
from launcher.redact import REDACTOR, learn_environment
from launcher.runs.run_dir import RunDir, write_whole

from ..output import stage
from ..processes.ending import how_it_failed


def main() -> None:
    learn_environment()
    run, file, answers = RunDir(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
    with stage("importing torch and transformers", after=0):
        from ..evaluation import scoring  # noqa: F401 - what takes long is imported here
    write_whole(answers, json.dumps(REDACTOR.value(answer(run, file))))


def answer(run: RunDir, file: Path) -> Mapping[str, Any]:
    """What the weights of ``run`` make of the pairs in ``file``; a relative model lies below the working directory."""
    try:
        return _scored(run, file)
    except LauncherError as error:
        mistakes = [asdict(mistake) for mistake in getattr(error, "mistakes", ())]
        return {"error": {"code": error.exit_code, "text": str(error), "mistakes": mistakes}}
    except Exception as error:  # a library's own
        code, text = how_it_failed(error)
        return {"error": {"code": code, "text": text, "mistakes": []}}


def _scored(run: RunDir, file: Path) -> Mapping[str, Any]:
    from ..evaluation.ending import learned, rewarded
    from ..evaluation.scoring import Scorer
    from ..inputs.bucket import model_path
    from ..inputs.clock import FIELD
    from ..inputs.model import choose_precision, load_tokenizer, weights_size
    from ..inputs.tokens import tokenize
    from ..processes.machine import Device
    from ..step.fast import rounded

    experiment = Experiment.model_validate_json(run.experiment.read_text(encoding="utf-8"))
    h, cache = experiment.hyperparameters, Path(os.environ["DPO_CACHE_ROOT"])
    pairs = read_other(experiment, file, _prompt(run))
    path = model_path(experiment, Path(), cache, first=True)
    tokenizer = load_tokenizer(experiment, path)
    day = h.template_date or run.read_record().get(FIELD)
    with stage(f"tokenizing {len(pairs.validation):,} pairs"):
        place: dict[str, Any] = {"cache": cache, "day": date.fromisoformat(day) if day else None, "system": pairs.system}
        tokens = tokenize(pairs.validation, tokenizer, h, source=str(file), **place)
    device = Device.here(h.gpu_memory_utilization)
    precision = choose_precision(h, cuda=device.cuda, bf16=device.bf16)
    with stage(f"loading the weights{weights_size(path)}"):
        scorer = Scorer(run, experiment, path, precision, device)
    with stage(f"scoring {len(tokens.pairs):,} pairs") as progress:
        rewards = scorer.rewards(
            tokens.pairs, h.beta, tokenizer.pad_token_id, lambda done: progress.at(done, len(tokens.pairs), "pairs")
        )
    found = rewarded(tokens, rewards.tolist(), pairs.columns)
    noise = rounded(h.beta, half=precision.bf16 or precision.fp16)
    return {"pairs": [pair.json() for pair in found], "learned": learned(found, noise, None), "notices": list(_notices(h.trl))}


def _prompt(run: RunDir) -> Prompt:
    try:
        found = json.loads(run.prompt.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LauncherError(f"{run.prompt} not found: the run is older than `launcher score`") from None
    return Prompt(found["system"], tuple(found["user"]), found["place"])


def _notices(settings: Mapping[str, Any]) -> list[str]:
    """Settings of the training that make its own rewards others."""
    found = []
    if settings.get("sync_ref_model"):
        found.append("sync_ref_model: the rewards are against the base model, not against the reference that the training moved")
    if settings.get("ld_alpha") is not None:
        found.append("ld_alpha: the rewards are of whole answers, without the training's weights for the longer one's end")
    return found


if __name__ == "__main__":
    main()
