"""Sorts runs by one of their metrics, best first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..errors import UsageError, nearest
from .known import Known

# key -> the value of a run, and whether the highest comes first
_KEYS: Final[Mapping[str, tuple[Callable[[Known], Any], bool]]] = {
    "accuracy": (lambda run: run.accuracy, True),
    "margin": (lambda run: run.margin, True),
    "loss": (lambda run: run.loss, False),
    "step": (lambda run: run.step, True),
    "started": (lambda run: run.created or None, True),
    "took": (lambda run: run.trained_seconds, True),
    "run": (lambda run: run.run, False),
    "state": (lambda run: run.state, False),
}
_OF_A_CLUSTER: Final = ("started", "run", "state")  # the others lie on the claim and would cost a request a run
_JUDGED: Final = ("accuracy", "margin")


def ordered(runs: Sequence[Known], key: str, *, on_cluster: bool = False) -> list[Known]:
    """``runs`` sorted by ``key`` (``-`` before it reverses); runs without the metric come last.

    Figures of training pairs come after those of validation pairs: they are no measure of one another. Raises UsageError for a
    key that is unknown, or that a cluster's list does not have.
    """
    name = key.removeprefix("-").lower()
    there = _OF_A_CLUSTER if on_cluster else tuple(_KEYS)
    if name not in there:
        near = nearest(name, there)
        where = "with --cluster " if on_cluster and name in _KEYS else ""
        raise UsageError(f"--sort {key}: {where}must be one of {', '.join(there)}{'' if near is None else f'; {near}'}")
    value, is_descending = _KEYS[name]
    known = [run for run in runs if value(run) is not None]
    known.sort(key=value, reverse=is_descending != key.startswith("-"))
    if name in _JUDGED:
        known.sort(key=lambda run: run.figures == "training")
    return [*known, *(run for run in runs if value(run) is None)]
