"""Values of runs' experiments by dotted path, and which of them differ. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from ..experiment.schema import Experiment
from ..experiment.shown import flat
from .reported import Reported

# Where a run reads and writes, and what it is called, is no setting that explains a figure.
_PLACES: Final = (
    "experiment_id",
    "topic",
    "hyperparameters.hyperparameters_id",
    "hyperparameters.model_output_dir",
    "hyperparameters.report_to",
    "output_processed_dir",
    "save_processed_dataset",
    "storage_config",
    "launch.kubernetes",
)
_NAMES: Final = 7  # of a list are shown


def settings(run: Reported) -> dict[str, Any]:
    """Every value of the run's experiment by its path as ``--set`` has it: TRL's own fields stand under ``hyperparameters``."""
    return _by_dotted_path(run.experiment)


def differing(runs: Sequence[Reported]) -> dict[str, tuple[Any, ...]]:
    """The settings that are not the same for all runs: a value for each run, None if it has no such setting.

    Revision of the code, versions of packages and the machine count as settings, as they move figures, too. A setting that an
    older version did not know has its default there.
    """
    default = _by_dotted_path(_defaults())
    every = [{**(default if run.experiment else {}), **settings(run), **_surroundings(run)} for run in runs]
    names = list(dict.fromkeys(name for one in every for name in one))
    found = {name: tuple(one.get(name) for one in every) for name in names if not name.startswith(_PLACES)}
    return {name: values for name, values in found.items() if len(set(map(_key, values))) > 1}


@cache
def _defaults() -> Mapping[str, Any]:
    whole = Experiment.parse({"model_name": "m", "datasets_path": "d"}).model_dump(mode="json")
    return {name: value for name, value in whole.items() if name not in ("model_name", "datasets_path")}


def short(names: Sequence[str]) -> dict[str, str]:
    """A short name for each dotted path: its last word, unless two paths share that word."""
    last = [name.rpartition(".")[2] for name in names]
    return {name: word if last.count(word) == 1 else name for name, word in zip(names, last, strict=True)}


def shown(value: Any) -> str:
    """A value as written in a file."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and len(value) > _NAMES:
        ends = dict.fromkeys(str(one).rpartition(".")[2] for one in value)  # of modules: q_proj of every layer is one
        return f"{', '.join(list(ends)[:_NAMES])}{' …' if len(ends) > _NAMES else ''} ({len(value)} names)"
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _by_dotted_path(experiment: Mapping[str, Any]) -> dict[str, Any]:
    return {".".join(path): value for path, value in flat(experiment)}


def _surroundings(run: Reported) -> dict[str, Any]:
    hardware, code = run.record.get("hardware") or {}, run.record.get("code") or {}
    revision = code.get("revision")
    return {
        "backend": run.record.get("backend"),
        "devices": _devices(hardware),
        "code": code.get("version") if revision is None else revision[:10] + (" (changed)" if code.get("dirty") else ""),
        "image": run.record.get("image"),
        "dpo_path": (run.record.get("dpo_path") or {}).get("path"),
        "compiled_layers": (run.record.get("layers") or {}).get("compiled"),
        **{f"packages.{name}": version for name, version in (run.record.get("packages") or {}).items()},
    }


def _devices(hardware: Mapping[str, Any]) -> str | None:
    if "gpus" not in hardware:
        return None
    ranks = hardware.get("ranks") or 1
    return f"{ranks} × {hardware['gpus'][0]}" if hardware["gpus"] else f"CPU, {ranks} process{'es' * (ranks != 1)}"


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
