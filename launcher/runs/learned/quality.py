"""How well a run's weights separate chosen from rejected answers, on validation pairs if it has some."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..follow import Metric, parse

_EVAL: Final = b'"type": "eval"'


@dataclass(frozen=True)
class Quality:
    """``accuracy`` is the share of pairs with a margin above 0, ``margin`` their mean reward of chosen minus rejected.

    ``pairs``: ``validation`` or ``training``, the pairs of both; ``step``: of the weights, None for the saved ones.
    """

    accuracy: float | None = None
    margin: float | None = None
    pairs: str | None = None
    step: int | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any], evaluated: Metric | None, trained: Metric | None) -> Quality:
        """The saved weights' metrics from ``record``, else from the last evaluation, else from the last training line.

        An evaluation before the first step tells nothing about weights that have been trained.
        """
        result = record.get("result") or {}
        after = (result.get("learned") or {}).get("after") or {}
        values = {name: _number((after.get(name) or {}).get("value")) for name in ("accuracy", "margin")}
        if None not in values.values():
            return cls(values["accuracy"], values["margin"], "validation")
        saved = result.get("after") or {}
        accuracy, margin = (_number(saved.get(f"eval_rewards/{name}")) for name in ("accuracies", "margins"))
        if accuracy is not None and margin is not None:
            return cls(accuracy, margin, "validation")
        if evaluated is not None and trained is not None and evaluated.step == 0 < trained.step:
            evaluated = None
        for metric, pairs in ((evaluated, "validation"), (trained, "training")):
            if metric is not None and metric.number("rewards/margins") is not None:
                return cls(metric.number("rewards/accuracies"), metric.number("rewards/margins"), pairs, metric.step)
        return cls()


def last_evaluation(steps: Path) -> Metric | None:
    """The newest evaluation in a run's metrics, however early; None without one."""
    if not steps.is_file() or steps.stat().st_size == 0:
        return None
    with steps.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        at = text.rfind(_EVAL)
        while at >= 0:
            begin, end = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at)
            metric = parse(text[begin : end if end >= 0 else len(text)].decode("utf-8", "replace"))
            if metric is not None and metric.kind == "eval":
                return metric
            at = text.rfind(_EVAL, 0, begin)
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
