"""How a run on a cluster is, from its Job or JobSet and its pods. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ....why import Condition, Pod
from ... import Status
from .pods import Ending, conditions_of, ending, first_ending, has_ended, has_started, is_running, newest

STOPPED: Final = "dpo-launcher/stopped"  # annotation: when a stop was asked for, UTC in ISO form
ABORTED: Final = "dpo-launcher/aborted"  # the same for a stop at once
RESUMED: Final = "dpo-launcher/resumed"  # when it was last started again
QUEUE: Final = "kueue.x-k8s.io/queue-name"  # label of what Kueue admits

_AT_ONCE: Final = timedelta(seconds=5)  # a pod that takes a failed one's place comes after ten
_CODE: Final = re.compile(r"failed with exit code (\d+)")
_SUCCESS: Final = ("Complete", "Completed")
ENDED: Final = (*_SUCCESS, "Failed")  # types of conditions


def state(obj: Mapping[str, Any], pods: Sequence[Pod], nodes: int) -> Status:
    """How the run of ``obj``, a Job or a JobSet, is; a Job that is `active` is not running, so its pods are counted.

    ``pods`` may be those that were seen before they were removed: how they ended is known from them alone.
    """
    conditions = [c for c in conditions_of(obj) if c.is_true]
    done = next((c for c in conditions if c.type in _SUCCESS), None)
    if done is not None:
        end = first_ending([pod for pod in pods if (e := ending(pod)) is not None and e.code == 0])
        return Status("done", 0, end.sentence if end else None)
    failed = next((c for c in conditions if c.type == "Failed"), None)
    # A pod that is stopped before its container was there counts as one that failed, and may be one too many for the Job.
    if failed is not None and not (stop_time(obj) is not None and failed.reason == "BackoffLimitExceeded"):
        return _failed(failed, first_ending(pods))
    if stop_time(obj) is not None or is_deleted(obj):
        return _stopped(obj, pods)
    if any(c.type == "FailureTarget" for c in conditions):
        return _failing(first_ending(pods))
    if obj.get("spec", {}).get("suspend"):
        return Status("starting", None, "it waits for Kueue to admit it" if queue_of(obj) else "its Job is suspended")
    return _alive(obj, newest(pods), nodes)


def restarts(obj: Mapping[str, Any], pods: Sequence[Pod] = ()) -> int:
    """How often pods of the run have failed and the gang was started again; of a Job of one node the number of restarts.

    A pod that somebody has deleted, or that was asked to stop, is none that failed for a Job: of ``pods`` those are counted that
    took another's place.
    """
    status = obj.get("status") or {}
    if "replicatedJobs" in obj.get("spec", {}):
        return int(status.get("restarts") or 0)
    failed = int(status.get("failed") or 0)
    is_over = any(c.type == "Failed" and c.is_true for c in conditions_of(obj))
    nodes = int(obj.get("spec", {}).get("completions") or 1)
    # One pod that fails takes its peers with it: a gang's failure is up to as many pods as it has nodes.
    gangs = -(-failed // nodes)
    replaced = [sum((pod.index or 0) == index for pod in pods) - 1 + is_late(obj, first) for index, first in _first(pods).items()]
    return max([0, gangs - 1 if is_over else gangs, *replaced])


def has_all(obj: Mapping[str, Any], pods: Sequence[Pod]) -> bool:
    """Whether ``pods`` are all that these nodes of the run ever had, as far as its object tells."""
    is_jobset = "replicatedJobs" in obj.get("spec", {})
    if RESUMED in (obj["metadata"].get("annotations") or {}) or (is_jobset and restarts(obj)):
        return False
    return not any(is_late(obj, created) for created in _first(pods).values())


def is_late(obj: Mapping[str, Any], created: str) -> bool:
    """Whether a pod takes another's place, of which nothing else may be left: a Job makes its first pods when it starts."""
    begun = (obj.get("status") or {}).get("startTime")
    if not begun or not created:
        return False
    return datetime.fromisoformat(created) - datetime.fromisoformat(begun) > _AT_ONCE


def _first(pods: Sequence[Pod]) -> dict[int, str]:
    """Node of the run -> when its oldest pod was created."""
    found: dict[int, str] = {}
    for pod in sorted(pods, key=lambda pod: pod.created):
        found.setdefault(pod.index or 0, pod.created)
    return found


