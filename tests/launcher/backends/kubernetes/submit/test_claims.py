"""Preflight checks of the claims: missing, without a volume, or not to be mounted as the run needs them."""

from __future__ import annotations

import pytest

from launcher.backends.kubernetes.submit.preflight import Preflight
from tests.cluster_api import ClusterApi, controllers
from tests.launcher.backends.kubernetes.submit.preflighted import APPLY, finding, findings, looked


def test_a_claim_that_is_not_there(api: ClusterApi) -> None:
    said = "claim big: not found in namespace default; it holds the runs and the cached models\n"
    made = f"create dpo-runs and dpo-cache in the namespace dpo (for --namespace dpo) with: {APPLY}"
    hint = f"    hint:     {made}; or set another claim in launch.kubernetes.volumes.runs"
    assert finding(api, {"kubernetes": {"volumes": {"runs": "big", "cache": "big"}}}) == said + hint


@pytest.mark.parametrize(
    ("mode", "nodes", "said"),
    [
        ("ReadWriteOnce", 1, None),
        ("ReadWriteOnce", 2, "can only be mounted on one node (ReadWriteOnce), but the run has 2"),
        ("ReadWriteOncePod", 2, "can only be mounted on one node (ReadWriteOncePod), but the run has 2"),
        ("ReadOnlyMany", 1, "is read-only (ReadOnlyMany), but cache must be writable"),
        ("ReadWriteMany", 2, None),
    ],
)
def test_access_modes_fit_the_nodes(mode: str, nodes: int, said: str | None, api: ClusterApi) -> None:
    controllers.claim(api, "dpo-cache", mode)
    found = findings(api, {"nodes": nodes})
    assert [one.splitlines()[0] for one in found] == ([f"claim dpo-cache: {said}"] if said else [])


def test_data_need_only_be_read(api: ClusterApi) -> None:
    controllers.claim(api, "data", "ReadOnlyMany")
    assert findings(api, {"nodes": 2, "kubernetes": {"volumes": {"data": "data"}}}) == []
    controllers.claim(api, "data", "ReadWriteOnce")
    assert finding(api, {"nodes": 2, "kubernetes": {"volumes": {"data": "data"}}}).startswith(
        "claim data: can only be mounted on one"
    )


def reader(api: ClusterApi, claim: str = "dpo-runs") -> None:
    labels = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "reader"}
    volumes = [{"name": "runs", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}]
    spec = {"containers": [{"name": "tensorboard", "image": "x"}], "volumes": volumes, "nodeName": "node-7"}
    api.objects.put({"kind": "Pod", "metadata": {"name": "reader-1", "labels": labels}, "spec": spec})
    controllers.running(api, "reader-1")


def test_a_claim_for_one_pod_that_the_reader_has(api: ClusterApi) -> None:
    controllers.claim(api, "dpo-runs", "ReadWriteOncePod")
    assert findings(api) == []
    reader(api)
    assert finding(api) == (
        "claim dpo-runs: can only be mounted by one pod (ReadWriteOncePod), and reader-1 uses it\n"
        "    expected: ReadWriteMany or ReadWriteOnce\n    hint:     create the claim with another access mode"
    )


def test_a_claim_for_one_node_says_which_node_the_reader_has_it_on(api: ClusterApi) -> None:
    controllers.claim(api, "dpo-runs", "ReadWriteOnce")
    reader(api)
    assert looked(api) == Preflight(
        (), ("claim dpo-runs can only be mounted on one node; the run must be on node-7, where reader-1 uses it",)
    )


def test_a_claim_that_waits_for_its_first_pod(api: ClusterApi) -> None:
    controllers.claim(api, "dpo-runs", phase="Pending")
    assert finding(api).startswith("claim dpo-runs: has no volume, and StorageClass shared not found\n")
    api.objects.put(
        {"kind": "StorageClass", "metadata": {"name": "shared"}, "volumeBindingMode": "Immediate", "provisioner": "x"}
    )
    assert finding(api) == (
        "claim dpo-runs: has no volume yet, although StorageClass shared creates volumes immediately\n"
        "    hint:     kubectl describe persistentvolumeclaim dpo-runs"
    )
    late = {"volumeBindingMode": "WaitForFirstConsumer", "provisioner": "x"}
    api.objects.put({"kind": "StorageClass", "metadata": {"name": "shared"}, **late})
    assert findings(api) == []
    api.deny("get", "storageclasses")
    assert findings(api) == []
    controllers.claim(api, "dpo-runs", phase="Pending", storage_class=None)
    assert finding(api).startswith("claim dpo-runs: has no volume and no StorageClass\n")
    controllers.claim(api, "dpo-runs", phase="Lost")
    assert finding(api).startswith("claim dpo-runs: lost its volume\n")


def test_a_claim_of_a_volume_of_one_s_own_must_be_there_too(api: ClusterApi) -> None:
    launch = {"kubernetes": {"volumes": {"corpus": "team-corpus"}}}
    assert finding(api, launch).startswith("claim team-corpus: not found in namespace default; it holds the volume corpus")
