"""The short version of an experiment that a drill kills and resumes, and what two of its runs are compared by."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from ..errors import UsageError
from ..experiment.schema import Experiment
from ..runs.run_dir import RunDir

FOLDER: Final = "drill"  # below model_output_dir, so that `ps` lists no run of a drill
EVERY: Final = 2  # steps between two checkpoints


def short_version(experiment: Experiment, steps: int, *, full_determinism: bool) -> Experiment:
    """``experiment`` over ``steps`` steps, with checkpoints and nothing else that takes time.

    ``full_determinism``: the setting of transformers. Without it a GPU's kernels may sum in another order each time.
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
    """SHA-256 of all files in ``adapter``, with their names; raises UsageError if no weights are among them."""
    files = sorted(path for path in adapter.rglob("*") if path.is_file())
    if not any(file.suffix == ".safetensors" for file in files):
        raise UsageError(f"no weights in {adapter}")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(str(file.relative_to(adapter)).encode() + hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def newest_step(run: RunDir) -> int:
    """The step of the run's newest checkpoint, 0 without one."""
    newest = run.checkpoints()[-1:]
    return int(newest[0].name.removeprefix("checkpoint-")) if newest else 0
