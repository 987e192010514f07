"""The state of a run on a cluster, from its object and its pods. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ....runs.known import duration
from ....why import Condition, Pod
from ....why.evidence import UNTOUCHED
from ... import Status
from ..render.kinds import JOB, kind_of
from ..render.together import PARALLEL
from .pods import Ending, conditions_of, ending, first_ending, has_ended, has_started, is_running, newest
from .run import APART

STOPPED: Final = "dpo-launcher/stopped"  # annotation: when a stop was requested, UTC in ISO form
ABORTED: Final = "dpo-launcher/aborted"  # the same for a kill
ALONE: Final = "dpo-launcher/stopped-alone"  # on a point's part of its sweep's Job: only this point was stopped
ENDED_APART: Final = "dpo-launcher/own-job-ended"  # for a point with the annotation ``APART``: how that Job ended, as JSON
RESUMED: Final = "dpo-launcher/resumed"  # when it was last started again
QUEUE: Final = "kueue.x-k8s.io/queue-name"  # label of what Kueue admits

_AT_ONCE: Final = timedelta(seconds=5)  # a pod that replaces a failed one is created after ten
_CODE: Final = re.compile(r"failed with exit code (\d+)")
_SUCCESS: Final = ("Complete", "Completed")
ENDED: Final = (*_SUCCESS, "Failed")  # types of conditions


def state(obj: Mapping[str, Any], pods: Sequence[Pod], nodes: int) -> Status:
    """The state of the run of ``obj``, a Job, JobSet or TrainJob. A Job that is `active` may not run yet: its pods are counted.

    ``pods`` may include deleted pods that were seen before: only they show how they ended.
    """
    if (apart := ended_apart(obj)) is not None:
        return apart
    conditions = [c for c in conditions_of(obj) if c.is_true]
    done = next((c for c in conditions if c.type in _SUCCESS), None)
    if done is not None:
        end = first_ending([pod for pod in pods if (e := ending(pod)) is not None and e.code == 0])
        return Status("done", 0, end.sentence if end else None)
    failed = next((c for c in conditions if c.type == "Failed"), None)
    # A pod stopped before its container was created counts as failed, and may exceed the Job's limit.
    if failed is not None and not (stop_time(obj) is not None and failed.reason == "BackoffLimitExceeded"):
        return _failed(failed, first_ending(pods))
    if stop_time(obj) is not None or is_deleted(obj):
        return _stopped(obj, pods)
    if any(c.type == "FailureTarget" for c in conditions):
        return _failing(first_ending(pods))
    if obj.get("spec", {}).get("suspend"):
        return Status("starting", None, "waits for Kueue to admit it" if queue_of(obj) else "its Job is suspended")
    parallel = parallel_of(obj)
    if parallel is not None and not pods:
        return Status("starting", None, f"waits for its turn: {parallel} of its sweep's points run at the same time")
    if not pods and is_untouched(obj) and (age(obj) or 0) > UNTOUCHED:
        return Status("starting", None, "nothing in the cluster acts on it; see: launcher why")
    return _alive(obj, newest(pods), nodes)


def restarts(obj: Mapping[str, Any], pods: Sequence[Pod] = ()) -> int:
    """How often the run's pods were started again after a failure.

    A Job does not count pods that were deleted or asked to stop as failed: ``pods`` that replaced another one are counted.
    """
    status = obj.get("status") or {}
    if kind_of(obj) is not JOB:
        return int(status.get("restarts") or 0)
    failed = int(status.get("failed") or 0)
    is_over = any(c.type == "Failed" and c.is_true for c in conditions_of(obj))
    nodes = int(obj.get("spec", {}).get("completions") or 1)
    # A failed pod takes its peers with it: one failure of the run is up to as many failed pods as nodes.
    gangs = -(-failed // nodes)
    replaced = [sum((pod.index or 0) == index for pod in pods) - 1 + is_late(obj, first) for index, first in _first(pods).items()]
    return max([0, gangs - 1 if is_over else gangs, *replaced])


def has_all(obj: Mapping[str, Any], pods: Sequence[Pod]) -> bool:
    """Whether ``pods`` are all pods that these nodes of the run ever had, as far as its object shows."""
    if RESUMED in (obj["metadata"].get("annotations") or {}) or (kind_of(obj) is not JOB and restarts(obj)):
        return False
    return not any(is_late(obj, created) for created in _first(pods).values())


def is_late(obj: Mapping[str, Any], created: str) -> bool:
    """Whether a pod replaced another one, which may be deleted: a Job creates its first pods when it starts."""
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
    """The Kueue LocalQueue in which the run waits, or which admitted it."""
    return (obj["metadata"].get("labels") or {}).get(QUEUE)


def parallel_of(obj: Mapping[str, Any]) -> int | None:
    """Of a Job with all points of a sweep: how many run at the same time."""
    found = (obj["metadata"].get("annotations") or {}).get(PARALLEL)
    return None if found is None else int(found)


def is_untouched(obj: Mapping[str, Any]) -> bool:
    """Whether no controller has written a status: those of Jobs and JobSets do within a second."""
    return not obj.get("status")


def age(obj: Mapping[str, Any], now: datetime | None = None) -> float | None:
    """Seconds since the object was created, or its run started again; None if it does not show that. ``now``: by the clock of the
    server, else by this machine's."""
    annotations = obj["metadata"].get("annotations") or {}
    begun = max(
        filter(None, (obj["metadata"].get("creationTimestamp"), annotations.get(RESUMED))),
        key=datetime.fromisoformat,
        default=None,
    )
    return None if begun is None else ((now or datetime.now(UTC)) - datetime.fromisoformat(begun)).total_seconds()


