"""A run as a TrainJob of Kubeflow Trainer v2, and the runtime to which it refers. Pure.

A TrainJob sets image, arguments, variables and resources of the container ``node`` (``spec.trainer``), and of the pods what
``spec.runtimePatches`` allows; everything else is the runtime's. The runtime is the same for all runs: k8s/trainjob has it.
Trainer merges the patches as strategic merge patches into the runtime's JobSet (kubeflow/trainer,
pkg/runtime/core/trainingruntime.go).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ....errors import ExperimentError, Mistake
from ....job.image import Image
from ....job.job import Job
from ...spec.container import HOME
from . import objects
from .kinds import TRAINJOB
from .names import REPLICATED
from .objects import Named
from .patch import SETTING
from .pod import ANNOTATIONS, TERMINATION_LOG, pull_policy
from .user import CONTAINER_SECURITY

RUNTIME: Final = "dpo-launcher"  # the name of the runtime
CLUSTER: Final = "ClusterTrainingRuntime"
OWN: Final = "TrainingRuntime"  # of one namespace
RESTARTS: Final = 3  # of the runtime's JobSet: the default of launch.max_restarts
MANAGER: Final = "dpo-launcher/run"  # whose patch it is
GROUP: Final = TRAINJOB.version.partition("/")[0]
_STEP: Final = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}  # the job to which spec.trainer applies
# What a patch may set in a pod, and in its container; image, args, env and resources are in spec.trainer.
_OF_PODS: Final = (
    "affinity", "imagePullSecrets", "nodeSelector", "schedulingGates", "securityContext", "serviceAccountName",
    "terminationGracePeriodSeconds", "tolerations", "volumes",
)  # fmt: skip
_OF_CONTAINERS: Final = ("securityContext", "volumeMounts")
_BY_TRAINER: Final = ("image", "args", "env", "resources")
_SETTINGS: Final = {
    "priorityClassName": "launch.kubernetes.priority_class",
    "runtimeClassName": "launch.kubernetes.runtime_class",
}
_JOBSET: Final = "launch.kubernetes.kind: jobset"
_SPREAD: Final = "topologySpreadConstraints"


def runtime(kind: str) -> dict[str, Any]:
    """The runtime of all runs, as k8s/trainjob has it; ``kind``: for the cluster, or for one namespace."""
    job = objects.indexed({"metadata": {"annotations": dict(ANNOTATIONS)}, "spec": _base()}, 1, 0, TRAINJOB.container)
    return {
        "apiVersion": TRAINJOB.version,
        "kind": kind,
        "metadata": {"name": RUNTIME},
        "spec": {
            "mlPolicy": {"numNodes": 1},  # without torch, whose PET_* variables would be torchrun's defaults
            "template": {
                "spec": {
                    "failurePolicy": objects.failure_policy(RESTARTS),
                    "ttlSecondsAfterFinished": objects.TTL,
                    "replicatedJobs": [
                        {"name": REPLICATED, "replicas": 1, "template": {"metadata": {"labels": _STEP}, "spec": job}}
                    ],
                }
            },
        },
    }


def _base() -> dict[str, Any]:
    """The pod of the runtime: what no TrainJob can set, and the rights of the ``restricted`` Pod Security Standard."""
    # Trainer does not tell the runtime the run's name: the label tells the scheduler which pods are spread.
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "dpo-launcher"}},
        "matchLabelKeys": ["dpo-launcher/run"],
    }
    container = {
        "name": TRAINJOB.container,
        "image": "dpo-launcher",  # every TrainJob names its own
        "workingDir": HOME,
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": CONTAINER_SECURITY,
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        _SPREAD: [spread],
        "containers": [container],
    }


def trainjob(named: Named, template: Mapping[str, Any], *, nodes: int, deadline: int | None, own_runtime: bool) -> dict[str, Any]:
    """``template``: of the pods, as ``check`` allows it; ``deadline``: seconds; ``own_runtime``: the namespace has one."""
    pod, (container,) = template["spec"], template["spec"]["containers"]
    patched: dict[str, Any] = {key: pod[key] for key in _OF_PODS if key in pod}
    patched["containers"] = [{"name": TRAINJOB.container, **{key: container[key] for key in _OF_CONTAINERS if key in container}}]
    patch = {"spec": {"template": {"metadata": template["metadata"], "spec": patched}}}
    trainer = {key: container[key] for key in _BY_TRAINER}
    return {
        "apiVersion": TRAINJOB.version,
        "kind": TRAINJOB.name,
        "metadata": named.owner_metadata(),
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": OWN if own_runtime else CLUSTER, "name": RUNTIME},
            **({} if deadline is None else {"activeDeadlineSeconds": deadline}),
            "trainer": {"numNodes": nodes, "resourcesPerNode": trainer.pop("resources"), **trainer},
            "runtimePatches": [
                {
                    "manager": MANAGER,
                    "trainingRuntimeSpec": {
                        "template": {"spec": {"replicatedJobs": [{"name": REPLICATED, "template": patch}]}},
                    },
                }
            ],
        },
    }


def template_of(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The template of the pods that a TrainJob of ours gets from the runtime."""
    spec, base = obj["spec"], _base()
    ours = next(one for one in spec["runtimePatches"] if one["manager"] == MANAGER)  # Kueue may add one
    (job,) = ours["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    patch, (container,) = job["template"]["spec"]["template"], base["containers"]
    trainer = spec["trainer"]
    (own,) = patch["spec"]["containers"]
    rights = {**container["securityContext"], **own.get("securityContext", {})}
    container = {
        **container,
        **own,
        **{key: trainer[key] for key in ("image", "args", "env") if key in trainer},
        "resources": trainer.get("resourcesPerNode") or {},
        "securityContext": rights,
    }
    security = {**base["securityContext"], **patch["spec"].get("securityContext", {})}
    pod = {**base, **patch["spec"], "securityContext": security, "containers": [container]}
    return {"metadata": patch.get("metadata") or {}, "spec": pod}


def check(job: Job, template: Mapping[str, Any], before: Mapping[str, Any], image: Image) -> None:
    """``template``: of the pods, ``before``: without the experiment's patch. Raises ExperimentError with everything that a
    TrainJob of this runtime cannot have, each by name."""
    wrong = [*_wrong(job, template["spec"], before["spec"], image)]
    if wrong:
        raise ExperimentError(wrong)


def _wrong(job: Job, pod: Mapping[str, Any], before: Mapping[str, Any], image: Image) -> Iterator[Mistake]:
    base, (container,), (own,) = _base(), pod["containers"], before["containers"]
    restarts = job.experiment.launch.max_restarts
    if restarts != RESTARTS:
        what = f"is decided by the runtime of a TrainJob ({RUNTIME}: failurePolicy.maxRestarts)"
        yield Mistake("launch.max_restarts", what, str(RESTARTS), str(restarts), f"use {_JOBSET}")
    for key in sorted({*pod, *before} - {*_OF_PODS, "containers", "subdomain"}):
        if pod.get(key) != (before if key == _SPREAD else base).get(key):
            yield _unset(_SETTINGS.get(key, f"{SETTING}.spec.{key}"))
    for key in sorted({*container, *own} - {*_OF_CONTAINERS, *_BY_TRAINER, "name", "imagePullPolicy"}):
        if container.get(key) != base["containers"][0].get(key):
            yield _unset(f"{SETTING}.spec.containers.{own['name']}.{key}")
    if container.get("imagePullPolicy", pull_policy(image)) != _default_policy(image):
        yield _unset(f"{SETTING}.spec.containers.{own['name']}.imagePullPolicy")
    names = [mount["name"] for mount in container["volumeMounts"]]
    for name in sorted({name for name in names if names.count(name) > 1}):
        where = f"{SETTING}.spec.containers.{own['name']}.volumeMounts"
        yield Mistake(where, f"volume {name} is mounted twice, which a TrainJob cannot do", hint=f"use {_JOBSET}")


def _unset(where: str) -> Mistake:
    hint = f"set it in the runtime {RUNTIME} (k8s/trainjob), or use {_JOBSET}"
    return Mistake(where, "cannot be set by a TrainJob: its runtimePatches have no such field", hint=hint)


def _default_policy(image: Image) -> str:
    """The pull policy that the API server sets if a pod has none: it depends on the tag alone."""
    reference, _, digest = image.reference.partition("@")
    tag = reference.rpartition("/")[2].partition(":")[2]
    return "Always" if not digest and tag in ("", "latest") else "IfNotPresent"
