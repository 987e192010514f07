"""Why a run, or one of its nodes, has not started: quota, admission, Kueue, the scheduler, images, secrets, volumes."""

from __future__ import annotations

import re
from typing import Final

from .autoscaling import scaled
from .creation import not_created, not_mounted, of_init
from .devices import NO_CLAIM, no_devices
from .evidence import UNTOUCHED, Condition, Evidence, Explanation, Pod
from .image import NO_SECRET, WAITING, not_pulled
from .refusal import refusal
from .scheduling import unschedulable

_NOT_CREATED: Final = ("FailedCreate", "JobCreationFailed", "TrainJobResourcesCreationFailed")  # of a Job, a JobSet, a TrainJob


def waiting(seen: Evidence) -> Explanation | None:
    """What keeps a run, or one of its nodes, from running; None if nothing does."""
    if (queued := _in_queue(seen)) is not None:
        return queued
    for pod in seen.newest:
        if pod.phase == "Pending" and (why := _pending(seen, pod)) is not None:
            return why
    if len(seen.newest) < seen.nodes and (refused := seen.events_of(*_NOT_CREATED)):
        return refusal(seen, refused[0].message)
    if seen.is_suspended:
        return Explanation("suspended", f"{seen.run} is suspended: it has no pods", f"resume it with: launcher resume {seen.run}")
    return None


def _in_queue(seen: Evidence) -> Explanation | None:
    """Why Kueue has not admitted a run."""
    if seen.queue is None:
        return None
    at = {condition.type: condition for condition in seen.workload}
    if (finished := at.get("Finished")) is not None and finished.is_true:
        return None
    evicted, reserved, admitted = at.get("Evicted"), at.get("QuotaReserved"), at.get("Admitted")
    if admitted is not None and admitted.is_true and not (evicted is not None and evicted.is_true):
        return None
    if (inactive := _inactive(seen, reserved)) is not None:
        return inactive
    off = at.get("DeactivationTarget") or (evicted if evicted is not None and "Deactivated" in evicted.reason else None)
    if off is not None:
        what = f"Kueue has deactivated {seen.run}: {off.message}"
        return Explanation("kueue-deactivated", what, f"fix that, then submit it again after: launcher stop {seen.run}")
    if evicted is not None and evicted.is_true:
        what = f"Kueue has evicted {seen.run} ({evicted.reason}): {evicted.message}"
        return Explanation("kueue-evicted", what, "wait: it is queued again, and resumes from its last checkpoint")
    if reserved is not None and reserved.is_true:
        check = at.get("AdmissionCheck") or admitted
        said = check.message if check is not None and check.message else "an admission check is not finished"
        what = f"{seen.run} waits in queue {seen.queue} for an admission check: {said}"
        return Explanation("kueue-check", what, f"wait, or see the check with: {seen.kubectl} describe workloads")
    if reserved is not None:
        return _no_quota(seen, reserved)
    if not seen.workload:
        return _not_queued(seen)
    return Explanation(
        "kueue-waiting",
        f"{seen.run} waits in queue {seen.queue}",
        f"wait, or see details with: {seen.kubectl} describe workloads",
    )


def _not_queued(seen: Evidence) -> Explanation | None:
    """Kueue has not reacted to a run: it may still, or its controller is down."""
    if seen.has_started:
        return None  # nothing holds it back
    is_readable = not any(words.startswith("Kueue workloads") for words in seen.unseen)
    if is_readable and seen.age is not None and seen.age > UNTOUCHED:
        what = f"{seen.run} waits in queue {seen.queue}, but Kueue has said nothing about it for {seen.age / 60:.0f} min"
        doctor = "check that its controller runs with: launcher doctor --cluster"
        return Explanation(
            "no-controller",
            f"{what}: its controller probably does not run",
            f"submit it again without --queue after: launcher stop {seen.run}; or {doctor}",
        )
    return Explanation(
        "kueue-waiting",
        f"{seen.run} waits in queue {seen.queue}",
        "wait, or check that Kueue is installed with: launcher doctor --cluster",
    )


