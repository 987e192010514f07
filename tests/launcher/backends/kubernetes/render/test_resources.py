"""GPUs under other names, and what else the settings of a cluster put into pods."""

from __future__ import annotations

import json
from typing import Any

import pytest

from launcher.backends.kubernetes.render.resources import Sizes
from launcher.errors import ExperimentError
from launcher.experiment.sections.kubernetes import seconds
from launcher.why.resources import gpus_in, is_gpu
from tests.rendered import rendered


@pytest.mark.parametrize(
    ("resource", "tolerated"),
    [
        ("nvidia.com/gpu", ["nvidia.com/gpu"]),
        ("nvidia.com/mig-3g.40gb", ["nvidia.com/gpu", "nvidia.com/mig-3g.40gb"]),
        ("amd.com/gpu", ["amd.com/gpu"]),
    ],
)
def test_a_gpu_is_what_the_cluster_calls_one_and_its_taints_are_tolerated(resource: str, tolerated: list[str]) -> None:
    spec = rendered({"gpus": 1, "image": "a/b", "kubernetes": {"gpu_resource": resource}})
    limits = spec.container["resources"]["limits"]
    assert {name: count for name, count in limits.items() if "/" in name} == {resource: "1"}
    assert [one["key"] for one in spec.pod["spec"]["tolerations"]] == tolerated
    assert is_gpu(resource)
    assert gpus_in({**limits, "rdma/hca": "4"}) == 1


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        ({"gpus": 2, "kubernetes": {"gpu_resource": "nvidia.com/mig-1g.10gb"}}, "a process sees one slice only"),
        ({"gpus": 2, "kubernetes": {"gpu_resource": "nvidia.com/gpu.shared"}}, "several shares may be of one card"),
        ({"gpus": 1, "kubernetes": {"gpu_resource": "amd.com/gpu"}}, "the image of this checkout has CUDA"),
    ],
)
def test_gpus_on_which_nothing_would_train_are_refused(launch: dict[str, Any], said: str) -> None:
    with pytest.raises(ExperimentError, match=f"launch.kubernetes.gpu_resource: .*{said}"):
        rendered(launch)


@pytest.mark.parametrize(
    ("nproc", "sizes", "memory", "shm"),
    [
        (1, Sizes(), "4352Mi", "256Mi"),  # an unknown model
        (1, Sizes(438_000, 300_000), "2560Mi", "256Mi"),
        (2, Sizes(438_000, 300_000), "5Gi", "512Mi"),
        (1, Sizes(600_000_000, 10_000_000), "7Gi", "256Mi"),
    ],
)
def test_a_rank_on_a_cpu_reserves_what_its_model_needs(nproc: int, sizes: Sizes, memory: str, shm: str) -> None:
    spec = rendered({"gpus": 0, "processes": nproc}, sizes=sizes)
    resources = spec.container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"] == memory
    (volume,) = (one for one in spec.pod["spec"]["volumes"] if one["name"] == "shm")
    assert volume["emptyDir"]["sizeLimit"] == shm
    assert any(f"memory {memory}, limits" in comment for comment in spec.comments)


def test_labels_annotations_and_a_priority_are_on_all_that_they_are_for() -> None:
    kubernetes = {"labels": {"cost-center": "ml"}, "annotations": {"example.com/owner": "A & B"}, "priority_class": "batch"}
    spec = rendered({"gpus": 0, "nodes": 2, "kubernetes": kubernetes})
    assert {one["metadata"]["labels"]["cost-center"] for one in spec.objects} == {"ml"}
    assert spec.pod["metadata"]["labels"]["cost-center"] == "ml"
    for those in (spec.owner["metadata"]["annotations"], spec.pod["metadata"]["annotations"]):
        assert those["example.com/owner"] == "A & B"
    assert spec.pod["spec"]["priorityClassName"] == "batch"


def test_autoscalers_leave_the_pods_where_they_are_unless_the_user_lets_them() -> None:
    key = "cluster-autoscaler.kubernetes.io/safe-to-evict"
    assert rendered().pod["metadata"]["annotations"][key] == "false"
    assert rendered({"kubernetes": {"annotations": {key: "true"}}}).pod["metadata"]["annotations"][key] == "true"


@pytest.mark.parametrize(("given", "made"), [(3600, 3600), ("36h", 129600), ("1d12h", 129600), ("90m30s", 5430), (None, None)])
def test_a_deadline_is_a_time(given: Any, made: int | None) -> None:
    job = rendered({"gpus": 0, "kubernetes": {"active_deadline": given}}).owner["spec"]
    assert job.get("activeDeadlineSeconds") == made
    assert made is None or seconds(given) == made


def test_an_automatic_deadline_is_that_of_the_plan_and_its_absence_is_told() -> None:
    launch = {"gpus": 0, "kubernetes": {"active_deadline": "auto"}}
    spec = rendered(launch, deadline=7200)
    assert spec.owner["spec"]["activeDeadlineSeconds"] == 7200
    (record,) = (one["data"]["record.json"] for one in spec.objects if "record.json" in one.get("data", {}))
    assert json.loads(record)["cluster"]["deadline"] == 7200, "for the Job that resume creates"
    unknown = rendered(launch)
    assert "activeDeadlineSeconds" not in unknown.owner["spec"]
    assert "no deadline: launch.kubernetes.active_deadline is auto, and the time of the run is unknown" in unknown.notices


@pytest.mark.parametrize(
    ("launch", "is_told"),
    [
        ({"gpus": 8, "nodes": 2}, True),
        ({"gpus": 8, "nodes": 1}, False),
        ({"gpus": 0, "nodes": 2}, False),
        ({"gpus": 8, "nodes": 2, "kubernetes": {"pod": {"spec": {"hostNetwork": True}}}}, False),
        ({"gpus": 8, "nodes": 2, "kubernetes": {"annotations": {"k8s.v1.cni.cncf.io/networks": "roce"}}}, False),
        (
            {"gpus": 8, "nodes": 2, "kubernetes": {"pod": {"spec": {"containers": [
                {"name": "trainer", "resources": {"limits": {"rdma/hca": 1}}}]}}}},
            False,
        ),
    ],
)  # fmt: skip
def test_a_run_on_several_nodes_over_plain_tcp_says_so(launch: dict[str, Any], is_told: bool) -> None:
    spec = rendered({"global_batch_size": 256, **launch})
    assert any(one.startswith("network: the 2 nodes exchange gradients over plain TCP") for one in spec.notices) == is_told
