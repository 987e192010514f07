"""The pod of a run: the resources, volumes and permissions of each node. Pure.

It passes the ``restricted`` Pod Security Standard: it is not root, gains no privileges, and only writes to volumes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ....experiment.schema import Experiment, Kubernetes
from ....job.image import Image
from ....job.job import Job
from ....runs.run_dir import OWN_RUNS
from ...spec.container import HOME
from ...spec.sizes import quantity
from .guard import OWN_VOLUMES, TRAINER
from .placement import Placement
from .resources import CHECKPOINT, HOME_SIZE, TMP_SIZE, Disk, Needs, Sizes, sized, tolerations
from .user import CONTAINER_SECURITY, pod_security
from .volumes import volumes_of

CONTAINER: Final = TRAINER
CONFIG: Final = OWN_VOLUMES["config"]
CA: Final = OWN_VOLUMES["ca"]
CA_FILE: Final = "ca.pem"
SECRETS: Final = OWN_VOLUMES["secrets"]
ARCHITECTURE: Final = "kubernetes.io/arch"  # a label that every node has
TERMINATION_LOG: Final = "/dev/termination-log"
# Autoscalers that empty a node move its pods; a moved run starts again from its checkpoint.
ANNOTATIONS: Final = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
# Which pod an attempt ran in, and on which node: the entry notes it in the run's record, where it outlives the pod.
_ITSELF: Final = tuple(
    {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
    for name, path in (("DPO_POD", "metadata.name"), ("DPO_HOST", "spec.nodeName"))
)
_RATE: Final = 200e6  # bytes per second that a volume of a cluster is assumed to write
_UPLOAD: Final = 100e6  # bytes per second to a bucket
_GRACE: Final = {False: 120, True: 600}  # seconds, by full_finetuning, if the model's sizes are unknown
_SHORTEST_GRACE: Final = 120


def grace_period(job: Job, trained: int | None) -> int:
    """Seconds between the request to stop and SIGKILL: twice the time that a checkpoint takes, at least 120; with
    ``checkpoint_to`` also the time of its upload.

    ``trained``: number of trained weights, None if the model's sizes are unknown.
    """
    if trained is None:
        return _GRACE[job.experiment.hyperparameters.full_finetuning]
    upload = 0.0 if job.experiment.checkpoint_to is None else trained * CHECKPOINT / _UPLOAD
    return max(_SHORTEST_GRACE, math.ceil(2 * trained * CHECKPOINT / _RATE + upload))


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
    if not volumes_of(job.experiment)["runs"].is_kept:
        env[OWN_RUNS] = "1"
    if job.topology.nodes > 1:
        env |= {"MASTER_ADDR": host, "MASTER_PORT": str(job.node.port)}
    return env


@dataclass(frozen=True)
class Contents:
    """What a pod is made of. ``name``: of the Service and the ConfigMaps; ``folder``: the run's folder in the pod; ``grace``:
    seconds. ``namespace``: the annotations of the pod's namespace, None if it was not asked.
    """

    image: Image
    name: str
    labels: Mapping[str, str]
    env: Mapping[str, str]
    placement: Placement
    secret_keys: Sequence[str]
    folder: str
    grace: int
    sizes: Sizes
    namespace: Mapping[str, str] | None


def pod_template(job: Job, contents: Contents) -> dict[str, Any]:
    """The template of the pods of ``job``: ``metadata`` and ``spec``."""
    settings, needs = job.experiment.launch.kubernetes, Needs.of(job, contents.sizes)
    volumes, mounts = _volumes(job.experiment, contents, needs)
    # Kueue admits nothing that asks for a resource which its queue does not cover, and few queues cover the nodes' disks.
    disk = Disk.of(volumes) if settings.queue is None else None
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "subdomain": contents.name,
        "terminationGracePeriodSeconds": contents.grace,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(settings, contents.namespace),
        **chosen(settings, has_gpus=bool(job.gpus), architecture=contents.image.architecture),
        **_spread(job, contents.labels),
        "containers": [_container(job, contents, needs.resources(disk), mounts)],
        "volumes": volumes,
    }
    annotations = {**ANNOTATIONS, **settings.annotations}
    return {"metadata": {"labels": dict(contents.labels), "annotations": annotations}, "spec": spec}


def _container(job: Job, contents: Contents, resources: dict[str, Any], mounts: list[dict[str, Any]]) -> dict[str, Any]:
    """Without probes: a liveness probe would kill a rank in a long step, whose stall the collectives' timeout ends; nothing is
    served that could be ready.
    """
    return {
        "name": CONTAINER,
        "image": contents.image.reference,
        "imagePullPolicy": pull_policy(contents.image),
        "args": [
            literal(one) for one in (*job.command, contents.folder)
        ],  # the image's entry point is tini, which stays process 1
        "workingDir": HOME,
        "env": [*({"name": key, "value": literal(value)} for key, value in sorted(contents.env.items())), *_ITSELF],
        "resources": resources,
        "volumeMounts": mounts,
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": CONTAINER_SECURITY,
    }


def chosen(settings: Kubernetes, *, has_gpus: bool, architecture: str | None = None) -> dict[str, Any]:
    """On which nodes pods may run, and with which accounts; ``architecture``: the only one that the image is built for."""
    tolerated = [*(tolerations(settings.gpu_resource) if has_gpus else ()), *(dict(one) for one in settings.tolerations)]
    spec: dict[str, Any] = {}
    if settings.service_account is not None:
        spec["serviceAccountName"] = settings.service_account
    if settings.runtime_class is not None:
        spec["runtimeClassName"] = settings.runtime_class
    if settings.priority_class is not None:
        spec["priorityClassName"] = settings.priority_class
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in settings.image_pull_secrets]
    built_for = {} if architecture is None else {ARCHITECTURE: architecture}
    if selector := {**built_for, **settings.node_selector}:
        spec["nodeSelector"] = selector
    if tolerated:
        spec["tolerations"] = tolerated
    return spec


def _spread(job: Job, labels: Mapping[str, str]) -> dict[str, Any]:
    """Spreads the nodes of a run over the hosts if there are enough; a run does not wait for more hosts."""
    if job.topology.nodes == 1:
        return {}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    return {"topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": _run_of(labels)}}]}


def _run_of(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: labels[key] for key in ("dpo-launcher/run",)}


def _volumes(experiment: Experiment, contents: Contents, needs: Needs) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(volumes, their mounts)."""
    settings, name, placement = experiment.launch.kubernetes, contents.name, contents.placement
    given = volumes_of(experiment)
    volumes = [sized(one, experiment, contents.sizes) for one in given.values()]
    mounts = [one.mount() for one in given.values()]

    def add(called: str, source: dict[str, Any], path: str, *, read_only: bool = False) -> None:
        volumes.append({"name": called, **source})
        mounts.append({"name": called, "mountPath": path, **({"readOnly": True} if read_only else {})})

    add("config", {"configMap": {"name": name}}, CONFIG, read_only=True)
    if placement.contents:
        items = [{"key": key, "path": file} for key, file in data_keys(placement.contents).items()]
        add("inputs", {"configMap": {"name": f"{name}-data", "items": items}}, placement.folder, read_only=True)
    if placement.ca is not None:
        add("ca", {"configMap": {"name": f"{name}-ca"}}, CA, read_only=True)
    if contents.secret_keys:
        items = [{"key": key, "path": key} for key in contents.secret_keys]
        source = {"secret": {"secretName": settings.secret, "defaultMode": 0o440, "items": items}}
        add("secrets", source, SECRETS, read_only=True)
    add("home", {"emptyDir": {"sizeLimit": quantity(HOME_SIZE)}}, HOME)
    add("tmp", {"emptyDir": {"sizeLimit": quantity(TMP_SIZE)}}, "/tmp")
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
