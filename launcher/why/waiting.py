"""Why a run, or one of its nodes, has not started: quota, admission, Kueue, the scheduler, images, secrets, volumes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .evidence import UNTOUCHED, Condition, Evidence, Explanation, Pod
from .image import WAITING, not_pulled
from .scheduling import unschedulable

_TAKE: Final = re.compile(r'(?:Error creating: )?(?:pods|jobs\.batch|services|configmaps) "[^"]*" is forbidden: (.*)', re.DOTALL)


_LESS: Final = "wait until other runs end, or request less (--gpus, --nodes, launch.memory, launch.cpus)"
_OTHERS: Final = "wait until other runs end; list them with: launcher ps --cluster"


def waiting(seen: Evidence) -> Explanation | None:
    """What keeps a run, or one of its nodes, from running; None if nothing does."""
    if (queued := _in_queue(seen)) is not None:
        return queued
    for pod in seen.newest:
        if pod.phase == "Pending" and (why := _pending(seen, pod)) is not None:
            return why
    if len(seen.newest) < seen.nodes and (refused := seen.events_of("FailedCreate", "JobCreationFailed")):
        return refusal(seen, refused[0].message)
    if seen.is_suspended:
        return Explanation("suspended", f"{seen.run} is suspended: it has no pods", f"resume it with: launcher resume {seen.run}")
    return None


def refusal(seen: Evidence, message: str) -> Explanation:
    """Why the cluster refuses to create a pod, from the event FailedCreate or the API's answer."""
    words = found[1] if (found := _TAKE.search(message)) else message.removeprefix("Error creating: ")
    words = " ".join(words.split())
    for pattern, explain in _REFUSALS:
        if (match := re.search(pattern, words)) is not None:
            return explain(seen, match)
    return Explanation("admission", f"the cluster refuses {seen.whose_pods}: {words}", "ask the cluster's administrator")


def _quota(seen: Evidence, found: re.Match[str]) -> Explanation:
    name, asked, used, allowed = found.groups()
    sentence = f"quota {name} is exceeded: {asked} requested, {used} used, {allowed} allowed"
    return Explanation("quota", sentence, _OTHERS if seen.is_helper else _LESS)


