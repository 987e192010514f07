"""Rendered objects against sample policies of platform teams (tests/policies), by an engine for their language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import pytest
import yaml

from launcher.backends.kubernetes.render.spec import KubernetesSpec
from launcher.backends.kubernetes.render.trainjob import CLUSTER, runtime
from tests.cluster_api.trainer import jobset_of
from tests.k8s.built import built
from tests.policies import NAMES, refused
from tests.rendered import CASES, GOLDEN, rendered

OF_PODS = tuple(name for name in NAMES if name not in ("jobs", "labels"))
WANTED = {"labels": ["cost-center"], "annotations": ["example.com/owner"]}


def pod_of(template: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", **template}


def golden_pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in CASES:
        owner = list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text()))[-1]
        made = jobset_of(runtime(CLUSTER), owner) if owner["kind"] == "TrainJob" else owner["spec"]
        spec = made if owner["kind"] == "Job" else made["replicatedJobs"][0]["template"]["spec"]
        yield name, pod_of(spec["template"])


PODS = dict(golden_pods())


QUEUED = ("all-options", "kueue")
NO_DISK = [f"container trainer has no {part} of ephemeral-storage" for part in ("limits", "requests")]


@pytest.mark.parametrize("policy", OF_PODS)
def test_the_pods_of_every_kind_of_run_are_admitted(policy: str) -> None:
    found = {name: said for name, pod in PODS.items() if (said := refused(policy, pod))}
    # Kueue admits no resource that its queue does not cover: in a queue the disk is asked for with launch.kubernetes.pod.
    assert found == (dict.fromkeys(QUEUED, NO_DISK) if policy == "resources" else {})


def test_in_a_queue_that_covers_it_the_disk_is_asked_for_by_the_patch() -> None:
    disk = {part: {"ephemeral-storage": "8Gi"} for part in ("requests", "limits")}
    pod = {"spec": {"containers": [{"name": "trainer", "resources": disk}]}}
    assert refused("resources", pod_of(rendered({"gpus": 1, "kubernetes": {"queue": "q", "pod": pod}}).pod)) == []


@pytest.mark.parametrize("policy", [name for name in OF_PODS if name != "images"])
def test_the_reader_is_admitted(policy: str) -> None:
    (reader,) = [obj for obj in built("overlays/cluster") if obj["kind"] == "Deployment"]
    assert refused(policy, pod_of(reader["spec"]["template"])) == []


SERVERS = ("serve-from-a-bucket", "serve-from-a-hub", "serve-from-the-claim")


@pytest.mark.parametrize("policy", OF_PODS)
def test_servers_are_admitted_but_for_images_that_are_pinned_by_their_tags(policy: str) -> None:
    said = {}
    for name in SERVERS:
        (deployment,) = [
            one for one in yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text()) if one and one["kind"] == "Deployment"
        ]
        if found := refused(policy, pod_of(deployment["spec"]["template"])):
            said[name] = found
    unpinned = {name: ["container server: vllm/vllm-openai:v0.32.0 has no digest"] for name in SERVERS}
    assert said == (unpinned if policy == "images" else {})


def open_to_all() -> KubernetesSpec:
    kubernetes = {"labels": {"cost-center": "ml"}, "annotations": {"example.com/owner": "me"}, "active_deadline": "1d"}
    return rendered({"gpus": 1, "kubernetes": kubernetes})


def test_labels_annotations_and_a_deadline_that_policies_ask_for_have_settings() -> None:
    spec = open_to_all()
    assert refused("labels", pod_of(spec.pod), WANTED) == refused("labels", spec.owner, WANTED) == []
    assert refused("jobs", spec.owner, {"retries": 6}) == []
    plain = rendered({"gpus": 1})
    assert refused("labels", pod_of(plain.pod), WANTED) == ["annotations has no example.com/owner", "labels has no cost-center"]
    assert refused("jobs", plain.owner, {"retries": 2}) == ["the Job has no deadline", "the Job may be retried too often"]


_FORBIDDEN = [
    ("resources", lambda pod: pod["containers"][0]["resources"]["limits"].pop("ephemeral-storage"),
     "container trainer has no limits of ephemeral-storage"),
    ("resources", lambda pod: pod["containers"][0]["resources"]["requests"].update(memory="1Gi"),
     "container trainer is not promised its memory"),
    ("disks", lambda pod: pod["volumes"].append({"name": "x", "emptyDir": {}}), "volume x has no sizeLimit"),
    ("images", lambda pod: pod["containers"][0].update(image="a/b:1"), "container trainer: a/b:1 has no digest"),
    ("rights", lambda pod: pod.update(hostNetwork=True), "the pod has hostNetwork"),
    ("rights", lambda pod: pod.pop("automountServiceAccountToken"), "the pod has a token of the API"),
    ("rights", lambda pod: pod["securityContext"].pop("runAsNonRoot"), "the pod may run as root"),
    ("rights", lambda pod: pod["securityContext"].pop("seccompProfile"), "the pod has no seccomp profile"),
    ("rights", lambda pod: pod["volumes"].append({"name": "x", "nfs": {}}), "volume x is of the kind nfs"),
    ("rights", lambda pod: pod["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
     "container trainer may gain rights"),
    ("rights", lambda pod: pod["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
     "container trainer may write to its image"),
    ("rights", lambda pod: pod["containers"][0]["securityContext"].pop("capabilities"), "container trainer keeps capabilities"),
    ("rights", lambda pod: pod["containers"][0]["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
     "container trainer adds SYS_ADMIN"),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "change", "said"), _FORBIDDEN)
def test_a_policy_refuses_what_it_is_for(policy: str, change: Any, said: str) -> None:
    pod = deepcopy(PODS["one-node-one-gpu"])
    change(pod["spec"])
    assert refused(policy, pod) == [said]
