"""What TensorBoard on a cluster cannot show, and how it is seen all the same."""

from __future__ import annotations

from launcher.backends.kubernetes.api.cluster import Cluster
from launcher.backends.tensorboard import not_shown
from tests.cluster_api import ClusterApi
from tests.cluster_api.played import Played


def test_runs_whose_files_are_in_a_bucket_alone_are_named_with_the_commands_that_show_them(cluster_api: ClusterApi) -> None:
    cluster = Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)})
    Played(cluster_api, "on-the-claim")
    assert not_shown(cluster, "default") == []
    Played(cluster_api, "far")
    copies = {"dpo-launcher/copies": "s3://ckpt/team/exp_1/m/far"}
    cluster_api.objects.change("jobs", "far", lambda one: one["metadata"]["annotations"].update(copies))
    assert not_shown(cluster, "default") == [
        "notice: far: not shown, as the files are in s3://ckpt/team/exp_1/m/far and not on the claim; when it has ended: "
        "launcher download far --all, then launcher tensorboard ./far"
    ]
    cluster_api.deny("*", "jobs")
    assert not_shown(cluster, "default") == []
