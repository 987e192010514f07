"""The shortened experiment that a drill kills and resumes, and how two of its runs are compared."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import UsageError
from ..experiment.schema import Experiment
from ..runs.run_dir import ASIDE, STAGING, RunDir

FOLDER: Final = "drill"  # below model_output_dir, where `ps` does not look
EVERY: Final = 2  # steps between two checkpoints


def short_version(experiment: Experiment, steps: int, *, full_determinism: bool) -> Experiment:
    """``experiment`` shortened to ``steps`` steps, with checkpoints and without everything else that takes time.

    ``full_determinism``: as in transformers. Without it GPU kernels may sum in a different order each time.
    """
    h = experiment.hyperparameters
    short = {
        "max_steps": steps,
        "save_strategy": "steps",
        "save_steps": EVERY,
        "save_total_limit": None,
        "eval_strategy": "no",
        "eval_steps": None,
        "load_best_model_at_end": False,
        "early_stopping_patience": None,
        "logging_steps": 1,
        "resume_from_checkpoint": False,
        "model_output_dir": str(Path(h.model_output_dir) / FOLDER),
        "trl": {**h.trl, **({"full_determinism": True} if full_determinism else {})},
    }
    storage = experiment.storage_config
    changes: dict[str, Any] = {
        "hyperparameters": h.model_copy(update=short),
        "validation_filename": None,
        "validation_sheet": None,
        "validation_split": None,
        "checkpoint_to": None,
        "samples": experiment.samples.model_copy(update={"prompts": 0}),
    }
    if storage is not None:
        changes["storage_config"] = storage.model_copy(update={"upload_to_cloud": False})
    return experiment.model_copy(update=changes)


def fingerprint(adapter: Path) -> str:
    """SHA-256 over names and contents of all files in ``adapter``. Raises UsageError if there are no weights.

    The model card is left out: it contains the run's name and duration.
    """
    files = sorted(path for path in adapter.rglob("*") if path.is_file() and path != adapter / "README.md")
    if not any(file.suffix == ".safetensors" for file in files):
        raise UsageError(f"no weights in {adapter}")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(str(file.relative_to(adapter)).encode() + hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def newest_step(run: RunDir) -> int:
    """The step of the newest checkpoint, 0 without one."""
    newest = run.checkpoints()[-1:]
    return int(newest[0].name.removeprefix("checkpoint-")) if newest else 0


BEFORE: Final = "before the first step"
AFTER: Final = "after the adapter"


@dataclass(frozen=True)
class Moment:
    """When to kill a run: during step ``step``, while ``checkpoint-<step>`` is written, or while the adapter is written."""

    what: Literal["step", "checkpoint", "adapter"]
    step: int

    def has_come(self, run: RunDir, last: int) -> bool:
        """Whether the moment is now or has passed. ``last``: the last logged step, 0 before the first one."""
        if self.what == "step":
            return last >= self.step - 1
        if self.what == "checkpoint":
            name = f"checkpoint-{self.step}"
            return (run.path / STAGING / name).exists() or (run.path / name).exists()
        return (run.path / ASIDE).exists() or run.adapter.exists()


def moments(steps: int, chance: random.Random) -> Iterator[Moment]:
    """Endless moments in a run of ``steps`` steps, alternately in a step and during a write; no moment repeats before its kind
    is used up.

    Never step 1: before it is logged, a run may still be starting.
    """
    ends = dict.fromkeys([*range(EVERY, steps + 1, EVERY), steps])
    in_steps = [Moment("step", step) for step in range(2, steps + 1)]
    in_writes = [*(Moment("checkpoint", step) for step in ends), Moment("adapter", steps)]
    for kind in (in_steps, in_writes):
        chance.shuffle(kind)
    for pair in zip(itertools.cycle(in_steps), itertools.cycle(in_writes), strict=False):
        yield from pair


def under_way(run: RunDir, last: int, steps: int) -> str:
    """What a run is doing, or was doing when it was killed, according to its folder and the last logged step."""
    if run.adapter.exists():
        return AFTER
    if (run.path / ASIDE).exists():
        return "writing the adapter"
    saving = next((run.path / STAGING).glob("checkpoint-*"), None)
    if saving is not None:
        return f"writing {saving.name}"
    if last >= steps:
        return f"after step {last}"
    return f"step {last + 1}" if last else BEFORE
