"""The differences between a run's container on this machine and its pods on a cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..experiment.variables import VARIABLES, Kind
from .docker.container import PIDS
from .docker.container import SECRETS as ENGINE_SECRETS
from .docker.spec import DockerSpec
from .kubernetes.render.placement import RUNS
from .kubernetes.render.pod import CONFIG, SECRETS
from .kubernetes.render.spec import KubernetesSpec
from .spec.container import HOME
from .spec.environment import GRACE
from .spec.sizes import quantity, size_in_bytes

NOTHING: Final = "-"
CALLER: Final = "your environment"
# In other rows already, or only where the entry finds its files.
_TOLD: Final = ("DPO_", "LOGNAME", "MASTER_", "NODE_RANK", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "TORCH_NCCL_ASYNC_ERROR_HANDLING")


@dataclass(frozen=True)
class Difference:
    """One setting that differs; ``here`` in a container on this machine, ``there`` on the cluster."""

    what: str
    here: str
    there: str

    def json(self) -> dict[str, str]:
        return asdict(self)


def differences(here: DockerSpec, there: KubernetesSpec) -> list[Difference]:
    """In this order: object, image, user, devices, files, environment, limits, end. What reaches both of the caller's environment
    is always told.
    """
    return [one for one in _all(here, there) if one.here != one.there or (one.what == CALLER and one.here != NOTHING)]


def _all(here: DockerSpec, there: KubernetesSpec) -> Iterator[Difference]:
    yield Difference("object", f"container {here.name}", _object(there))
    yield Difference("image", _image(here.image.reference, here.image.build is not None), _image_there(there))
    yield Difference("user", here.user, _user(there))
    yield Difference("GPUs", _gpus(here), str(there.gpus))
    yield Difference("nodes", "1, started by you on each" if here.is_on_host_network else "1", str(there.nodes))
    yield from _folders(here, there)
    yield Difference("secrets", _secrets_here(here), _secrets_there(there))
    env = {one["name"]: _value(one) for one in there.container["env"]}
    yield Difference(CALLER, _passed(here.env), _passed(env))
    yield from _environment(here.env, env)
    cpus = "no limit" if here.cpus is None else f"{here.cpus:g}"
    yield Difference("CPUs", cpus, _share(there, "cpu"))
    yield Difference("memory", _docker_size(here.memory), _share(there, "memory"))
    yield Difference("/dev/shm", _docker_size(here.shm_size), f"{_shm(there)}, of the memory")
    yield Difference("processes", f"at most {PIDS}", "as many as the node allows")
    yield Difference("time to stop", f"{GRACE + 10} s", f"{there.grace} s")
    yield Difference("restarts", "none: launcher resume", f"up to {there.max_restarts}, of all nodes together")
    for change in there.changes:
        yield Difference(f"pod: {change.path}", NOTHING, change.value + (f" ({change.origin})" if change.origin else ""))
    yield Difference("kept afterwards", "until the logs are in the run's folder", "7 days; the run's folder stays on its claim")


def _object(there: KubernetesSpec) -> str:
    pods = f"{there.nodes} pods" if there.nodes > 1 else "1 pod"
    where = "the context's namespace" if there.namespace is None else f"namespace {there.namespace}"
    return f"{there.kind} {there.job}, {pods}, in {where}"


def _image(reference: str, is_built: bool) -> str:
    return f"{reference}, built here if missing" if is_built else reference


def _image_there(there: KubernetesSpec) -> str:
    image = there.image
    return f"{image.reference}, which must be pushed: launcher submit --registry" if image.build is not None else image.reference


def _user(there: KubernetesSpec) -> str:
    security = there.pod["spec"]["securityContext"]
    if "runAsUser" not in security:
        return "assigned by the namespace"
    return f"{security['runAsUser']}:{security['runAsGroup']}; its group owns the volumes"


def _gpus(here: DockerSpec) -> str:
    return str(here.gpus) + (f": {', '.join(here.devices)}" if here.devices else "")


def _folders(here: DockerSpec, there: KubernetesSpec) -> Iterator[Difference]:
    """The run's folder, then the mounts by their paths in the container."""
    runs = f"the claim {there.claims['runs']}" if "runs" in there.claims else "the volume runs"
    yield Difference("the run's folder", str(here.run_dir.path), f"{there.folder} on {runs}")
    ours = {mount.target: f"{mount.source}{', read-only' if mount.read_only else ''}" for mount in here.mounts}
    sources = {one["name"]: _source(one) for one in there.pod["spec"]["volumes"]}
    theirs = {
        mount["mountPath"]: sources[mount["name"]] + (", read-only" if mount.get("readOnly") else "")
        for mount in there.container["volumeMounts"]
    }
    hidden = (CONFIG, SECRETS, ENGINE_SECRETS, HOME, "/tmp", "/dev/shm", RUNS)
    for staged in there.staged:
        yield Difference(staged.setting, str(staged.folder.path), f"staged once to {staged.target}")
    for target in sorted(ours.keys() | theirs.keys()):
        if any(target == one or target.startswith(f"{one}/") for one in hidden):
            continue
        yield Difference(f"mounted at {target}", ours.get(target, NOTHING), theirs.get(target, NOTHING))


def _source(volume: Mapping[str, Any]) -> str:
    if "persistentVolumeClaim" in volume:
        return f"claim {volume['persistentVolumeClaim']['claimName']}"
    if "configMap" in volume:
        return f"ConfigMap {volume['configMap']['name']}"
    if "secret" in volume:
        return f"Secret {volume['secret']['secretName']}"
    return "the node's own" if "emptyDir" in volume else next(kind for kind in volume if kind != "name")


def _value(variable: Mapping[str, Any]) -> str:
    """The value of a pod's variable, or where the cluster takes it from."""
    if "value" in variable:
        return str(variable["value"]).replace("$$", "$")
    return f"from {next(iter(variable.get('valueFrom') or {}), 'nothing')}"


def _secrets_here(here: DockerSpec) -> str:
    return f"{', '.join(here.secrets)} of your environment, as files in {ENGINE_SECRETS}" if here.secrets else NOTHING


def _secrets_there(there: KubernetesSpec) -> str:
    if not there.secret_keys:
        return NOTHING
    return f"{', '.join(there.secret_keys)} of the Secret {there.secret}, as files in {SECRETS}"


def _passed(env: Mapping[str, str]) -> str:
    """The names of the caller's variables that are in an environment as they are, or as a mounted file."""
    names = [f"{one.name}{' (mounted)' if one.kind is Kind.FILE else ''}" for one in VARIABLES if one.name in env]
    return ", ".join(names) or NOTHING


def _environment(here: Mapping[str, str], there: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted(here.keys() | there.keys()):
        if not name.startswith(_TOLD):
            yield Difference(name, here.get(name, NOTHING), there.get(name, NOTHING))


def _shm(there: KubernetesSpec) -> str:
    found = next(one for one in there.pod["spec"]["volumes"] if one["name"] == "shm")
    return str(found["emptyDir"]["sizeLimit"])


def _share(there: KubernetesSpec, resource: str) -> str:
    """The pod's request and its limit."""
    resources = there.container["resources"]
    asked, most = resources["requests"][resource], resources["limits"].get(resource)
    if most is None:
        return f"{asked} requested, no limit"
    return f"{asked} requested, limit {most}"


def _docker_size(size: str | None) -> str:
    """Docker's ``64g`` as a Kubernetes quantity."""
    if size is None:
        return "no limit"
    return quantity(size_in_bytes(f"{size[:-1]}{size[-1].upper()}i" if size[-1].isalpha() else size))
