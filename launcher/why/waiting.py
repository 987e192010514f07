"""Why a run has not begun, or not all of it: quota, admission, Kueue, the scheduler, images, secrets, volumes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .evidence import Condition, Evidence, Explanation, Pod
from .image import WAITING, not_pulled
from .scheduling import unschedulable

_TAKE: Final = re.compile(r'(?:Error creating: )?(?:pods|jobs\.batch|services|configmaps) "[^"]*" is forbidden: (.*)', re.DOTALL)


def waiting(seen: Evidence) -> Explanation | None:
    """What keeps a run, or one of its nodes, from running; None where nothing does."""
    if (queued := _in_queue(seen)) is not None:
        return queued
    for pod in seen.newest:
        if pod.phase == "Pending" and (why := _pending(seen, pod)) is not None:
            return why
    if len(seen.newest) < seen.nodes and (refused := seen.events_of("FailedCreate", "JobCreationFailed")):
        return refusal(seen, refused[0].message)
    if seen.is_suspended:
        return Explanation("suspended", f"{seen.run} is suspended: it has no pods", f"`launcher resume {seen.run}` lets it go on")
    return None


def refusal(seen: Evidence, message: str) -> Explanation:
    """Why the cluster refuses to make a pod, from the event FailedCreate or the API's answer."""
    words = found[1] if (found := _TAKE.search(message)) else message.removeprefix("Error creating: ")
    words = " ".join(words.split())
    for pattern, explain in _REFUSALS:
        if (match := re.search(pattern, words)) is not None:
            return explain(seen, match)
    return Explanation(
        "admission", f"the cluster refuses the run's pods: {words}", "ask who administers the cluster; the words are its own"
    )


def _quota(seen: Evidence, found: re.Match[str]) -> Explanation:
    name, asked, used, allowed = found.groups()
    sentence = f"quota {name} of the namespace is used up: asked for {asked}; in use {used}; allowed {allowed}"
    return Explanation(
        "quota", sentence, "wait until others are done, or ask for less (--gpus, --nodes, launch.memory, launch.cpus)"
    )


