"""Findings, from what was looked up."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.why import Explanation, machine, namespace
from launcher.why.doctor import Checkup, Finding, Work, then_here, then_there

APPLY = "kubectl apply -k k8s/overlays/cluster"


def is_ready(findings: list[Finding]) -> bool:
    return Checkup(tuple(findings), "launcher check").is_ready


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
    found = namespace.version(namespace.minor_of({"minor": minor}), "here")
    assert (found.state, found.detail) == (state, words)
    assert is_ready([found])


def test_a_version_that_submit_refuses_is_missing_what_runs_need():
    found = namespace.version(28, "here")
    said = "here, Kubernetes 1.28: its Jobs lack podReplacementPolicy, which 1.29 and newer have"
    assert (found.state, found.detail) == ("missing", said)
    assert not is_ready([found])


def test_a_namespace_that_is_not_there_is_made_by_the_overlay():
    assert namespace.namespace("dpo", None, APPLY) == [Finding("namespace", "missing", "dpo does not exist", APPLY)]


def test_a_namespace_without_the_standard_gets_the_label_that_is_missing():
    found = namespace.namespace("dpo", one("Namespace"), APPLY)
    assert [(each.what, each.state, each.is_needed) for each in found] == [
        ("namespace", "ok", True),
        ("pod security", "missing", False),
    ]
    assert found[1].command == "kubectl label namespace dpo pod-security.kubernetes.io/enforce=restricted"
    labels = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    assert [each.state for each in namespace.namespace("dpo", one("Namespace", metadata=labels), APPLY)] == ["ok"]


def test_a_context_without_a_namespace_is_told_how_to_get_one():
    (found,) = namespace.namespace("default", one("Namespace"), APPLY)
    assert found.command == "kubectl config set-context --current --namespace dpo"
    assert is_ready([found])


def test_what_is_denied_is_told_by_what_stops_working():
    assert [each.state for each in namespace.permissions({}, "dpo", APPLY)] == ["ok"]
    (found,) = namespace.permissions({"submit": ["create jobs", "delete jobs"]}, "dpo", APPLY)
    assert found.detail == "`launcher submit` needs permission to create jobs, delete jobs"
    assert "kubectl -n dpo create rolebinding" in str(found.command)
    assert not is_ready([found])
    (elsewhere,) = namespace.permissions({"submit": ["create jobs"]}, "default", namespace.applied_by(3, "default"))
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
    found = namespace.claim("dpo-runs", obj, "dpo", APPLY)
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
    found = namespace.reader(pods, "dpo", APPLY)
    assert (found.state, found.detail, found.command) == ("missing", words, command)


def test_a_reader_whose_registry_wants_a_login_gets_a_pull_secret():
    denied = Explanation(
        "unauthorized", "cannot pull r/dpo:1: permission denied by the registry, or image not found", "set a key"
    )
    found = namespace.reader([reading("ImagePullBackOff")], "dpo", APPLY, denied)
    patch = """'{"spec":{"template":{"spec":{"imagePullSecrets":[{"name":"SECRET"}]}}}}'"""
    assert found.command == f"kubectl -n dpo patch deployment dpo-tensorboard -p {patch}"
    create = "create it with: kubectl -n dpo create secret docker-registry registry"
    missing = Explanation("unauthorized", "cannot pull r/dpo:1: pull secret registry not found in the namespace", create)
    assert namespace.reader([reading("ImagePullBackOff")], "dpo", APPLY, missing).command == create


def test_a_reader_that_is_ready_is_one_among_others():
    assert namespace.reader([reading("ContainerCreating"), reading(ready=True)], "dpo", APPLY).state == "ok"


def test_a_secret_shows_its_keys_and_no_value_and_is_needed_by_some_runs_alone():
    assert namespace.secret("dpo-secrets", one("Secret", data={"HF_TOKEN": "aGY="})).detail == "has HF_TOKEN"
    missing = namespace.secret("dpo-secrets", None)
    assert missing.command == "launcher secrets push"
    assert is_ready([missing])


def test_addons_are_optional():
    found = [namespace.addon("JobSet", is_served=False, works=None), namespace.addon("Kueue", is_served=True, works=True)]
    assert [(each.what, each.state) for each in found] == [("JobSet", "missing"), ("Kueue", "ok")]
    assert is_ready(found)


def test_gpus_of_nodes_are_counted_as_the_scheduler_knows_them():
    gpus = one("Node", status={"allocatable": {"nvidia.com/gpu": "8"}})
    assert namespace.nodes([gpus, gpus, one("Node")]).detail == "3, of which 2 have GPUs: 16 in all, 8 on one"
    assert "device plugin" in namespace.nodes([one("Node")]).detail
    assert namespace.nodes([]).detail == "none now; runs wait for one"
    assert is_ready([namespace.nodes([one("Node")])])


def test_no_default_storage_class_matters_only_where_claims_are_not_bound():
    default = one("StorageClass", metadata={"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}})
    assert namespace.storage_class([default], are_bound=False).state == "ok"
    assert is_ready([namespace.storage_class([], are_bound=True)])
    assert not is_ready([namespace.storage_class([], are_bound=False)])


def test_what_is_missing_is_added_by_the_overlay_that_fits():
    workstation, cluster = "kubectl apply -k k8s/overlays/workstation", "kubectl apply -k k8s/overlays/cluster"
    assert namespace.applied_by(1, "dpo") == workstation
    assert namespace.applied_by(None, "dpo") == namespace.applied_by(4, "dpo") == cluster
    assert namespace.applied_by(1, "default") == f"{workstation} && kubectl config set-context --current --namespace dpo"
    assert namespace.applied_by(4, "team") == f"{cluster}, with namespace team (see k8s/README.md)"


def test_outside_a_checkout_what_is_missing_is_added_from_a_clone_of_this_version(monkeypatch, tmp_path):
    monkeypatch.setattr("launcher.published.__file__", str(tmp_path / "launcher" / "published.py"))
    clone = "git clone --branch v0.1.0 https://github.com/dpo-launcher/dpo-launcher && kubectl apply -k dpo-launcher/k8s/overlays"
    assert namespace.applied_by(1, "dpo") == f"{clone}/workstation"
    assert namespace.storage_class([], are_bound=False).command == f"{clone}/cluster"


def test_a_machine_needs_either_an_engine_or_the_packages():
    def checked(missing: list[str], reason: str | None) -> str:
        host = machine.host_packages(missing, "pip install …", has_engine=reason is None)
        return Checkup((host, machine.engine(reason)), "launcher check").sentence

    assert checked([], None) == checked(["torch"], None) == checked([], "no Docker engine") == "ready to train"
    assert checked(["torch"], "no Docker engine") == "1 problem", "one of the two is enough"


def test_an_image_is_built_in_a_checkout_and_pulled_elsewhere():
    states = (True, False, None)
    built, pulled = ([machine.image("i:1", is_built=each, is_there=there) for there in states] for each in (True, False))
    assert [one.detail for one in built[:2]] == ["i:1 is built", "i:1 is not built; `launcher run` builds it"]
    assert [one.detail for one in pulled[:2]] == ["i:1 is pulled", "i:1 is not pulled yet; the first run in a container pulls it"]
    assert [one.state for one in (*built, *pulled)] == ["ok", "missing", "unknown", "ok", "unknown", "unknown"]
    assert built[1].command == "launcher build"
    assert is_ready([*built, *pulled])


def test_a_gpu_that_the_engine_cannot_give_is_told_with_the_command():
    assert [each.state for each in machine.gpus(0, engine_runtimes=[])] == ["missing"]
    assert [each.state for each in machine.gpus(2, engine_runtimes=["runc", "nvidia"])] == ["ok"]
    assert "nvidia-ctk" in str(machine.gpus(2, engine_runtimes=["runc"])[1].command)


def test_secrets_that_are_named_and_not_set_are_told_with_their_experiments():
    needed = {"exp_1": ["HF_TOKEN"], "exp_2": ["HF_TOKEN", "OTHER"]}
    assert [each.detail for each in machine.secrets(needed, ["OTHER"])] == [
        "HF_TOKEN, needed by exp_1, exp_2, is not in .env or the environment"
    ]
    assert [each.state for each in machine.secrets(needed, ["HF_TOKEN", "OTHER"])] == ["ok"]


@pytest.mark.parametrize(
    ("work", "has_packages", "command"),
    [
        (Work(), True, "launcher demo"),
        (Work(), False, "launcher init"),
        (Work(("demo",)), True, "launcher demo"),
        (Work(("demo",), is_demo_done=True), True, "launcher init"),
        (Work(("demo", "exp_1")), True, "launcher check exp_1"),
        (Work(("exp_1", "exp_2")), False, "launcher check"),
        (Work(are_broken=True), True, "launcher check"),
        (Work(("exp_1",), are_broken=True), True, "launcher check"),
    ],
)
def test_a_machine_that_can_train_is_told_what_to_type_next(work, has_packages, command):
    assert Checkup((Finding("host", "ok", ""),), then_here(work, has_packages=has_packages)).next == command


@pytest.mark.parametrize(
    ("work", "command"),
    [
        (Work(), "launcher init"),
        (Work(("demo",)), "launcher submit demo"),
        (Work(("demo", "exp_1")), "launcher submit exp_1"),
        (Work(("exp_1", "exp_2")), "launcher submit EXP"),
        (Work(are_broken=True), "launcher check"),
    ],
)
def test_where_a_cluster_can_train_a_run_is_submitted_next(work, command):
    assert then_there(work) == command


def test_the_first_thing_that_is_required_and_missing_comes_before_all_others():
    host = machine.host_packages(["torch"], "pip install 'dpo-launcher[trainer]'", has_engine=False)
    engine = machine.engine("no Docker engine")
    found = Checkup((machine.gpus(0, engine_runtimes=None)[0], host, engine), then_here(Work(("exp_1",)), has_packages=False))
    assert found.next == found.json()["next"] == "pip install 'dpo-launcher[trainer]'"
    with_engine = machine.host_packages(["torch"], "pip install …", has_engine=True)
    assert Checkup((with_engine,), then_here(Work(("exp_1",)), has_packages=False)).next == "launcher check exp_1"
