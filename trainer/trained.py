"""Trained: what a training in Python has come to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from launcher.runs.figures import Figures
from launcher.runs.run_dir import RunDir


@dataclass(frozen=True)
class Trained(os.PathLike[str]):
    """The paths and figures of a finished training. Wherever a path is expected, it is the adapter's folder."""

    run: str  # its name, for `launcher status RUN`
    folder: Path  # all that the run has written
    adapter: Path
    logs: Path  # dpo_train_steps.jsonl: one JSON line per logged step
    tensorboard: Path
    steps: int
    seconds: float  # of the training alone: without imports, reference and the adapter's verification
    loss: float | None  # mean over the run's steps
    before: Mapping[str, float] | None  # validation figures before the first step, by their names in the log
    after: Mapping[str, float] | None  # of the weights in `adapter`
    training: Mapping[str, Any] | None  # means over the first and the last steps, with their numbers
    best_step: int | None  # of the best evaluation, with metric_for_best_model
    verified: int  # tensors that were read back and compared
    uploaded: str | None  # s3://…, None without an upload

    @classmethod
    def of(cls, run: RunDir) -> Self:
        """What the record and the log of ``run``, which is done, say."""
        record = run.read_record()
        result = record["result"]
        return cls(
            run=run.name,
            folder=run.path,
            adapter=run.adapter,
            logs=run.steps,
            tensorboard=run.tensorboard,
            steps=int(result["steps"]),
            seconds=float(result["train_seconds"]),
            loss=result["train_loss"],
            before=_frozen(result.get("before")),
            after=_frozen(result.get("after")),
            training=_frozen(result.get("training")),
            best_step=result["best_step"],
            verified=int(result["verified"]["tensors"]),
            uploaded=(record.get("uploaded") or {}).get("uri"),
        )

    def __fspath__(self) -> str:
        return str(self.adapter)

    def json(self) -> dict[str, Any]:
        """The same in JSON's types."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
        return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}

    def __str__(self) -> str:
        lines = [f"{self.run}: {self.steps} steps in {self.seconds:.1f} s"]
        figures = Figures.of({"before": self.before, "after": self.after, "training": self.training})
        if figures is not None:
            lines += [f"  {figures.what}", f"  {'':<24}" + "".join(f"{moment:>14}" for moment in figures.moments)]
            lines += [f"  {label:<24}" + "".join(f"{cell:>14}" for cell in cells) for label, *cells in figures.rows]
        elif self.loss is not None:
            lines.append(f"  loss      {self.loss:.4f}")
        if figures is not None and figures.displaced is not None:
            lines.append(f"  notice: {figures.displaced}")
        lines.append(f"  adapter   {self.adapter} ({self.verified} tensors, read back and compared)")
        if self.uploaded is not None:
            lines.append(f"  uploaded  {self.uploaded}")
        return "\n".join(lines)


def _frozen(figures: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if figures is None else MappingProxyType(dict(figures))
