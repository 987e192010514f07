"""The pod of a run: the resources, volumes and permissions of each node. Pure.

It passes the ``restricted`` Pod Security Standard: it is not root, gains no privileges, and only writes to volumes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ....experiment.schema import Kubernetes
from ....job.image import Image
from ....job.job import Job
from ...container import HOME, SHM
from ...sizes import GIB, quantity, size_in_bytes
from .placement import CACHE, DATA, RUNS, Placement

CONTAINER: Final = "trainer"
CONFIG: Final = "/dpo/config"
SECRETS: Final = "/dpo/secrets"  # not below /run/secrets, where the cluster and its webhooks mount tokens
TERMINATION_LOG: Final = "/dev/termination-log"
USER: Final = 10001  # uid, gid and fsGroup: the image's own user
USER_NAME: Final = "dpo"
POD_SECURITY: Final = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
# Defaults: (request, limit) per GPU, or per rank on a CPU. A pod without requests is scheduled anywhere; one without limits is
# refused, or gets those of a LimitRange. The requests fit a small model, and therefore a workstation or a test cluster; the
# limits allow a larger one.
_CPUS: Final = {"gpu": (2.0, 4.0), "rank": (0.5, 1.0)}
_MEMORY: Final = {"gpu": (8 * GIB, 24 * GIB), "rank": (2 * GIB, 4 * GIB)}
_RATE: Final = 200e6  # bytes per second that a volume of a cluster is assumed to write
_CHECKPOINT: Final = 12  # bytes of a checkpoint per trained weight: the weight and two Adam moments, 32 bits each
_GRACE: Final = {False: 120, True: 600}  # seconds, by full_finetuning, if the model's sizes are unknown
_SHORTEST_GRACE: Final = 120


@dataclass(frozen=True)
class Needs:
    """A pod's requests and limits (``at_most``), equal if the experiment sets them; sizes in bytes.

    ``/dev/shm`` counts as memory. ``is_memory_said`` and ``are_cpus_said``: whether the experiment sets them.
    """

    cpus: float
    cpus_at_most: float
    memory: int
    memory_at_most: int
    shm: int
    gpus: int
    is_memory_said: bool
    are_cpus_said: bool

    @classmethod
    def of(cls, job: Job) -> Needs:
        wanted, (unit, count) = job.resources, ("gpu", job.gpus) if job.gpus else ("rank", job.topology.nproc)
        shm = size_in_bytes(wanted.shm_size or SHM)
        if wanted.memory is None:
            memory, memory_at_most = _MEMORY[unit][0] * count, _MEMORY[unit][1] * count + shm
        else:
            memory = memory_at_most = size_in_bytes(wanted.memory)
        cpus, cpus_at_most = (wanted.cpus, wanted.cpus) if wanted.cpus else (_CPUS[unit][0] * count, _CPUS[unit][1] * count)
        said = wanted.memory is not None, wanted.cpus is not None
        return cls(cpus, cpus_at_most, memory, memory_at_most, shm, job.gpus, *said)

    @property
    def cores(self) -> int:
        return max(1, int(self.cpus_at_most))

    def resources(self) -> dict[str, Any]:
        """Requests and limits; GPUs are only in the limits, which Kubernetes also uses as their request."""
        gpus = {"nvidia.com/gpu": str(self.gpus)} if self.gpus else {}
        return {
            "requests": {"cpu": _cpu(self.cpus), "memory": quantity(self.memory)},
            "limits": {"cpu": _cpu(self.cpus_at_most), "memory": quantity(self.memory_at_most), **gpus},
        }


def grace_period(job: Job, trained: int | None) -> int:
    """Seconds between the request to stop and SIGKILL: twice the time that a checkpoint takes, at least 120.

    ``trained``: number of trained weights, None if the model's sizes are unknown.
    """
    if trained is None:
        return _GRACE[job.experiment.hyperparameters.full_finetuning]
    return max(_SHORTEST_GRACE, math.ceil(2 * trained * _CHECKPOINT / _RATE))


def own_environment(job: Job, host: str, *, grace: int, has_secrets: bool) -> dict[str, str]:
    """The variables that only pods have; ``host``: the first node's host name.

    Three timeouts expire one after the other: torchrun's, the entry's, the kubelet's.
    """
    env = {
        "DPO_CONFIG": CONFIG,
        "DPO_TERMINATION_LOG": TERMINATION_LOG,
        "DPO_GRACE": str(grace - 15),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(grace - 30),
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    }
    if has_secrets:
        env["DPO_SECRETS"] = SECRETS
    if job.topology.nodes > 1:
        env |= {"MASTER_ADDR": host, "MASTER_PORT": str(job.node.port)}
    return env


@dataclass(frozen=True)
class Contents:
    """What a pod is made of. ``name``: of the Service and the ConfigMaps; ``folder``: the run's folder in the pod; ``grace``:
    seconds."""

    image: Image
    name: str
    labels: Mapping[str, str]
    env: Mapping[str, str]
    placement: Placement
    secret_keys: Sequence[str]
    folder: str
    grace: int


def pod_template(job: Job, contents: Contents) -> dict[str, Any]:
    """The template of the pods of ``job``: ``metadata`` and ``spec``."""
    settings, needs = job.experiment.launch.kubernetes, Needs.of(job)
    volumes, mounts = _volumes(contents.name, settings, contents.placement, contents.secret_keys, needs)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "subdomain": contents.name,
        "terminationGracePeriodSeconds": contents.grace,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        **chosen(settings, has_gpus=bool(job.gpus)),
        **_spread(job, contents.labels),
        "containers": [_container(job, contents, needs, mounts)],
        "volumes": volumes,
    }
    return {"metadata": {"labels": dict(contents.labels)}, "spec": spec}


def _container(job: Job, contents: Contents, needs: Needs, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": contents.image.reference,
        "imagePullPolicy": pull_policy(contents.image),
        "args": [
            literal(one) for one in (*job.command, contents.folder)
        ],  # the image's entry point is tini, which stays process 1
        "workingDir": HOME,
        "env": [{"name": key, "value": literal(value)} for key, value in sorted(contents.env.items())],
        "resources": needs.resources(),
        "volumeMounts": mounts,
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": CONTAINER_SECURITY,
    }


def chosen(settings: Kubernetes, *, has_gpus: bool) -> dict[str, Any]:
    """On which nodes pods may run, and with which accounts."""
    tolerations = [dict(one) for one in settings.tolerations]
    if has_gpus:
        tolerations.insert(0, {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    spec: dict[str, Any] = {}
    if settings.service_account is not None:
        spec["serviceAccountName"] = settings.service_account
    if settings.runtime_class is not None:
        spec["runtimeClassName"] = settings.runtime_class
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in settings.image_pull_secrets]
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if tolerations:
        spec["tolerations"] = tolerations
    return spec


def _spread(job: Job, labels: Mapping[str, str]) -> dict[str, Any]:
    """Spreads the nodes of a run over the hosts if there are enough; a run does not wait for more hosts."""
    if job.topology.nodes == 1:
        return {}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    return {"topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": _run_of(labels)}}]}


def _run_of(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: labels[key] for key in ("dpo-launcher/run",)}


def _volumes(
    name: str, settings: Kubernetes, placement: Placement, secret_keys: Sequence[str], needs: Needs
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(volumes, their mounts)."""
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []

    def add(called: str, source: dict[str, Any], path: str, *, read_only: bool = False) -> None:
        volumes.append({"name": called, **source})
        mounts.append({"name": called, "mountPath": path, **({"readOnly": True} if read_only else {})})

    for role, path in (("runs", RUNS), ("cache", CACHE), ("data", DATA)):
        if role in placement.claims:
            add(role, {"persistentVolumeClaim": {"claimName": placement.claims[role]}}, path, read_only=role == "data")
    add("config", {"configMap": {"name": name}}, CONFIG, read_only=True)
    if placement.contents:
        items = [{"key": key, "path": file} for key, file in data_keys(placement.contents).items()]
        add("inputs", {"configMap": {"name": f"{name}-data", "items": items}}, placement.folder, read_only=True)
    if secret_keys:
        items = [{"key": key, "path": key} for key in secret_keys]
        source = {"secret": {"secretName": settings.secret, "defaultMode": 0o440, "items": items}}
        add("secrets", source, SECRETS, read_only=True)
    add("home", {"emptyDir": {}}, HOME)
    add("tmp", {"emptyDir": {}}, "/tmp")
    add("shm", {"emptyDir": {"medium": "Memory", "sizeLimit": quantity(needs.shm)}}, "/dev/shm")
    return volumes, mounts


def data_keys(contents: Mapping[str, bytes]) -> dict[str, str]:
    """Key of the ConfigMap -> file; a key may only have letters, digits and ``-_.``, a file's name anything."""
    return {
        name if re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name) else f"file-{n}": name for n, name in enumerate(sorted(contents))
    }


def literal(text: str) -> str:
    """Escapes ``$``: Kubernetes expands ``$(NAME)``, and ``$$`` to one dollar."""
    return text.replace("$", "$$")


def pull_policy(image: Image) -> str:
    """Kubernetes' default, except for images without a registry: they were loaded into the nodes, and cannot be pulled."""
    reference, _, digest = image.reference.partition("@")
    tag = reference.rpartition("/")[2].partition(":")[2]
    is_of_a_registry = "/" in reference and not reference.startswith("localhost/")
    return "Always" if is_of_a_registry and not digest and tag in ("", "latest") else "IfNotPresent"


def _cpu(cpus: float) -> str:
    return str(int(cpus)) if cpus == int(cpus) else f"{math.ceil(cpus * 1000)}m"
