"""Why the cluster refuses to create the pods of a run: quota, Pod Security, admission, missing objects. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final

from ..published import with_manifests
from .evidence import Evidence, Explanation

_TAKE: Final = re.compile(r'(?:Error creating: )?[a-z0-9.-]+ "[^"]*" is forbidden: (.*)', re.DOTALL)
_OURS: Final = ("trainer", "node", "server", "adapter")  # containers that the launcher renders; Trainer names its own `node`
# Resource -> the setting of what a pod requests of it.
_SETTINGS: Final = {
    "cpu": "launch.cpus",
    "memory": "launch.memory",
    "ephemeral-storage": "requests and limits of ephemeral-storage in launch.kubernetes.pod",
}
_GPUS: Final = re.compile(r"[\w.-]+/(?:[\w.-]*gpu|mig-)")
_LESS: Final = "wait until other runs end, or request less (--gpus, --nodes, launch.memory, launch.cpus)"
_OTHERS: Final = "wait until other runs end; list them with: launcher ps --cluster"


def refusal(seen: Evidence, message: str) -> Explanation:
    """Why the cluster refuses to create a pod, from the event FailedCreate or the API's answer."""
    words = (
        found[1]
        if (found := _TAKE.search(message))
        else message.removeprefix("Error creating: ").removeprefix("TrainJob resources reconciliation failed: ")
    )
    words = " ".join(words.split())
    for pattern, explain, _ in REFUSALS:
        if (match := re.search(pattern, words)) is not None:
            return explain(seen, match)
    return Explanation("admission", f"the cluster refuses {seen.whose_pods}: {words}", "ask the cluster's administrator")


def _quota(seen: Evidence, found: re.Match[str]) -> Explanation:
    name, asked, used, allowed = found.groups()
    sentence = f"quota {name} is exceeded: {asked} requested, {used} used, {allowed} allowed"
    if asked.startswith("count/"):
        remove = "list those that are over with: launcher ps --cluster -a; remove one, its folder stays, with: launcher rm RUN"
        return Explanation("quota", sentence, f"wait until other runs end, or {remove}")
    return Explanation("quota", sentence, _OTHERS if seen.is_helper else _LESS)


