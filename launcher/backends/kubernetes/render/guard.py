"""What ``launch.kubernetes.pod`` may not change: rights of the pods, and what a run is started, found and recorded by. Pure.

Everything else is the user's. What only the strictest Pod Security Standards refuse (the node's network, IPC_LOCK for RDMA, other
kinds of volumes) is allowed, and ``unrestricted`` names it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ....errors import Mistake
from ....experiment.sections.kubernetes import reserved
from ....redact import SECRET
from ...spec.container import HOME
from .visits import Visit

TRAINER: Final = "trainer"
OWN_VOLUMES: Final = {  # of a run -> where, or below what, they are mounted
    "runs": "/dpo/runs",
    "cache": "/dpo/cache",
    "data": "/dpo/data",
    "config": "/dpo/config",
    "inputs": "/dpo/inputs",
    "ca": "/dpo/ca",
    "secrets": "/dpo/secrets",  # not below /run/secrets, where the cluster and its webhooks mount tokens
    "stops": "/dpo/stops",
    "home": HOME,
    "tmp": "/tmp",
    "shm": "/dev/shm",
}
ADDED: Final = ("IPC_LOCK", "NET_BIND_SERVICE")  # capabilities: memory that a network card reads, and low ports
_SCRATCH: Final = ("home", "tmp")  # may become larger, or lie elsewhere
_PROFILES: Final = ("RuntimeDefault", "Localhost")
_SELINUX: Final = ("container_t", "container_init_t", "container_kvm_t", "container_engine_t")
# Volumes that the restricted Pod Security Standard does not forbid.
_RESTRICTED: Final = (
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
)  # fmt: skip
_SYSTEM: Final = ("/bin", "/dev", "/etc", "/lib", "/opt/dpo-launcher", "/opt/venv", "/proc", "/sbin", "/sys", "/usr")


@dataclass(frozen=True)
class Rule:
    """Of the value at ``path`` in the pod, where * is any element; ``allows`` is asked, ``why`` and ``hint`` are told."""

    path: str
    why: str
    hint: str | None = None
    allows: Callable[[Any], bool] = lambda _: False

    def holds(self, at: Sequence[str]) -> bool:
        parts = self.path.split(".")
        return len(parts) == len(at) and all(part in ("*", one) for part, one in zip(parts, at, strict=True))


def _is(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(value == one and type(value) is type(one) for one in values)


def _set_by(setting: str) -> tuple[str, str]:
    return "has its own setting", f"set {setting}"


_TRAINER: Final = f"spec.containers.{TRAINER}"
_TOKEN: Final = "the pods need no token of the API"
_NETWORK: Final = "the nodes of a run find each other by it"
_ENTRY: Final = "the launcher starts training with it"
_RIGHTS: Final = "the pods' rights stay those of the restricted Pod Security Standard"
_END: Final = "the run's end is read from it"
RULES: Final = (
    Rule("spec.restartPolicy", "restarts are counted by the Job", "set launch.max_restarts", _is("Never")),
    Rule("spec.subdomain", _NETWORK),
    Rule("spec.hostname", _NETWORK),
    Rule("spec.hostnameOverride", _NETWORK),
    Rule("spec.setHostnameAsFQDN", _NETWORK, None, _is(False)),
    Rule("spec.hostPID", _RIGHTS, None, _is(False)),
    Rule("spec.hostIPC", _RIGHTS, "/dev/shm has launch.shm_size", _is(False)),
    Rule("spec.shareProcessNamespace", "the entry must be the first process: it hears the signals", None, _is(False)),
    Rule("spec.automountServiceAccountToken", _TOKEN, "workload identity mounts its own token", _is(False)),
    Rule("spec.terminationGracePeriodSeconds", "it follows from the time that a checkpoint takes"),
    Rule("spec.ephemeralContainers", "they are added to a running pod"),
    Rule("spec.os", _ENTRY),
    Rule("spec.activeDeadlineSeconds", *_set_by("launch.kubernetes.active_deadline")),
    Rule("spec.serviceAccountName", *_set_by("launch.kubernetes.service_account")),
    Rule("spec.serviceAccount", *_set_by("launch.kubernetes.service_account")),
    Rule("spec.runtimeClassName", *_set_by("launch.kubernetes.runtime_class")),
    Rule("spec.priorityClassName", *_set_by("launch.kubernetes.priority_class")),
    Rule("spec.volumes.*.hostPath", "folders of a node are not mounted", "use a claim, nfs, csi or ephemeral"),
    *(
        Rule(f"spec.{those}.*.securityContext.{path}", _RIGHTS, hint, allows)
        for those in ("containers", "initContainers")
        for path, hint, allows in (
            ("privileged", None, _is(False)),
            ("allowPrivilegeEscalation", None, _is(False)),
            ("capabilities.add", f"only {' and '.join(ADDED)} may be added", lambda names: set(names) <= set(ADDED)),
            ("capabilities.drop", "drop: [ALL] stays", lambda names: "ALL" in names),
            ("procMount", None, _is("Default")),
        )
    ),
    *(
        Rule(f"{place}.securityContext.{path}", _RIGHTS, hint, allows)
        for place in ("spec", "spec.containers.*", "spec.initContainers.*")
        for path, hint, allows in (
            ("runAsNonRoot", None, _is(True)),
            ("seccompProfile.type", f"one of {', '.join(_PROFILES)}", _is(*_PROFILES)),
            ("appArmorProfile.type", f"one of {', '.join(_PROFILES)}", _is(*_PROFILES)),
            ("seLinuxOptions.type", f"one of {', '.join(_SELINUX)}", _is(*_SELINUX)),
            ("seLinuxOptions.user", None, lambda _: False),
            ("seLinuxOptions.role", None, lambda _: False),
            ("windowsOptions", None, lambda _: False),
        )
    ),
    Rule("spec.securityContext.runAsUser", *_set_by("launch.kubernetes.run_as")),
    Rule(f"{_TRAINER}.securityContext.runAsUser", *_set_by("launch.kubernetes.run_as")),
    Rule("spec.initContainers.*.securityContext.runAsUser", _RIGHTS, "a uid other than 0", lambda uid: uid != 0),
    Rule(f"{_TRAINER}.securityContext.readOnlyRootFilesystem", _RIGHTS, "mount a volume where it writes", _is(True)),
    Rule(f"{_TRAINER}.image", *_set_by("launch.image")),
    Rule(f"{_TRAINER}.command", _ENTRY),
    Rule(f"{_TRAINER}.args", _ENTRY),
    Rule(f"{_TRAINER}.workingDir", _ENTRY),
    Rule(f"{_TRAINER}.restartPolicy", "restarts are counted by the Job", "set launch.max_restarts"),
    Rule(f"{_TRAINER}.restartPolicyRules", "restarts are counted by the Job", "set launch.max_restarts"),
    Rule(f"{_TRAINER}.terminationMessagePath", _END),
    Rule(f"{_TRAINER}.terminationMessagePolicy", _END),
    *(
        Rule(f"{_TRAINER}.resources.{part}.{name}", *_set_by(f"launch.{setting}"))
        for part in ("requests", "limits")
        for name, setting in (("cpu", "cpus"), ("memory", "memory"))
    ),
    Rule("spec.containers.*.ports.*.hostPort", _RIGHTS),
    Rule("spec.initContainers.*.ports.*.hostPort", _RIGHTS),
)  # fmt: skip
# What null may remove of the pod's own fields.
_REMOVABLE: Final = tuple(
    Rule(path, "")
    for path in (
        "metadata.annotations.*",
        "spec.nodeSelector", "spec.nodeSelector.*", "spec.tolerations", "spec.topologySpreadConstraints", "spec.imagePullSecrets",
        "spec.securityContext.runAsGroup", "spec.securityContext.fsGroup", "spec.securityContext.fsGroupChangePolicy",
        *(f"spec.volumes.{name}.emptyDir{field}" for name in _SCRATCH for field in ("", ".sizeLimit")),
        f"{_TRAINER}.imagePullPolicy", f"{_TRAINER}.resources.limits.cpu",
        *(f"{_TRAINER}.resources.{part}.ephemeral-storage" for part in ("requests", "limits")),
    )
)  # fmt: skip


def refused(
    seen: Sequence[Visit], template: Mapping[str, Any], patch: Mapping[str, Any], gpu: str, setting: str
) -> Iterator[Mistake]:
    """Every mistake in what the patch visits; ``gpu``: the resource of GPUs, ``setting``: the name of the patch."""
    there = (one["mountPath"] for one in template["spec"]["containers"][0]["volumeMounts"])
    mounts = [*there, *OWN_VOLUMES.values()]
    with_claims = bool(_trainer(patch).get("resources", {}).get("claims"))
    for visit in seen:
        where = ".".join(map(str, (setting, *visit.keys)))
        for why, hint in _against(visit, mounts, gpu, with_claims=with_claims):
            yield Mistake(where, f"is refused: {why}", hint=hint)


def _against(visit: Visit, mounts: Sequence[str], gpu: str, *, with_claims: bool) -> Iterator[tuple[str, str | None]]:
    """(why, hint) for each reason."""
    at, value = visit.at, visit.value
    if at == ("spec", "containers", TRAINER, "resources", "limits", gpu):
        if not (value is None and with_claims):
            yield "the number of GPUs has its own setting", "set launch.gpus; null is for GPUs of resources.claims"
        return
    if value is None:
        if visit.before is not None and not any(rule.holds(at) for rule in _REMOVABLE):
            yield "a run needs it", None
        return
    yield from ((rule.why, rule.hint) for rule in RULES if rule.holds(at) and not rule.allows(value))
    yield from _named(at, value, mounts)


def _named(at: Sequence[str], value: Any, mounts: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """What is refused for its name."""
    match at:
        case ("metadata", "labels" | "annotations", key):
            if (why := reserved(key)) is not None:
                yield f"it {why}", None
        case ("metadata", name) if name not in ("labels", "annotations"):
            yield "the cluster names the pods", None
        case ("spec", "containers", name) if name != TRAINER:
            hint = "a sidecar is one of initContainers with restartPolicy: Always"
            yield f"the run's only container is {TRAINER}: another one would keep the pod running after training", hint
        case ("spec", "initContainers", name) if name == TRAINER:
            yield f"the container that trains is named {TRAINER}", "choose another name"
        case ("spec", "volumes", name) if name in OWN_VOLUMES and name not in _SCRATCH:
            yield f"the volume {name} is the run's own", _VOLUME_SETTINGS.get(name)
        case ("spec", "containers", _, "env", name):
            yield from _variable(name, value)
        case ("spec", "containers", _, "volumeMounts", path):
            if (why := conflict(path, mounts)) is not None:
                yield why, "choose another mountPath, such as /mnt/…"


_VOLUME_SETTINGS: Final = {
    "shm": "set launch.shm_size", **dict.fromkeys(("runs", "cache", "data"), "set launch.kubernetes.volumes"),
}  # fmt: skip


def _variable(name: str, value: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    if name.startswith("DPO_") or name in ("MASTER_ADDR", "MASTER_PORT", "JOB_COMPLETION_INDEX"):
        yield "the launcher sets this variable for its entry", None
    elif SECRET.search(name) and value.get("value"):
        yield "it looks like a secret, which does not belong in a manifest", "name it in launch.secrets, or use valueFrom"


def conflict(path: str, mounts: Sequence[str]) -> str | None:
    """Why nothing can be mounted at ``path`` beside ``mounts``, or None."""
    normal = posixpath.normpath(path)
    if not path.startswith("/"):
        return f"{path} is not an absolute path"
    for own in (*mounts, *_SYSTEM):
        if normal == own or own.startswith(f"{normal.rstrip('/')}/"):
            return f"{own} is the {'image' if own in _SYSTEM else 'run'}'s own"
        if normal.startswith(f"{own}/") and own != "/tmp":
            return f"{normal} is below {own}, which is the {'image' if own in _SYSTEM else 'run'}'s own"
    return None


def _trainer(patch: Mapping[str, Any]) -> Mapping[str, Any]:
    containers: Sequence[Mapping[str, Any]] = (patch.get("spec") or {}).get("containers") or ()
    return next((one for one in containers if one.get("name") == TRAINER), {})


def unrestricted(pod: Mapping[str, Any]) -> Iterator[str]:
    """What of a pod's spec a namespace refuses that enforces the restricted Pod Security Standard."""
    if pod.get("hostNetwork"):
        yield "hostNetwork"
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        added = (container["securityContext"].get("capabilities") or {}).get("add") or ()
        yield from (f"the capability {name}" for name in added if name != "NET_BIND_SERVICE")
    for volume in pod.get("volumes", ()):
        yield from (f"volume {volume['name']} ({kind})" for kind in volume if kind not in ("name", *_RESTRICTED))
