"""Facts that the rules need besides the lines of a run's log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_SCALED_PATIENCE: Final = 16  # fp16's loss scale falls from 2^16 to 1 before a gradient that is not finite is a fault


@dataclass(frozen=True)
class Answers:
    """The training answers, counted in tokens before they are cut. ``longest_row``: the line of the file that has the longest."""

    count: int
    cut: int
    median: float
    longest: int
    longest_row: int
    repeated: int = 0  # pairs that repeat an earlier one exactly
    of_pair: int = 2  # answers of a pair: 1 for SFT

    @classmethod
    def of(cls, saved: Mapping[str, Any] | None) -> Answers | None:
        return None if not saved else cls(**{name: saved[name] for name in cls.__dataclass_fields__ if name in saved})


@dataclass(frozen=True)
class Facts:
    """``batch``: pairs of a step over all processes. ``first_loss``: the loss of a policy that equals its reference; None where
    it is not one number, or there is no reference (``method: sft``). ``patience``: steps in a row whose gradient may overflow.
    """

    batch: int = 1
    pairs: int = 0
    beta: float = 0.1
    first_loss: float | None = math.log(2)
    max_seq_length: int | None = None
    answers: Answers | None = None
    chosen: str | None = None  # the column of the chosen answers
    rejected: str | None = None
    patience: int = 0
    step_seconds: float | None = None  # of a step, as the plan estimates it for these GPUs; None if it does not

    @classmethod
    def of(cls, experiment: Mapping[str, Any], work: Mapping[str, Any], *, scaled: bool | None = None) -> Facts:
        """``experiment`` and ``work`` are those of a run's record. ``scaled``: whether the loss is scaled, None if unknown."""
        h = experiment.get("hyperparameters") or {}
        launch = experiment.get("launch") or {}
        batch = launch.get("global_batch_size") or (
            (h.get("per_device_train_batch_size") or 1) * (h.get("gradient_accumulation_steps") or 1)
        )
        beta = float(h.get("beta") or 0.1)
        columns = experiment.get("dpo_column_mapping_config") or experiment.get("column_mapping_config") or {}
        is_sft = experiment.get("method") == "sft"
        names = {} if is_sft else {side: columns.get(side) for side in ("chosen", "rejected")}
        return cls(
            batch=batch,
            pairs=int(work.get("pairs") or 0),
            beta=beta,
            first_loss=None if is_sft else _first_loss(h.get("loss_type", "sigmoid"), beta),
            max_seq_length=h.get("max_seq_length"),
            answers=Answers.of(work.get("answers")),
            **{side: name if isinstance(name, str) else None for side, name in names.items()},
            patience=0 if scaled is False else _SCALED_PATIENCE,
            step_seconds=work.get("step_seconds"),
        )


def _first_loss(kinds: Any, beta: float) -> float | None:
    """The loss of zero margin: sigmoid (Rafailov et al., arXiv 2305.18290), hinge (SLiC), ipo (Azar et al., arXiv 2310.12036)."""
    kind = kinds[0] if isinstance(kinds, list | tuple) and len(kinds) == 1 else kinds
    known = {"sigmoid": math.log(2), "hinge": 1.0, "ipo": (1 / (2 * beta)) ** 2}
    return known.get(kind) if isinstance(kind, str) else None