def _inactive(seen: Evidence, reserved: Condition | None) -> Explanation | None:
    said = reserved.message if reserved is not None and not reserved.is_true else ""
    if re.search(r"LocalQueue \S+ (doesn't exist|is terminating or missing)", said):
        return Explanation(
            "kueue-no-queue",
            f"queue {seen.queue} not found in the namespace",
            f"choose another --queue; list them with: {seen.kubectl} get localqueues",
        )
    active = next((condition for condition in seen.local_queue if condition.type == "Active"), None)
    closed = re.search(r"(?:Local|Cluster)Queue \S+ (?:is (?:inactive|stopped|terminating or missing)|doesn't exist)", said)
    if closed is None and (active is None or active.is_true):
        return None
    why = closed[0] if closed is not None else f"{active.reason}: {active.message}" if active is not None else ""
    sentence = f"queue {seen.queue} is inactive: {why}"
    return Explanation(
        "kueue-inactive",
        sentence,
        "choose another --queue, or ask Kueue's administrator; see: kubectl describe clusterqueue",
    )


def _no_quota(seen: Evidence, reserved: Condition) -> Explanation:
    said = re.sub(r"couldn't assign flavors to pod set \S+: ", "", reserved.message)
    sentence = f"{seen.run} waits in queue {seen.queue}: {said}"
    uncovered = re.search(r"resource (\S+) unavailable in ", said)
    if uncovered is not None:  # the queue knows no such resource: no smaller number of it fits
        return Explanation(
            "kueue-never",
            sentence,
            f"choose another --queue, or ask Kueue's administrator to cover {uncovered[1]} in the queue's ClusterQueue",
        )
    if re.search(r"namespace doesn't match ClusterQueue selector", said, re.IGNORECASE):
        other = "choose another --queue, or ask Kueue's administrator to let the queue's ClusterQueue take this namespace"
        return Explanation("kueue-never", sentence, other)
    if re.search(r"resources validation failed|LimitRange constraints", said):
        return Explanation("limit-range", sentence, "set launch.cpus and launch.memory within the namespace's LimitRange")
    if re.search(
        r"> maximum capacity|exceeds? .*(quota|capacity)|ExceedsMaxQuota|insufficient quota for",
        f"{reserved.reason} {said}",
    ):
        return Explanation(
            "kueue-never",
            sentence,
            "request less (--gpus, --nodes) or choose another --queue: this queue can never hold that much",
        )
    return Explanation("kueue-waiting", sentence, "wait until other runs end, or request less (--gpus, --nodes)")


def _pending(seen: Evidence, pod: Pod) -> Explanation | None:
    scheduled, name = pod.condition("PodScheduled"), seen.called(pod.name)
    if scheduled is not None and not scheduled.is_true:
        if scheduled.reason == "SchedulingGated":
            return Explanation(
                "gated",
                f"{name} is held back by a scheduling gate",
                "" if seen.is_helper else f"see its name with: {seen.kubectl} get pod {pod.name} -o yaml",
            )
        if scheduled.message:
            return scaled(seen, pod.name, unschedulable(seen, name, scheduled.message, pod.selector))
    said = [event for event in seen.events if event.name == pod.name]
    if pod.host is None and (denied := [event for event in said if event.reason == NO_CLAIM]):
        return no_devices(seen, name, denied[-1].message)
    if pod.host is None and (failed := [event for event in said if event.reason == "FailedScheduling"]):
        newest = max(failed, key=lambda event: event.time).message
        return scaled(seen, pod.name, unschedulable(seen, name, newest, pod.selector))
    container = pod.container
    if container is not None and container.reason in WAITING:
        words = [
            container.reason,
            container.message,
            *(event.message for event in said if event.reason in ("Failed", "InspectFailed", NO_SECRET)),
        ]
        return not_pulled(seen, name, " ".join(words))
    if container is not None and container.reason in (
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "StartError",
    ):
        return not_created(seen, name, container.message)
    if container is not None and container.init and container.exit_code is not None:
        return of_init(seen, pod, container, is_over=False)
    mounts = [event for event in said if event.reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume")]
    telling = [event for event in mounts if "timed out waiting for the condition" not in event.message] or mounts
    if telling:
        return not_mounted(seen, name, max(telling, key=lambda event: event.time).message)
    if sandbox := [event for event in said if event.reason == "FailedCreatePodSandBox"]:
        return not_created(seen, name, sandbox[-1].message)
    return None