def _quota_wants(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"quota {found[1]} of the namespace takes only pods that say {found[2]}"
    return Explanation("quota", sentence, "set launch.cpus and launch.memory")


def _pod_security(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"the namespace's Pod Security ({found[1]}) refuses the run's pods: {found[2]}"
    suggestion = (
        "the launcher's own pods pass `restricted`: does a webhook add a container to them? An exception is for the administrator"
    )
    return Explanation("pod-security", sentence, suggestion)


def _webhook(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"the admission webhook {found[1]} refuses the run's pods: {found[2].strip()}"
    return Explanation("admission", sentence, "do what its words ask for, or ask who administers it")


def _policy(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"the cluster's policy {found[1]} refuses the run's pods: {found[2].strip()}"
    return Explanation("admission", sentence, "do what its words ask for, or ask who administers it")


def _webhook_gone(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"the admission webhook {found[1]} does not answer, so the cluster makes no pods: {found[2].strip()}"
    return Explanation("admission", sentence, "wait, or tell who administers the cluster; it is tried again by itself")


def _account(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"there is no service account {found[1]} in the namespace"
    return Explanation("service-account", sentence, "correct launch.kubernetes.service_account, or leave it out")


def _limit_range(seen: Evidence, found: re.Match[str]) -> Explanation:
    return Explanation(
        "limit-range",
        f"the namespace's LimitRange refuses the run's pods: {found[0]}",
        "set launch.cpus and launch.memory within it",
    )


_REFUSALS: Final[tuple[tuple[str, Callable[[Evidence, re.Match[str]], Explanation]], ...]] = (
    (r"exceeded quota: ([^,]+), requested: (.*), used: (.*), limited: (.*)", _quota),
    (r"failed quota: ([^:]+): must specify (.*)", _quota_wants),
    (r'violates PodSecurity "([^"]+)": (.*)', _pod_security),
    (r'admission webhook "([^"]+)" denied the request: ?(.*)', _webhook),
    (r"ValidatingAdmissionPolicy '([^']+)' .*denied request: (.*)", _policy),
    (r'failed calling webhook "([^"]+)": (.*)', _webhook_gone),
    (r'serviceaccount "([^"]+)" not found', _account),
    (r"(?:minimum|maximum) \S+ (?:usage )?per (?:Container|Pod) is .*", _limit_range),
)


def _in_queue(seen: Evidence) -> Explanation | None:
    """What Kueue says of a run that is not admitted."""
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
    if (
        off := at.get("DeactivationTarget") or (evicted if evicted is not None and "Deactivated" in evicted.reason else None)
    ) is not None:
        what = f"Kueue has put {seen.run} aside for good: {off.message}"
        return Explanation("kueue-deactivated", what, f"mend that, then `launcher stop {seen.run}` and submit it again")
    if evicted is not None and evicted.is_true:
        what = f"Kueue has taken {seen.run} off its nodes ({evicted.reason}): {evicted.message}"
        return Explanation("kueue-evicted", what, "wait: it is in the queue again, and goes on from its last checkpoint")
    if reserved is not None and reserved.is_true:
        check = at.get("AdmissionCheck") or admitted
        said = check.message if check is not None and check.message else "an admission check is not done"
        return Explanation(
            "kueue-check",
            f"queue {seen.queue} has room for {seen.run}, but waits for a check: {said}",
            f"wait; `{seen.kubectl} describe workloads` names the check",
        )
    if reserved is not None:
        return _no_quota(seen, reserved)
    if not seen.workload:
        return Explanation(
            "kueue-waiting",
            f"{seen.run} waits in queue {seen.queue}",
            "wait; is Kueue installed and does it know Jobs? `launcher doctor --cluster` says so",
        )
    return Explanation(
        "kueue-waiting", f"{seen.run} waits in queue {seen.queue}", f"wait; `{seen.kubectl} describe workloads` says more"
    )


def _inactive(seen: Evidence, reserved: Condition | None) -> Explanation | None:
    said = reserved.message if reserved is not None and not reserved.is_true else ""
    if re.search(r"LocalQueue \S+ (doesn't exist|is terminating or missing)", said):
        return Explanation(
            "kueue-no-queue",
            f"there is no queue {seen.queue} in the namespace",
            f"`{seen.kubectl} get localqueues` lists those there are; --queue names one",
        )
    active = next((condition for condition in seen.local_queue if condition.type == "Active"), None)
    closed = re.search(r"(?:Local|Cluster)Queue \S+ (?:is (?:inactive|stopped|terminating or missing)|doesn't exist)", said)
    if closed is None and (active is None or active.is_true):
        return None
    why = closed[0] if closed is not None else f"{active.reason}: {active.message}" if active is not None else ""
    sentence = f"queue {seen.queue} takes nothing in: {why}"
    return Explanation(
        "kueue-inactive",
        sentence,
        "ask who administers Kueue (`kubectl describe clusterqueue`), or take another queue with --queue",
    )


def _no_quota(seen: Evidence, reserved: Condition) -> Explanation:
    said = re.sub(r"couldn't assign flavors to pod set \S+: ", "", reserved.message)
    sentence = f"{seen.run} waits in queue {seen.queue}: {said}"
    if re.search(
        r"> maximum capacity|exceeds? .*(quota|capacity)|unavailable in ClusterQueue|ExceedsMaxQuota|insufficient quota for",
        f"{reserved.reason} {said}",
    ):
        return Explanation(
            "kueue-never",
            sentence,
            "the queue can never hold that much: ask for less (--gpus, --nodes), or take another queue with --queue",
        )
    return Explanation("kueue-waiting", sentence, "wait until others are done, or ask for less (--gpus, --nodes)")


def _pending(seen: Evidence, pod: Pod) -> Explanation | None:
    scheduled = pod.condition("PodScheduled")
    if scheduled is not None and not scheduled.is_true:
        if scheduled.reason == "SchedulingGated":
            return Explanation(
                "gated",
                f"{pod.name} is held back by a scheduling gate of the cluster",
                f"`{seen.kubectl} get pod {pod.name} -o yaml` names it",
            )
        if scheduled.message:
            return unschedulable(seen, pod.name, scheduled.message)
    said = [event for event in seen.events if event.name == pod.name]
    if pod.host is None and (failed := [event for event in said if event.reason == "FailedScheduling"]):
        return unschedulable(seen, pod.name, max(failed, key=lambda event: event.time).message)
    container = pod.container
    if container is not None and container.reason in WAITING:
        words = [
            container.reason,
            container.message,
            *(event.message for event in said if event.reason in ("Failed", "InspectFailed")),
        ]
        return not_pulled(seen, pod.name, " ".join(words))
    if container is not None and container.reason in (
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "StartError",
    ):
        return not_created(seen, pod.name, container.message)
    mounts = [event for event in said if event.reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume")]
    telling = [event for event in mounts if "timed out waiting for the condition" not in event.message] or mounts
    if telling:
        return _not_mounted(seen, pod.name, max(telling, key=lambda event: event.time).message)
    if sandbox := [event for event in said if event.reason == "FailedCreatePodSandBox"]:
        return not_created(seen, pod.name, sandbox[-1].message)
    return None


def not_created(seen: Evidence, pod: str, words: str) -> Explanation:
    """Why a container could not be made or started on the node that was found for it."""
    if (missing := _missing(words)) is not None:
        return missing
    for pattern, cause, meaning, suggestion in _CREATION:
        if re.search(pattern, words):
            return Explanation(cause, f"{pod} does not start: {meaning}", suggestion)
    return Explanation(
        "container", f"{pod} does not start: {' '.join(words.split())}", f"`{seen.kubectl} describe pod {pod}` says more"
    )


_CREATION: Final = (
    (r"exec format error|no match for platform", "architecture", "the image is for another processor than the node's",
     "build it for the nodes' architecture, or choose nodes by launch.kubernetes.node_selector (kubernetes.io/arch)"),
    (r"nvidia-container-cli|nvidia-container-runtime|libcuda|NVML|nvidia-smi|unresolvable CDI devices|no NVIDIA",
     "gpu-driver", "the node's NVIDIA driver or container toolkit does not work",
     "choose another node, or tell its administrator: `nvidia-smi` on the node shows it"),
    (r"runAsNonRoot", "not-our-image", "the image runs as root, which its pod may not",
     "use an image that `launcher build` made under launch.image"),
    (r"executable file not found|exec: \"[^\"]+\"", "not-our-image", "the image lacks python or the trainer",
     "use an image that `launcher build` made under launch.image"),
    (r"RuntimeClass|runtime handler|no runtime for", "runtime-class", "the node does not know the runtime that was asked for",
     "`kubectl get runtimeclass` lists those there are"),
    (r"failed to setup network|networkPlugin|CNI|cni plugin", "network", "the node cannot give it a network",
     "it is tried again; if it stays so, tell the cluster's administrator"),
    (r"context deadline exceeded|DeadlineExceeded", "node-slow", "the node takes too long to make it",
     "wait: it is tried again by itself"),
)  # fmt: skip


def _missing(words: str) -> Explanation | None:
    """A Secret, ConfigMap or key that is named and not there."""
    if found := re.search(r'secret "([^"]+)" not found', words):
        return Explanation(
            "secret", f"there is no secret {found[1]} in the namespace", "`launcher secrets push` makes it from .env"
        )
    if found := re.search(r"references non-existent secret key: (\S+)", words):
        return Explanation(
            "secret", f"the run's secret has no key {found[1]}", f"put {found[1]} into .env, then `launcher secrets push`"
        )
    if found := re.search(r"couldn't find key (\S+) in Secret \S+?/(\S+)", words):
        return Explanation(
            "secret", f"secret {found[2]} has no key {found[1]}", f"put {found[1]} into .env, then `launcher secrets push`"
        )
    if found := re.search(r'configmap "([^"]+)" not found', words):
        return Explanation(
            "configmap", f"the run's ConfigMap {found[1]} is gone", "somebody has deleted it: stop the run and submit it again"
        )
    if found := re.search(r"configmap references non-existent config key: (\S+)|couldn't find key (\S+) in ConfigMap", words):
        what = f"the run's ConfigMap has no key {found[1] or found[2]}"
        return Explanation("configmap", what, "somebody has changed it: stop the run and submit it again")
    return None


def _not_mounted(seen: Evidence, pod: str, words: str) -> Explanation:
    if (missing := _missing(words)) is not None:
        return missing
    words = " ".join(words.split())
    if "Multi-Attach" in words:
        what = f"{pod} waits for a volume that another node holds, and that only one may hold"
        return Explanation("volume", what, "wait until the other pod is gone, or use a claim with ReadWriteMany")
    if found := re.search(r'persistentvolumeclaim "([^"]+)" not found', words):
        return Explanation(
            "volume",
            f"{pod} waits for the claim {found[1]}, which is not there",
            "`launcher doctor --cluster` says how to make it",
        )
    if re.search(r"hostPath type check failed|does not exist", words):
        what = f"{pod} waits for a volume whose folder is not on the node: {words}"
        return Explanation("volume", what, "make the folder on the node, writable for gid 10001 (k8s/README.md says how)")
    return Explanation(
        "volume",
        f"{pod} waits for a volume that is not mounted: {words}",
        f"`{seen.kubectl} get pvc` shows the claims; it is tried again by itself",
    )
