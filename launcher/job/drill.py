"""A drill: a short version of an experiment is killed and resumed, and must end with the adapter of an undisturbed run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import UsageError
from ..experiment.schema import Experiment
from ..runs.run_dir import RunDir

FOLDER: Final = "drill"  # below model_output_dir: no drill is listed among the runs
EVERY: Final = 2  # steps between two checkpoints


@dataclass(frozen=True)
class Trial:
    """One disturbance and what came of it; steps are counted from 1, 0 is before the first one."""

    how: str  # SIGKILL or SIGTERM
    at_step: int  # the last step that was logged before it
    from_step: int  # the checkpoint that the resumed run went on from
    exit_code: int | None  # of the disturbed attempt
    is_same: bool  # the adapter, byte for byte

    def json(self) -> Mapping[str, Any]:
        return dict(vars(self))


def short_version(experiment: Experiment, steps: int, *, full_determinism: bool) -> Experiment:
    """``experiment`` over ``steps`` steps, with checkpoints in between and nothing else that takes time.

    ``full_determinism``: as transformers has it; a GPU's kernels may add up in another order each time otherwise.
    """
    h = experiment.hyperparameters
    short = {
        "max_steps": steps,
        "save_strategy": "steps",
        "save_steps": EVERY,
        "save_total_limit": None,
        "eval_strategy": "no",
        "load_best_model_at_end": False,
        "early_stopping_patience": None,
        "logging_steps": 1,
        "resume_from_checkpoint": False,
        "model_output_dir": str(Path(h.model_output_dir) / FOLDER),
        "trl": {**h.trl, **({"full_determinism": True} if full_determinism else {})},
    }
    storage = experiment.storage_config
    changes: dict[str, Any] = {"hyperparameters": h.model_copy(update=short)}
    if storage is not None:
        changes["storage_config"] = storage.model_copy(update={"upload_to_cloud": False})
    return experiment.model_copy(update=changes)


def fingerprint(adapter: Path) -> str:
    """SHA-256 of the weights in ``adapter``; raises UsageError if there are none."""
    files = sorted(adapter.glob("*.safetensors"))
    if not files:
        raise UsageError(f"{adapter}: no weights were saved")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def newest_step(run: RunDir) -> int:
    """The step of the run's newest checkpoint, 0 without one."""
    newest = run.checkpoints()[-1:]
    return int(newest[0].name.removeprefix("checkpoint-")) if newest else 0
