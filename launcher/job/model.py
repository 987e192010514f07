"""Checks the model of an experiment on this disk: whether it can be trained and has the named modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..errors import ExperimentError, Mistake
from ..experiment.adapted import wrong_names
from ..experiment.schema import Experiment
from ..experiment.sections.targets import wrong_targets
from ..runs.cache import is_hub_id, snapshots
from ..runs.run_dir import expanded
from .adapter_config import ADAPTER, AdapterConfig
from .weights import modules_on_disk

TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")
_WEIGHTS: Final = ("*.safetensors", "*.bin", "*.index.json", "*.pt", "*.pth", "*.gguf")


def check_model(experiment: Experiment, root: Path, caller: Mapping[str, str]) -> None:
    """Raises ExperimentError if the run would reject the model or a module to train. Reads only this disk.

    ``caller``: the environment, which names the hub's cache. A model that is not on this disk is checked by the run.
    """
    name, hyper = experiment.model_name, experiment.hyperparameters
    folder = _folder(experiment, root, caller)
    if folder is None:
        return
    check_adapter(name, folder)
    if hyper.full_finetuning or (modules := modules_on_disk(folder)) is None:
        return
    mistakes = [*wrong_targets(hyper.target_modules, modules, name), *wrong_names(hyper, modules, name)]
    if mistakes:
        raise ExperimentError(mistakes)


def check_adapter(model_name: str, folder: Path) -> None:
    """Raises ExperimentError if the model's ``folder`` contains an adapter, or weights and an adapter.

    transformers would load the adapter on its own base model, and the run's new adapter would replace it.
    """
    if not (folder / ADAPTER).is_file():
        return
    base = AdapterConfig.read(model_name, folder / ADAPTER).base
    is_beside = (folder / "config.json").is_file()
    hint = f"name the adapter apart: model_name: {base or 'BASE'}, adapter: {model_name}"
    if is_beside:
        hint = f"remove {ADAPTER} and the adapter's weights to train the model without it, or {hint}"
    raise ExperimentError(
        Mistake(
            "model_name",
            f"{model_name} {'holds an adapter beside its weights' if is_beside else 'is an adapter, not a whole model'}",
            expected="a model with all its weights" + (f", such as its base model {base}" if base and not is_beside else ""),
            found=ADAPTER + (f" for base model {base}" if base else ""),
            hint=hint,
        )
    )


def _folder(experiment: Experiment, root: Path, caller: Mapping[str, str]) -> Path | None:
    """The model's folder on this disk; None if only the run can see it. Raises ExperimentError if it holds no model."""
    name, cache = experiment.model_name, experiment.hyperparameters.model_cache_dir
    if name.startswith("s3://"):
        return None
    folder = root / expanded(name)
    if folder.is_dir():
        _check_folder(name, folder)
        return folder
    if not is_hub_id(name):
        hint = "make it with: make demo" if "data/demo" in name else None
        if name.startswith(("https://huggingface.co/", "https://hf.co/")):
            hint = f"use the hub id {'/'.join(name.split('/')[3:5])}"
        raise ExperimentError(Mistake("model_name", f"folder {name} not found", "a hub id or an existing folder", hint=hint))
    there = snapshots(name, caller, root / expanded(cache) if cache else None)
    return next((one for one in there if (one / "config.json").is_file() or (one / ADAPTER).is_file()), None)


def _check_folder(name: str, folder: Path) -> None:
    if (folder / ADAPTER).is_file():
        return  # see check_adapter
    files = sorted(path.name for path in folder.iterdir())
    found = "an empty folder" if not files else ", ".join(files[:5]) + (" …" if len(files) > 5 else "")
    if "config.json" not in files:
        raise ExperimentError(Mistake("model_name", f"no model in {name}", "a folder with config.json", found))
    if not any(path.is_file() for pattern in _WEIGHTS for path in folder.glob(pattern)):
        raise ExperimentError(Mistake("model_name", f"no weights in {name}", "a folder with model.safetensors", found))
    if not any(file in files for file in TOKENIZER_FILES):
        raise ExperimentError(Mistake("model_name", f"no tokenizer in {name}", f"one of {', '.join(TOKENIZER_FILES)}", found))
