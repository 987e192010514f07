"""Why the reader or a server does not run, with advice about what each is made by."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.backends.kubernetes.api.cluster import Cluster
from launcher.backends.kubernetes.follow.beside import DEPLOYMENT, explain
from tests.cluster_api import ClusterApi, controllers

ARM = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
TAINT = "0/2 nodes are available: 2 node(s) had untolerated taint {nvidia.com/gpu: present}."


@pytest.fixture
def pod(cluster_api: ClusterApi) -> dict[str, Any]:
    spec = {"containers": [{"name": "tensorboard", "image": "r/dpo:1"}, {"name": "server", "image": "r/dpo:1"}]}
    return cluster_api.objects.put({"kind": "Pod", "metadata": {"name": "x"}, "spec": spec})


@pytest.mark.parametrize(("message", "field"), [(ARM, "nodeSelector"), (TAINT, "tolerations")])
def test_what_keeps_the_reader_from_a_node_is_mended_in_its_deployment(
    message: str, field: str, pod: dict[str, Any], cluster_api: ClusterApi
) -> None:
    """An experiment's settings are not its own."""
    controllers.unschedulable(cluster_api, "x", message)
    pods = cluster_api.objects.list("pods", "default")
    cluster = Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)})
    found = explain(cluster, "default", pods, "reader", DEPLOYMENT)
    assert found is not None
    edit = "kubectl -n default edit deployment dpo-tensorboard"
    assert found.suggestion == f"set {field} of its Deployment in your overlay of k8s/, or now with: {edit}"
    server = explain(cluster, "default", pods, "server", "serve-one")
    assert server is not None
    assert "launch.kubernetes." in server.suggestion