def is_overdue(obj: Mapping[str, Any], status: Status) -> bool:
    """Whether a run has waited for Kueue for longer than Kueue needs to say why."""
    is_held = status.state == "starting" and queue_of(obj) is not None and bool(obj.get("spec", {}).get("suspend"))
    return is_held and (age(obj) or 0) > UNTOUCHED


def reported(obj: Mapping[str, Any]) -> str | None:
    """What a TrainJob's ``status.trainerStatus`` tells of the training; None where Trainer does not collect it."""
    told = (obj.get("status") or {}).get("trainerStatus") or {}
    words = [f"{told['progressPercentage']} %"] if "progressPercentage" in told else []
    if "estimatedRemainingSeconds" in told:
        words.append(f"{duration(int(told['estimatedRemainingSeconds']))} left")
    words += [f"{one['name']} {one['value']}" for one in told.get("metrics") or []]
    return f"{', '.join(words)} (at {told['lastUpdatedTime']})" if words else None


def stop_time(obj: Mapping[str, Any]) -> str | None:
    """When the run was asked to stop."""
    return (obj["metadata"].get("annotations") or {}).get(STOPPED)


def is_stopped_alone(obj: Mapping[str, Any]) -> bool:
    """Whether ``obj`` is the part of a point that a person has stopped, and not its whole sweep."""
    return ALONE in (obj["metadata"].get("annotations") or {})


def ended_apart(obj: Mapping[str, Any]) -> Status | None:
    """Of the part of a point that a Job of its own continued, which is gone: how it ended there; else None."""
    annotations = obj["metadata"].get("annotations") or {}
    if APART not in annotations:
        return None
    noted = json.loads(annotations.get(ENDED_APART, "{}"))
    if not noted:
        return Status("lost", 137, "its own Job was deleted; how it ended is unknown")
    return Status(noted["state"], noted["exit_code"], noted["sentence"])


def is_deleted(obj: Mapping[str, Any]) -> bool:
    return obj["metadata"].get("deletionTimestamp") is not None