def _quota_wants(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"quota {found[1]} only accepts pods that set {found[2]}"
    names = {name for those in re.findall(r"for: ([^;]+)", found[2]) for name in re.split(r",\s*", those.strip())}
    if foreign := sorted(names - {*_OURS}):
        ask = "if a webhook adds the container, ask the cluster's administrator to set them there"
        return Explanation("quota", sentence, f"set the resources of {', '.join(foreign)} in launch.kubernetes.pod; {ask}")
    return Explanation("quota", sentence, f"set {' and '.join(_settings(found[2]))}")


def _settings(words: str) -> list[str]:
    """What to set, by the resources that a message names."""
    told = [setting for resource, setting in _SETTINGS.items() if re.search(rf"\b{resource}\b", words)]
    return [*told, *(["--gpus"] if _GPUS.search(words) else [])] or ["launch.cpus", "launch.memory"]


def _pod_security(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"the namespace's Pod Security ({found[1]}) refuses {seen.whose_pods}: {found[2]}"
    own = "the pods pass `restricted` without launch.kubernetes.pod and volumes, and without containers that a webhook adds"
    return Explanation("pod-security", sentence, f"check these: {own}; or ask for an exception")


def _constraints(seen: Evidence, found: re.Match[str]) -> Explanation:
    """The reasons of OpenShift's refusal. Its message lists every constraint, including those that the account may not use."""
    said = [one for one in re.split(r", (?=provider )", found[1].strip("[]")) if "not usable by user" not in one]
    sentence = f"the security context constraints of OpenShift refuse {seen.whose_pods}: {', '.join(said) or found[1]}"
    given = "let the namespace give the user: set launch.kubernetes.run_as to namespace"
    return Explanation("pod-security", sentence, f"{given}; and check launch.kubernetes.pod and volumes")


def _admission(by: str, seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"{by} {found[1]} refuses {seen.whose_pods}: {found[2].strip()}"
    if "kueue.x-k8s.io/queue-name" in found[2]:  # a policy of many clusters with Kueue
        return Explanation("admission", sentence, f"submit it with --queue; list the queues with: {seen.kubectl} get localqueues")
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
    suggestion = f"set {' and '.join(_settings(found[0]))} within the range"
    if "limit to request ratio" in found[0]:
        suggestion += "; a request that is set equals its limit"
    if seen.is_helper:
        suggestion = "ask the cluster's administrator to allow it: the size of this pod has no setting"
    sentence = f"the namespace's LimitRange refuses {seen.whose_pods}: {found[0].rstrip(']')}"
    return Explanation("limit-range", sentence, suggestion)


def _below_request(seen: Evidence, found: re.Match[str]) -> Explanation:
    """A limit that is missing is filled in by a LimitRange, whatever the request is."""
    asked, resource, limit = found.groups()
    sentence = f"{seen.whose_pods} request {asked} of {resource}, and their limit is {limit}"
    given = f"set a limit of {resource} in launch.kubernetes.pod, or a lower request"
    return Explanation("limit-range", sentence, f"{given}: without one the namespace's LimitRange gives its own")


def _selector(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"the namespace chooses other nodes than {seen.whose_pods}: {found[0]}"
    own = "kubernetes.io/arch is the image's unless it is set there"
    see = f"see the namespace's with: kubectl get namespace {seen.namespace or 'NAME'} -o yaml"
    return Explanation("admission", sentence, f"correct launch.kubernetes.node_selector ({own}); {see}")


def _tolerations(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"the namespace does not allow all taints that {seen.whose_pods} tolerate: {found[0]}"
    return Explanation(
        "admission", sentence, "correct launch.kubernetes.tolerations, or ask the cluster's administrator to allow GPU taints"
    )


def _quota_scopes(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"the cluster has no quota in this namespace for {seen.whose_pods}: {found[1]}"
    return Explanation("quota", sentence, "choose another launch.kubernetes.priority_class, or ask the cluster's administrator")


def _terminating(seen: Evidence, found: re.Match[str]) -> Explanation:
    sentence = f"namespace {found[1]} is being deleted, and takes no new objects"
    return Explanation("namespace", sentence, "choose another --namespace, or create it again when it is gone")


def _runtime(seen: Evidence, found: re.Match[str]) -> Explanation:
    create = f"create it with: {with_manifests(f'{seen.kubectl} apply -f k8s/trainjob/runtime.yaml')}"
    return Explanation("runtime", f"{seen.run} has no pods: the runtime of its TrainJob was not found: {found[1]}", create)


# Pattern, explanation, and a message as the cluster gives it.
REFUSALS: Final[tuple[tuple[str, Callable[[Evidence, re.Match[str]], Explanation], str], ...]] = (
    (
        r"exceeded quota: ([^,]+), requested: (.*), used: (.*), limited: (.*)",
        _quota,
        'Error creating: pods "big-0-" is forbidden: exceeded quota: gpus, requested: '
        "requests.nvidia.com/gpu=8, used: requests.nvidia.com/gpu=8, limited: requests.nvidia.com/gpu=8",
    ),
    (
        r"failed quota: ([^:]+): must specify (.*)",
        _quota_wants,
        'Error creating: pods "big-0-" is forbidden: failed quota: compute: must specify limits.cpu for: '
        "trainer; limits.memory for: trainer",
    ),
    (
        r'violates PodSecurity "([^"]+)": (.*)',
        _pod_security,
        'Error creating: pods "big-0-" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
    ),
    (
        r"unable to validate against any security context constraint: (.*)",
        _constraints,
        'Error creating: pods "big-0-" is forbidden: unable to validate against any security context '
        "constraint: [provider restricted-v2: .containers[0].runAsUser: Invalid value: 10001: must be in the "
        "ranges: [1000680000, 1000689999]]",
    ),
    (
        r'admission webhook "([^"]+)" denied the request: ?(.*)',
        partial(_admission, "admission webhook"),
        'Error creating: admission webhook "validation.gatekeeper.sh" denied the request: '
        "[ns-must-have-team] missing label: team",
    ),
    (
        r"ValidatingAdmissionPolicy '([^']+)' .*denied request: (.*)",
        partial(_admission, "policy"),
        "Error creating: pods \"big-0-\" is forbidden: ValidatingAdmissionPolicy 'no-root' with binding "
        "'no-root-binding' denied request: failed expression: object.spec.hostNetwork == false",
    ),
    (
        r'failed calling webhook "([^"]+)": (.*)',
        _webhook_gone,
        'Error creating: Internal error occurred: failed calling webhook "validate.kyverno.svc-fail": failed '
        "to call webhook: connection refused",
    ),
    (
        r"TrainingRuntime specified in TrainJob is not found: (.*)",
        _runtime,
        "TrainJob resources reconciliation failed: TrainingRuntime specified in TrainJob is not found: "
        'TrainingRuntime.trainer.kubeflow.org "dpo-launcher" not found',
    ),
    (
        r'serviceaccount "([^"]+)" not found',
        _account,
        'Error creating: pods "big-0-" is forbidden: error looking up service account dpo/trainer: '
        'serviceaccount "trainer" not found',
    ),
    (
        r'RuntimeClass "([^"]+)" not found',
        _runtime_class,
        'Error creating: pods "big-0-" is forbidden: pod rejected: RuntimeClass "nvidia" not found',
    ),
    (
        r"no PriorityClass with name (\S+) was found",
        _priority_class,
        'Error creating: pods "big-0-" is forbidden: no PriorityClass with name training was found',
    ),
    (
        r"(?:(?:minimum|maximum) \S+ (?:usage )?|\S+ max limit to request ratio )per (?:Container|Pod) is .*",
        _limit_range,
        'Error creating: pods "big-0-" is forbidden: maximum memory usage per Container is 4Gi, but limit is 64Gi',
    ),
    (
        r'Invalid value: "([^"]+)": must be less than or equal to (\S+) limit of (\S+)',
        _below_request,
        'Error creating: Pod "big-0-" is invalid: spec.containers[0].resources.requests: Invalid value: "11Gi": must be less '
        "than or equal to ephemeral-storage limit of 10Gi",
    ),
    (
        r"pod node label selector conflicts with its namespace node label selector",
        _selector,
        'Error creating: pods "big-0-" is forbidden: pod node label selector conflicts with its namespace node label selector',
    ),
    (
        r"pod tolerations .*conflict with its namespace whitelist",
        _tolerations,
        'Error creating: pods "big-0-" is forbidden: pod tolerations (possibly merged with namespace default tolerations) '
        "conflict with its namespace whitelist",
    ),
    (
        r"insufficient quota to match these scopes: (.*)",
        _quota_scopes,
        'Error creating: pods "big-0-" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [high]}]',
    ),
    (
        r"unable to create new content in namespace (\S+) because it is being terminated",
        _terminating,
        'Error creating: pods "big-0-" is forbidden: unable to create new content in namespace dpo because it is being '
        "terminated",
    ),
)