def queue_of(obj: Mapping[str, Any]) -> str | None:
    """Kueue's LocalQueue that the run waits in, or was admitted by."""
    return (obj["metadata"].get("labels") or {}).get(QUEUE)


def stop_time(obj: Mapping[str, Any]) -> str | None:
    """When somebody asked the run to stop."""
    return (obj["metadata"].get("annotations") or {}).get(STOPPED)


def is_deleted(obj: Mapping[str, Any]) -> bool:
    return obj["metadata"].get("deletionTimestamp") is not None


def gone(pods: Sequence[Pod]) -> Status:
    """How a run is whose Job is there no more, from its pods as they were last seen."""
    end = first_ending(pods)
    if end is None:
        return Status("lost", 137, "its Job was deleted, and nothing is left that says how it ended")
    return Status(end.state, end.code, end.sentence)


def ended_at(obj: Mapping[str, Any]) -> str | None:
    """When the run was over, UTC in ISO form; None while it is not, or where that is not said."""
    status = obj.get("status") or {}
    over = [c for c in status.get("conditions") or [] if c.get("status") == "True" and c["type"] in ENDED]
    return status.get("completionTime") or (over[0].get("lastTransitionTime") if over else None) or stop_time(obj)


def _failed(condition: Condition, end: Ending | None) -> Status:
    if end is not None and end.code:
        return Status(end.state if end.state != "done" else "failed", end.code, end.sentence)
    code = _CODE.search(condition.message)
    if condition.reason == "DeadlineExceeded":
        return Status("failed", 1, "its Job ran longer than activeDeadlineSeconds allows")
    return Status("failed", int(code[1]) if code else 1, condition.message or condition.reason or None)


def _failing(end: Ending | None) -> Status:
    """A run that nobody starts again: its Job says that it has failed when the last of its pods has ended."""
    why = f"exit {end.code}" + (f", {end.sentence}" if end.sentence else "") if end is not None and end.code else ""
    return Status("stopping", None, f"it has failed{': ' + why if why else ''}; its other pods end")


def _stopped(obj: Mapping[str, Any], pods: Sequence[Pod]) -> Status:
    """A run that was asked to stop: over when no pod of it is alive."""
    alive = [pod for pod in pods if not has_ended(pod)]
    if alive or int((obj.get("status") or {}).get("active") or 0):
        # One that has no container yet goes without a word, but on no node not before somebody tidies up.
        writes = not alive or any(has_started(pod) for pod in alive)
        return Status("stopping", None, "it writes a checkpoint" if writes else "its pods are taken away")
    if ABORTED in (obj["metadata"].get("annotations") or {}):
        return Status("aborted", 130, "killed at once on request")
    # Those that were asked are taken away when they have ended; what is left may be of an earlier attempt.
    asked = stop_time(obj)
    end = first_ending([pod for pod in pods if asked is None or not _has_ended_before(pod, asked)])
    if end is not None and end.code:
        return Status(end.state, end.code, end.sentence)
    return Status("stopped", 143, "stopped on request")


def _has_ended_before(pod: Pod, time: str) -> bool:
    ended = pod.container.ended if pod.container is not None else ""
    return bool(ended) and datetime.fromisoformat(ended) < datetime.fromisoformat(time)


def _alive(obj: Mapping[str, Any], pods: Sequence[Pod], nodes: int) -> Status:
    run, done = sum(is_running(pod) for pod in pods), max(_succeeded(obj), sum(_is_done(pod) for pod in pods))
    if run and run + done >= nodes:  # the first node may upload when the others are done
        return Status("running")
    if done >= nodes:
        return Status("running", None, "its pods are done, its Job is not yet")
    end = first_ending(pods)
    if end is not None and end.code:
        return Status("starting", None, f"it begins again: exit {end.code}" + (f", {end.sentence}" if end.sentence else ""))
    again = restarts(obj)
    words = [f"{run} of {nodes} pods run"] if nodes > 1 else []
    words += [f"restart {again}"] if again else []
    return Status("starting", None, "; ".join(words) or None)


def _succeeded(obj: Mapping[str, Any]) -> int:
    """Pods that the Job knows to have succeeded, those included that it has yet to count."""
    status = obj.get("status") or {}
    uncounted = (status.get("uncountedTerminatedPods") or {}).get("succeeded") or []
    return int(status.get("succeeded") or 0) + len(uncounted)


def _is_done(pod: Pod) -> bool:
    end = ending(pod)
    return end is not None and end.code == 0
