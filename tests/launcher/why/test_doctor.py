"""Findings, from what was looked up."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.why import doctor
from launcher.why.doctor import Checkup, Finding

APPLY = "kubectl apply -k k8s/overlays/cluster"


def is_ready(findings: list[Finding]) -> bool:
    return Checkup(tuple(findings)).is_ready


def one(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", **more.pop("metadata", {})}, **more}


@pytest.mark.parametrize(
    ("minor", "state", "words"),
    [
        ("36", "ok", "here, Kubernetes 1.36"),
        ("31+", "ok", "here, Kubernetes 1.31"),
        ("29", "unknown", "here, Kubernetes 1.29: older than the tested 1.31 to 1.36"),
        ("37", "unknown", "here, Kubernetes 1.37: newer than the tested 1.31 to 1.36"),
    ],
)
def test_a_version_that_nobody_has_tried_is_said_and_not_refused(minor, state, words):
    found = doctor.version(minor, "here")
    assert (found.state, found.detail) == (state, words)
    assert is_ready([found])


def test_a_namespace_that_is_not_there_is_made_by_the_overlay():
    assert doctor.namespace("dpo", None, APPLY) == [Finding("namespace", "missing", "dpo does not exist", APPLY)]


def test_a_namespace_without_the_standard_gets_the_label_that_is_missing():
    found = doctor.namespace("dpo", one("Namespace"), APPLY)
    assert [(each.what, each.state, each.is_needed) for each in found] == [
        ("namespace", "ok", True),
        ("pod security", "missing", False),
    ]
    assert found[1].command == "kubectl label namespace dpo pod-security.kubernetes.io/enforce=restricted"
    labels = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    assert [each.state for each in doctor.namespace("dpo", one("Namespace", metadata=labels), APPLY)] == ["ok"]


def test_a_context_without_a_namespace_is_told_how_to_get_one():
    (found,) = doctor.namespace("default", one("Namespace"), APPLY)
    assert found.command == "kubectl config set-context --current --namespace dpo"
    assert is_ready([found])


def test_what_is_denied_is_told_by_what_stops_working():
    assert [each.state for each in doctor.permissions({}, "dpo", APPLY)] == ["ok"]
    (found,) = doctor.permissions({"submit": ["create jobs", "delete jobs"]}, "dpo", APPLY)
    assert found.detail == "`launcher submit` needs permission to create jobs, delete jobs"
    assert "kubectl -n dpo create rolebinding" in str(found.command)
    assert not is_ready([found])
    (elsewhere,) = doctor.permissions({"submit": ["create jobs"]}, "default", doctor.applied_by(3, "default"))
    assert "--namespace dpo; then, as administrator: kubectl -n dpo create rolebinding" in str(elsewhere.command)


@pytest.mark.parametrize(
    ("obj", "state", "words"),
    [
        (None, "missing", "not found"),
        (one("PersistentVolumeClaim", spec={}, status={"phase": "Lost"}), "missing", "its volume is gone"),
        (one("PersistentVolumeClaim", spec={}, status={"phase": "Pending"}), "unknown", "not bound: it is bound with its first "
         "pod, or no volume fits"),
        (one("PersistentVolumeClaim", spec={}, status={"phase": "Bound", "accessModes": ["ReadWriteMany"]}), "ok",
         "bound, ReadWriteMany"),
        (one("PersistentVolumeClaim", spec={"accessModes": ["ReadWriteOnce"]}, status={"phase": "Bound"}), "ok",
         "bound, ReadWriteOnce: runs have one node, and TensorBoard must run on the same node"),
    ],
)  # fmt: skip
def test_a_claim_says_whether_it_is_bound_and_what_its_mode_means(obj, state, words):
    found = doctor.claim("dpo-runs", obj, "dpo", APPLY)
    assert (found.state, found.detail) == (state, words)


def reading(reason: str | None = None, ready: bool = False) -> dict[str, Any]:
    waiting = {"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]} if reason else {}
    return one("Pod", status={"phase": "Pending", "conditions": [{"type": "Ready", "status": str(ready)}], **waiting})


@pytest.mark.parametrize(
    ("pods", "words", "command"),
    [
        ([], "no TensorBoard pod: logs of finished runs and downloads need it", APPLY),
        ([reading("ImagePullBackOff")], "x: its image cannot be pulled (ImagePullBackOff)",
         "kubectl -n dpo set image deployment/dpo-tensorboard tensorboard=IMAGE"),
        ([reading("CrashLoopBackOff")], "x is not ready (CrashLoopBackOff)", "kubectl -n dpo describe pod x"),
        ([reading()], "x is not ready (Pending)", "kubectl -n dpo describe pod x"),
    ],
)  # fmt: skip
def test_a_reader_that_is_not_there_or_not_ready_is_missing(pods, words, command):
    found = doctor.reader(pods, "dpo", APPLY)
    assert (found.state, found.detail, found.command) == ("missing", words, command)


def test_a_reader_that_is_ready_is_one_among_others():
    assert doctor.reader([reading("ContainerCreating"), reading(ready=True)], "dpo", APPLY).state == "ok"


def test_a_secret_shows_its_keys_and_no_value_and_is_needed_by_some_runs_alone():
    assert doctor.secret("dpo-secrets", one("Secret", data={"HF_TOKEN": "aGY="})).detail == "has HF_TOKEN"
    missing = doctor.secret("dpo-secrets", None)
    assert missing.command == "launcher secrets push"
    assert is_ready([missing])


def test_addons_are_optional():
    found = [doctor.addon("JobSet", is_served=False, works=None), doctor.addon("Kueue", is_served=True, works=True)]
    assert [(each.what, each.state) for each in found] == [("JobSet", "missing"), ("Kueue", "ok")]
    assert is_ready(found)


def test_gpus_of_nodes_are_counted_as_the_scheduler_knows_them():
    gpus = one("Node", status={"allocatable": {"nvidia.com/gpu": "8"}})
    assert doctor.nodes([gpus, gpus, one("Node")]).detail == "3, of which 2 have GPUs: 16 in all, 8 on one"
    assert "device plugin" in doctor.nodes([one("Node")]).detail
    assert doctor.nodes([]).detail == "none now; runs wait for one"
    assert is_ready([doctor.nodes([one("Node")])])


def test_no_default_storage_class_matters_only_where_claims_are_not_bound():
    default = one("StorageClass", metadata={"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}})
    assert doctor.storage_class([default], are_bound=False).state == "ok"
    assert is_ready([doctor.storage_class([], are_bound=True)])
    assert not is_ready([doctor.storage_class([], are_bound=False)])


def test_what_is_missing_is_added_by_the_overlay_that_fits():
    workstation, cluster = "kubectl apply -k k8s/overlays/workstation", "kubectl apply -k k8s/overlays/cluster"
    assert doctor.applied_by(1, "dpo") == workstation
    assert doctor.applied_by(None, "dpo") == doctor.applied_by(4, "dpo") == cluster
    assert doctor.applied_by(1, "default") == f"{workstation} && kubectl config set-context --current --namespace dpo"
    assert doctor.applied_by(4, "team") == f"{cluster}, with namespace team (see k8s/README.md)"


def test_a_machine_needs_either_an_engine_or_the_packages():
    def ready(missing: list[str], reason: str | None) -> bool:
        host = doctor.host_packages(missing, "pip install …", has_engine=reason is None)
        return is_ready([host, doctor.engine(reason, has_packages=not missing)])

    assert ready([], None)
    assert ready(["torch"], None)
    assert ready([], "no Docker engine")
    assert not ready(["torch"], "no Docker engine")


def test_an_image_is_built_in_a_checkout_and_pulled_elsewhere():
    states = (True, False, None)
    built, pulled = ([doctor.image("i:1", is_built=each, is_there=there) for there in states] for each in (True, False))
    assert [one.detail for one in built[:2]] == ["i:1 is built", "i:1 is not built; `launcher run` builds it"]
    assert [one.detail for one in pulled[:2]] == ["i:1 is pulled", "i:1 is not pulled yet; `launcher run` pulls it"]
    assert [one.state for one in (*built, *pulled)] == ["ok", "missing", "unknown", "ok", "unknown", "unknown"]
    assert built[1].command == "launcher build"
    assert is_ready([*built, *pulled])


def test_a_gpu_that_the_engine_cannot_give_is_told_with_the_command():
    assert [each.state for each in doctor.gpus(0, engine_runtimes=[])] == ["missing"]
    assert [each.state for each in doctor.gpus(2, engine_runtimes=["runc", "nvidia"])] == ["ok"]
    assert "nvidia-ctk" in str(doctor.gpus(2, engine_runtimes=["runc"])[1].command)


def test_secrets_that_are_named_and_not_set_are_told_with_their_experiments():
    needed = {"exp_1": ["HF_TOKEN"], "exp_2": ["HF_TOKEN", "OTHER"]}
    assert [each.detail for each in doctor.secrets(needed, ["OTHER"])] == [
        "HF_TOKEN, needed by exp_1, exp_2, is not in .env or the environment"
    ]
    assert [each.state for each in doctor.secrets(needed, ["HF_TOKEN", "OTHER"])] == ["ok"]
