"""Kubeflow Trainer, of which TrainJobs are: whether it is there, new enough, works, and has the runtime of our runs.

Dry runs tell all of it: rights to read what belongs to the cluster are not needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ....errors import Mistake
from ....published import with_manifests
from ..api.cluster import Cluster
from ..api.errors import ApiError, unless
from ..render.kinds import TRAINJOB
from ..render.names import REPLICATED
from ..render.trainjob import CLUSTER, GROUP, MANAGER, OWN, RUNTIME
from .probes import is_no_right, is_webhook_silent

_PROBE: Final = "dpo-launcher-probe"
_UNKNOWN: Final = re.compile(r'unknown field "(spec\.[^"]+)"')
_MISSING: Final = "must be created before the TrainJob is created"  # the words of its webhook
_WHERE: Final = "--kind trainjob"
_JOBSET: Final = "use --kind jobset"


@dataclass(frozen=True)
class Trainer:
    """``is_served``: whether the cluster has TrainJobs. ``has_own_runtime``: whether the namespace has the runtime of our runs;
    else the cluster's is used. ``refused``: why a TrainJob with it is refused, in the server's words; ``works``: whether its
    webhook refused a runtime that does not exist, each None if that is unknown.
    """

    is_served: bool = False
    has_own_runtime: bool = False
    refused: str | None = None
    works: bool | None = None


def look_at_trainer(cluster: Cluster, namespace: str, *, is_served: bool, is_tried: bool) -> Trainer:
    """``is_tried``: whether the run is a TrainJob; without that nothing is requested."""
    if not is_tried or not is_served:
        return Trainer(is_served)
    has_own = False
    with unless(403, 404):
        cluster.get(f"/apis/{TRAINJOB.version}/namespaces/{namespace}/{OWN.lower()}s/{RUNTIME}")
        has_own = True
    kind = OWN if has_own else CLUSTER
    missing = _refusal(cluster, namespace, kind, f"{_PROBE}-none")
    if missing is not None and is_webhook_silent(missing):
        return Trainer(True, has_own, works=False)
    refusal = _refusal(cluster, namespace, kind, RUNTIME)
    # Only its webhook knows runtimes: who takes one that does not exist has nobody to work on it.
    works = False if missing is None else True if _MISSING in missing.message else None
    return Trainer(True, has_own, None if refusal is None or is_no_right(refusal) else refusal.message, works)


def wrong_trainer(found: Trainer, namespace: str) -> Iterator[Mistake]:
    """Why a TrainJob cannot run there."""
    if not found.is_served:
        yield Mistake(_WHERE, "Kubeflow Trainer v2 is not installed in the cluster", hint=_JOBSET)
    elif unknown := _UNKNOWN.findall(found.refused or ""):
        what = f"the TrainJob of this cluster has no {', '.join(unknown)}: its Kubeflow Trainer is older than 2.2"
        yield Mistake(_WHERE, what, hint=f"{_JOBSET}, or ask the cluster's administrator to upgrade Trainer")
    elif found.works is False:
        what = "TrainJob's CRD is installed, but its controller is probably down: its webhook did not check a dry run"
        yield Mistake(_WHERE, what, hint=_JOBSET)
    elif _MISSING in (found.refused or ""):
        apply = f"kubectl -n {namespace} apply -f k8s/trainjob/runtime.yaml"
        apply += "; or once for the cluster: kubectl apply -f k8s/trainjob/cluster-runtime.yaml"
        what = f"the runtime {RUNTIME} is missing: neither namespace {namespace} nor the cluster has it"
        yield Mistake(_WHERE, what, hint=with_manifests(apply))
    elif found.refused is not None:
        yield Mistake(_WHERE, f"the cluster refuses a TrainJob of the runtime {RUNTIME}: {found.refused}", hint=_JOBSET)


def _refusal(cluster: Cluster, namespace: str, kind: str, runtime: str) -> ApiError | None:
    """Why the server refuses a TrainJob with the fields of ours; None if it takes it. Nothing is stored."""
    patch: dict[str, Any] = {"name": REPLICATED, "template": {"spec": {"template": {"spec": {"nodeSelector": {}}}}}}
    spec = {
        "runtimeRef": {"apiGroup": GROUP, "kind": kind, "name": runtime},
        "trainer": {"numNodes": 1},
        "runtimePatches": [
            {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [patch]}}}},
        ],
    }
    metadata = {"generateName": f"{_PROBE}-", "namespace": namespace}
    probe = {"apiVersion": TRAINJOB.version, "kind": TRAINJOB.name, "metadata": metadata, "spec": spec}
    try:
        cluster.create(TRAINJOB.collection(namespace), probe, dry_run=True)
    except ApiError as error:
        return error
    return None
