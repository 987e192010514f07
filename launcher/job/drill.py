"""The short version of an experiment that a drill kills and resumes, and what two of its runs are compared by."""

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
    """SHA-256 of all files in ``adapter``, with their names; raises UsageError if no weights are among them.

    The model card does not count: it names the run and the time that it took.
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
    """The step of the run's newest checkpoint, 0 without one."""
    newest = run.checkpoints()[-1:]
    return int(newest[0].name.removeprefix("checkpoint-")) if newest else 0


BEFORE: Final = "before the first step"
AFTER: Final = "after the adapter"


@dataclass(frozen=True)
class Moment:
    """When a run is to be killed: in step ``step``, while ``checkpoint-<step>`` is written, or while the adapter is."""

    what: Literal["step", "checkpoint", "adapter"]
    step: int

    def has_come(self, run: RunDir, last: int) -> bool:
        """Whether it is now, or has passed. ``last``: the last step that was logged, 0 before the first."""
        if self.what == "step":
            return last >= self.step - 1
        if self.what == "checkpoint":
            name = f"checkpoint-{self.step}"
            return (run.path / STAGING / name).exists() or (run.path / name).exists()
        return (run.path / ASIDE).exists() or run.adapter.exists()


def moments(steps: int, chance: random.Random) -> Iterator[Moment]:
    """Moments in the short version of ``steps`` steps, without an end: a step, a write, a step …, each once before any again.

    Step 1 is none: until it is logged, a run may still be starting.
    """
    ends = dict.fromkeys([*range(EVERY, steps + 1, EVERY), steps])
    in_steps = [Moment("step", step) for step in range(2, steps + 1)]
    in_writes = [*(Moment("checkpoint", step) for step in ends), Moment("adapter", steps)]
    for kind in (in_steps, in_writes):
        chance.shuffle(kind)
    for pair in zip(itertools.cycle(in_steps), itertools.cycle(in_writes), strict=False):
        yield from pair


def under_way(run: RunDir, last: int, steps: int) -> str:
    """What a run does, or did when it was killed, by its folder and by the last step that it has logged."""
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
