"""What the preflight checks find on a cluster of the tests."""

from __future__ import annotations

from typing import Any

from launcher.backends.kubernetes.api.cluster import Cluster
from launcher.backends.kubernetes.render.spec import KubernetesSpec
from launcher.backends.kubernetes.submit.facts import Facts, Question, gather
from launcher.backends.kubernetes.submit.preflight import Preflight, preflight
from tests.cluster_api import ClusterApi
from tests.rendered import rendered

APPLY = "kubectl apply -k k8s/overlays/cluster (one machine: k8s/overlays/workstation)"


def facts_of(api: ClusterApi, spec: KubernetesSpec, namespace: str = "default", follow: bool = False) -> Facts:
    verbs = ("submit", "submit --queue", *(["ps", "logs"] if follow else []))
    secret = spec.secret if spec.secret_keys else None
    cluster = Cluster.connect({"KUBECONFIG": str(api.kubeconfig)})
    return gather(cluster, Question(namespace, spec.run, spec.claims, secret, spec.queue, verbs, lambda _: spec.pod))


def looked(
    api: ClusterApi,
    launch: dict[str, Any] | None = None,
    *,
    namespace: str = "default",
    can_push: bool = False,
    is_named: bool = False,
    follow: bool = False,
    **fields: Any,
) -> Preflight:
    spec = rendered({"gpus": 0, "global_batch_size": 128, **(launch or {})}, **fields)
    facts = facts_of(api, spec, namespace, follow)
    return preflight(spec, facts, namespace=namespace, can_push=can_push, is_named=is_named)


def findings(api: ClusterApi, launch: dict[str, Any] | None = None, **more: Any) -> list[str]:
    return [str(one) for one in looked(api, launch, **more).findings]


def finding(api: ClusterApi, launch: dict[str, Any] | None = None, **more: Any) -> str:
    (only,) = findings(api, launch, **more)
    return only