def gone(pods: Sequence[Pod]) -> Status:
    """The state of a run whose Job is deleted, from its pods as last seen."""
    end = first_ending(pods)
    if end is None:
        return Status("lost", 137, "its Job was deleted; how it ended is unknown")
    return Status(end.state, end.code, end.sentence)


def outlived(pods: Sequence[Pod]) -> Status | None:
    """The state of a run whose Job is deleted while some of its pods still end, or run on without it; None if none is left."""
    alive = [pod for pod in pods if not has_ended(pod)]
    if alive and all(pod.is_orphan for pod in alive):
        return Status("running", None, "its Job was deleted without its pods; they run on, and nothing restarts them")
    return Status("stopping", None, "its Job was deleted; its pods are ending") if alive else None


def ended_at(obj: Mapping[str, Any]) -> str | None:
    """When the run ended, UTC in ISO form; None if it has not, or if that is unknown."""
    annotations, status = obj["metadata"].get("annotations") or {}, obj.get("status") or {}
    if APART in annotations:
        ended: str | None = json.loads(annotations.get(ENDED_APART, "{}")).get("ended")
        return ended
    over = [c for c in status.get("conditions") or [] if c.get("status") == "True" and c["type"] in ENDED]
    return status.get("completionTime") or (over[0].get("lastTransitionTime") if over else None) or stop_time(obj)


def _failed(condition: Condition, end: Ending | None) -> Status:
    if end is not None and end.code:
        return Status(end.state if end.state != "done" else "failed", end.code, end.sentence)
    code = _CODE.search(condition.message)
    if condition.reason == "DeadlineExceeded":
        return Status("failed", 1, "its Job exceeded launch.kubernetes.active_deadline")
    return Status("failed", int(code[1]) if code else 1, condition.message or condition.reason or None)


def _failing(end: Ending | None) -> Status:
    """A failed run that is not restarted: its Job is marked as failed once its last pod has ended."""
    why = f"exit {end.code}" + (f", {end.sentence}" if end.sentence else "") if end is not None and end.code else ""
    return Status("stopping", None, f"failed{': ' + why if why else ''}; its other pods are ending")


def _stopped(obj: Mapping[str, Any], pods: Sequence[Pod]) -> Status:
    """A run that was asked to stop: over when none of its pods is alive."""
    # A pod of a point that was stopped alone ends as soon as it starts: it trains nothing, and need not be waited for.
    alive = [pod for pod in pods if not has_ended(pod) and (has_started(pod) or not is_stopped_alone(obj))]
    if alive or int((obj.get("status") or {}).get("active") or 0):
        # A pod without a container ends silently; one without a node, only when it is deleted.
        writes = any(has_started(pod) for pod in alive or pods)
        return Status("stopping", None, "writes a checkpoint" if writes else "its pods are being deleted")
    if ABORTED in (obj["metadata"].get("annotations") or {}):
        return Status("aborted", 130, "killed on request")
    # Pods that were asked to stop are deleted after their end; what is left may be of an earlier attempt.
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
    if run and run + done >= nodes:  # the first node may upload after the others are done
        return Status("running")
    if done >= nodes:
        return Status("running", None, "its pods are done; its Job is not marked as complete yet")
    end = first_ending(pods)
    if end is not None and end.code:
        return Status("starting", None, f"restarting after exit {end.code}" + (f", {end.sentence}" if end.sentence else ""))
    again = restarts(obj)
    words = [f"{run} of {nodes} pods run"] if nodes > 1 else []
    words += [f"restart {again}"] if again else []
    return Status("starting", None, "; ".join(words) or None)


def _succeeded(obj: Mapping[str, Any]) -> int:
    """The Job's succeeded pods, including those it has not counted yet."""
    status = obj.get("status") or {}
    uncounted = (status.get("uncountedTerminatedPods") or {}).get("succeeded") or []
    return int(status.get("succeeded") or 0) + len(uncounted)


def _is_done(pod: Pod) -> bool:
    end = ending(pod)
    return end is not None and end.code == 0
