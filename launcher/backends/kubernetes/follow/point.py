"""A point of a sweep whose Job has all of them: its part of the Job, as if it were a Job of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from ....why import Pod
from . import state
from .pods import pod_of
from .run import APART, ClusterRun, of_point

_OF_THE_INDEXES: Final = ("Complete", "SuccessCriteriaMet", "FailedIndexes", "MaxFailedIndexesExceeded")


def part_of(run: ClusterRun, obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """``obj``, the object of ``run``; of a point with its own conditions, and without what is counted over all indexes.

    For its Job a point that a person has stopped alone has failed; here it has the annotations of a run that was stopped. One
    that a Job of its own continued has how it ended there.
    """
    if run.index is None:
        return obj
    status = obj.get("status") or {}
    kept = [one for one in status.get("conditions") or [] if not _is_of_the_indexes(one)]
    if run.index in indexes(status.get("completedIndexes")):
        kept = [_condition("Complete", "CompletionsReached")]
    elif run.is_apart:
        obj = _annotated(obj, _own(run, obj, APART, state.ENDED_APART))
    elif stopped := _own(run, obj, state.STOPPED, state.ABORTED):
        obj = _annotated(obj, {**stopped, state.ALONE: "true"})
    elif run.index in indexes(status.get("failedIndexes")):
        kept = [_condition("Failed", "FailedIndex")]
    return {**obj, "spec": {**obj["spec"], "completions": 1, "parallelism": 1}, "status": {"conditions": kept}}


def pod_in(run: ClusterRun, obj: Mapping[str, Any]) -> Pod:
    """The pod ``obj`` of ``run``; the index of a point's pod is not that of a node."""
    found = pod_of(obj, run.container)
    return found if run.index is None else replace(found, index=0)


def indexes(text: str | None) -> frozenset[int]:
    """Of ``1,3-5,7``, as a Job's status lists them."""
    return frozenset(_numbers(text or ""))


def _numbers(text: str) -> Iterator[int]:
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _own(run: ClusterRun, obj: Mapping[str, Any], *kinds: str) -> dict[str, str]:
    """The annotations for this point, as a Job of its own would have them."""
    there = obj["metadata"].get("annotations") or {}
    return {kind: there[own] for kind in kinds if (own := of_point(kind, run.index)) in there}


def _annotated(obj: Mapping[str, Any], annotations: Mapping[str, str]) -> Mapping[str, Any]:
    metadata = obj["metadata"]
    return {**obj, "metadata": {**metadata, "annotations": {**metadata["annotations"], **annotations}}}


def _is_of_the_indexes(condition: Mapping[str, Any]) -> bool:
    return condition["type"] in _OF_THE_INDEXES or condition.get("reason") in _OF_THE_INDEXES


def _condition(kind: str, reason: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": reason, "message": ""}
