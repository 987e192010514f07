"""Parsing a run's output: lines in, text and metrics out. Pure; the command line draws them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

LINES_OF_A_RUN: Final = 25  # about how many training lines are shown where nothing can be redrawn
_END = re.compile(r"\r\n|\n|\r(?!$)")  # a \r at the very end may be half of \r\n


@dataclass(frozen=True)
class Text:
    """A line of text."""

    line: str


@dataclass(frozen=True)
class Metric:
    """One line of ``dpo_train_steps.jsonl``. ``rate`` is pairs per second since the training line before, None if unknown."""

    kind: str  # train, eval or summary
    step: int
    total: int | None
    values: Mapping[str, Any]
    rate: float | None = None

    def number(self, name: str) -> float | None:
        """A value by its name, with or without ``eval_``; None if it is missing or no number (as NaN, which is text)."""
        value = self.values.get(f"eval_{name}" if self.kind == "eval" else name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass
class Reader:
    """Turns pieces of a log, cut anywhere, into events, one for each whole line."""

    pairs_a_step: int | None = None
    _rest: str = field(default="", init=False)
    _before: Metric | None = field(default=None, init=False)

    def feed(self, piece: str) -> Iterator[Text | Metric]:
        *lines, self._rest = _END.split(self._rest + piece)
        for line in lines:
            yield self._event(line)

    def close(self) -> Iterator[Text | Metric]:
        """The last line, if it has no line end."""
        rest, self._rest = self._rest.rstrip("\r"), ""
        if rest:
            yield self._event(rest)

    def _event(self, line: str) -> Text | Metric:
        metric = parse(line)
        if metric is None:
            return Text(line)
        if metric.kind != "train":
            # An evaluation takes time too: the rate of the next line is unknown.
            self._before = None
            return metric
        rate, self._before = self._rate(metric), metric
        return Metric(metric.kind, metric.step, metric.total, metric.values, rate)

    def _rate(self, now: Metric) -> float | None:
        before = self._before
        if before is None or self.pairs_a_step is None:
            return None
        since, until = before.number("seconds"), now.number("seconds")
        if since is None or until is None or until <= since or now.step <= before.step:
            return None
        return (now.step - before.step) * self.pairs_a_step / (until - since)


def parse(line: str) -> Metric | None:
    """The metric in a line, or None for any other text."""
    if not line.startswith("{"):
        return None
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if values.get("type") not in ("train", "eval", "summary") or not isinstance(values.get("step"), int):
        return None
    total = values.get("total_steps")
    return Metric(values["type"], values["step"], total if isinstance(total, int) else None, values)


def is_shown(metric: Metric, before: Metric | None) -> bool:
    """Whether a plain stream shows ``metric``; ``before`` is the last training line that it showed.

    It shows the first training line, the last, about ``LINES_OF_A_RUN`` between them, and every other metric.
    """
    if metric.kind != "train" or before is None or not metric.total or metric.step >= metric.total:
        return True
    return metric.step * LINES_OF_A_RUN // metric.total != before.step * LINES_OF_A_RUN // metric.total


# z: no minus sign on what rounds to zero, such as the first margin of a fresh adapter.
_FIGURES: Final = (
    ("loss", "loss", "z.4f"),
    ("rewards/margins", "margin", "+z.3f"),
    ("rewards/accuracies", "accuracy", ".2f"),
    ("learning_rate", "lr", ".2e"),
)


def figures(metric: Metric, *, live: bool = False) -> str:
    """The metric's numbers with their names; ``live``: without the learning rate."""
    found = [(label, metric.number(name), spec) for name, label, spec in _FIGURES if not (live and label == "lr")]
    if metric.number("rewards/margins") is None:  # a run of method: sft has no rewards
        found.insert(1, ("token accuracy", metric.number("mean_token_accuracy"), ".3f"))
    words = [f"{label} {value:{spec}}" for label, value, spec in found if value is not None]
    if (
        metric.number("loss") is None
        and (loss := metric.values.get("eval_loss" if metric.kind == "eval" else "loss")) is not None
    ):
        words.insert(0, f"loss {loss}")  # nan or inf
    if metric.rate is not None:
        words.append(f"{metric.rate:.1f} pairs/s")
    return "  ".join(words)


def short(metric: Metric) -> str:
    """One line for one metric."""
    total = "" if metric.total is None else f"/{metric.total}"
    width = len(total) - 1
    if metric.kind == "summary":
        seconds = metric.number("seconds")
        words = ["" if seconds is None else f"{seconds:.1f} s", figures(metric)]
        return "  ".join([f"trained {metric.step}{total} steps", *filter(None, words)])
    return f"step {metric.step:>{max(1, width)}}{total}  {'eval  ' if metric.kind == 'eval' else ''}{figures(metric)}"