def _quota_wants(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"quota {found[1]} only accepts pods that set {found[2]}"
    return Explanation("quota", sentence, "set launch.cpus and launch.memory")


def _pod_security(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"the namespace's Pod Security ({found[1]}) refuses {seen.whose_pods}: {found[2]}"
    own = "the pods pass `restricted` without launch.kubernetes.pod and volumes, and without containers that a webhook adds"
    return Explanation("pod-security", sentence, f"check these: {own}; or ask for an exception")


def _constraints(seen: Evidence, found: re.Match[str]) -> Explanation:
    """OpenShift lists what each of its constraints refuses, also those that nobody here may use."""
    said = [one for one in re.split(r", (?=provider )", found[1].strip("[]")) if "not usable by user" not in one]
    sentence = f"the security context constraints of OpenShift refuse {seen.whose_pods}: {', '.join(said) or found[1]}"
    given = "let the namespace give the user: set launch.kubernetes.run_as to namespace"
    return Explanation("pod-security", sentence, f"{given}; and check launch.kubernetes.pod and volumes")


def _webhook(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"admission webhook {found[1]} refuses {seen.whose_pods}: {found[2].strip()}"
    return Explanation("admission", sentence, "do what the message asks, or ask the cluster's administrator")


def _policy(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"policy {found[1]} refuses {seen.whose_pods}: {found[2].strip()}"
    return Explanation("admission", sentence, "do what the message asks, or ask the cluster's administrator")


def _webhook_gone(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"the cluster cannot create pods: admission webhook {found[1]} does not answer: {found[2].strip()}"
    return Explanation("admission", sentence, "wait: it is retried automatically; or tell the cluster's administrator")


def _account(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"service account {found[1]} not found in the namespace"
    return Explanation("service-account", sentence, "correct or remove launch.kubernetes.service_account")


def _runtime_class(seen: Evidence, found: re.Match[str]) -> Explanation:
    listed = "correct or remove launch.kubernetes.runtime_class; list them with: kubectl get runtimeclass"
    return Explanation("runtime-class", f"RuntimeClass {found[1]} not found in the cluster", listed)


def _priority_class(seen: Evidence, found: re.Match[str]) -> Explanation:
    listed = "correct or remove launch.kubernetes.priority_class; list them with: kubectl get priorityclass"
    return Explanation("priority-class", f"PriorityClass {found[1]} not found in the cluster", listed)


def _limit_range(seen: Evidence, found: re.Match[str]) -> Explanation:
    return Explanation(
        "limit-range",
        f"the namespace's LimitRange refuses {seen.whose_pods}: {found[0]}",
        "set launch.cpus and launch.memory within the range",
    )


_REFUSALS: Final[tuple[tuple[str, Callable[[Evidence, re.Match[str]], Explanation]], ...]] = (
    (r"exceeded quota: ([^,]+), requested: (.*), used: (.*), limited: (.*)", _quota),
    (r"failed quota: ([^:]+): must specify (.*)", _quota_wants),
    (r'violates PodSecurity "([^"]+)": (.*)', _pod_security),
    (r"unable to validate against any security context constraint: (.*)", _constraints),
    (r'admission webhook "([^"]+)" denied the request: ?(.*)', _webhook),
    (r"ValidatingAdmissionPolicy '([^']+)' .*denied request: (.*)", _policy),
    (r'failed calling webhook "([^"]+)": (.*)', _webhook_gone),
    (r'serviceaccount "([^"]+)" not found', _account),
    (r'RuntimeClass "([^"]+)" not found', _runtime_class),
    (r"no PriorityClass with name (\S+) was found", _priority_class),
    (r"(?:minimum|maximum) \S+ (?:usage )?per (?:Container|Pod) is .*", _limit_range),
)


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
    """Kueue has said nothing about a run: it may be about to, or nobody works there."""
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
    if re.search(
        r"> maximum capacity|exceeds? .*(quota|capacity)|unavailable in ClusterQueue|ExceedsMaxQuota|insufficient quota for",
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
            return unschedulable(seen, name, scheduled.message)
    said = [event for event in seen.events if event.name == pod.name]
    if pod.host is None and (failed := [event for event in said if event.reason == "FailedScheduling"]):
        return unschedulable(seen, name, max(failed, key=lambda event: event.time).message)
    container = pod.container
    if container is not None and container.reason in WAITING:
        words = [
            container.reason,
            container.message,
            *(event.message for event in said if event.reason in ("Failed", "InspectFailed")),
        ]
        return not_pulled(seen, name, " ".join(words))
    if container is not None and container.reason in (
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "StartError",
    ):
        return not_created(seen, name, container.message)
    mounts = [event for event in said if event.reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume")]
    telling = [event for event in mounts if "timed out waiting for the condition" not in event.message] or mounts
    if telling:
        return _not_mounted(seen, name, max(telling, key=lambda event: event.time).message)
    if sandbox := [event for event in said if event.reason == "FailedCreatePodSandBox"]:
        return not_created(seen, name, sandbox[-1].message)
    return None


def not_created(seen: Evidence, pod: str, words: str) -> Explanation:
    """Why a container cannot be created or started on its node."""
    if (missing := _missing(seen, words)) is not None:
        return missing
    for pattern, cause, meaning, suggestion in _CREATION:
        if re.search(pattern, words):
            return Explanation(cause, f"{pod} cannot start: {meaning}", suggestion)
    return Explanation("container", f"{pod} cannot start: {' '.join(words.split())}", seen.look(pod))


_CREATION: Final = (
    (r"exec format error|no match for platform", "architecture",
     "the image is built for another CPU architecture than the node's",
     "set kubernetes.io/arch in launch.kubernetes.node_selector, or build it on that architecture with: launcher build"),
    (r"nvidia-container-cli|nvidia-container-runtime|libcuda|NVML|nvidia-smi|unresolvable CDI devices|no NVIDIA",
     "gpu-driver", "the node's NVIDIA driver or container toolkit does not work",
     "choose another node, or tell its administrator; on the node, run: nvidia-smi"),
    (r"runAsNonRoot", "not-our-image", "the image runs as root, which the pod does not allow",
     "set launch.image to an image made with: launcher build"),
    (r"executable file not found|exec: \"[^\"]+\"", "not-our-image", "the image lacks python or the trainer",
     "set launch.image to an image made with: launcher build"),
    (r"RuntimeClass|runtime handler|no runtime for", "runtime-class", "the node does not have the runtime class",
     "correct launch.kubernetes.runtime_class; list them with: kubectl get runtimeclass"),
    (r"failed to setup network|networkPlugin|CNI|cni plugin", "network", "the node cannot set up its network",
     "wait: it is retried automatically; if it still fails, tell the cluster's administrator"),
    (r"context deadline exceeded|DeadlineExceeded", "node-slow", "timeout on the node",
     "wait: it is retried automatically"),
)  # fmt: skip


def _missing(seen: Evidence, words: str) -> Explanation | None:
    """A missing Secret, ConfigMap or key."""
    if found := re.search(r'secret "([^"]+)" not found', words):
        return Explanation(
            "secret", f"secret {found[1]} not found in the namespace", "create it from .env with: launcher secrets push"
        )
    if found := re.search(r"references non-existent secret key: (\S+)", words):
        return Explanation(
            "secret", f"the run's secret has no key {found[1]}", f"add {found[1]} to .env, then run: launcher secrets push"
        )
    if found := re.search(r"couldn't find key (\S+) in Secret \S+?/(\S+)", words):
        return Explanation(
            "secret", f"secret {found[2]} has no key {found[1]}", f"add {found[1]} to .env, then run: launcher secrets push"
        )
    if found := re.search(r'configmap "([^"]+)" not found', words):
        return Explanation(
            "configmap", f"the run's ConfigMap {found[1]} was deleted", f"submit it again after: launcher stop {seen.run}"
        )
    if found := re.search(r"configmap references non-existent config key: (\S+)|couldn't find key (\S+) in ConfigMap", words):
        what = f"the run's ConfigMap has no key {found[1] or found[2]}"
        return Explanation("configmap", what, f"submit it again after: launcher stop {seen.run}")
    return None


def _not_mounted(seen: Evidence, pod: str, words: str) -> Explanation:
    if (missing := _missing(seen, words)) is not None:
        return missing
    words = " ".join(words.split())
    if "Multi-Attach" in words:
        what = f"{pod} waits for a volume that only one node may mount, and another node has it"
        return Explanation("volume", what, "wait until the other pod ends, or use a claim with ReadWriteMany")
    if found := re.search(r'persistentvolumeclaim "([^"]+)" not found', words):
        return Explanation(
            "volume",
            f"{pod} waits for a claim: {found[1]} not found",
            "print how to create it with: launcher doctor --cluster",
        )
    if re.search(r"hostPath type check failed|does not exist", words):
        what = f"{pod} waits for a volume: its folder is missing on the node: {words}"
        return Explanation("volume", what, "create the folder on the node, writable for gid 10001 (see k8s/README.md)")
    return Explanation(
        "volume",
        f"{pod} waits for a volume: {words}",
        f"wait: it is retried automatically; see the claims with: {seen.kubectl} get pvc",
    )
