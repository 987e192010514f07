from __future__ import annotations

from typing import Any

from launcher.backends.kubernetes.cluster import Cluster


def test_a_kubeconfig_leads_to_its_server(cluster_api: Any) -> None:
    cluster = Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)})
    assert (cluster.get("/version")["minor"], cluster.context, cluster.namespace) == ("36", "emulator", "default")
