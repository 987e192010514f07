"""`launcher doctor`, on this machine and against the API emulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster_api import controllers
from tests.k8s.built import REPOSITORY, built
from tests.waiting import finished

INSTALL = "kubectl apply --server-side -f https://github.com/kubernetes-sigs/{}/releases/latest/download/manifests.yaml"


def doctor(home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    there = {**os.environ, "DOCKER_HOST": "unix:///no/such/engine", "HOME": str(home), "CUDA_VISIBLE_DEVICES": "", **env}
    command = [sys.executable, "-m", "launcher", "doctor", *args]
    return finished(command, cwd=home, env=there, capture_output=True, text=True, timeout=300, check=False)


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {one["what"]: one for one in json.loads(done.stdout)["findings"]}


def test_this_machine_without_an_engine_trains_on_the_host(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    launch = {"launch": {"secrets": ["HF_TOKEN"]}}
    (tmp_path / "configs" / "a.yml").write_text(yaml.safe_dump({"exp_1": {"experiment_id": 1, **launch}}))
    done = doctor(tmp_path, "--json")
    found = findings(done)
    assert done.returncode == 0
    assert (found["host"]["state"], found["docker"]["state"], found["docker"]["is_needed"]) == ("ok", "missing", False)
    assert found["secrets"]["detail"] == "HF_TOKEN, needed by exp_1, is not in .env or the environment"
    (tmp_path / ".env").write_text("HF_TOKEN=hf_notarealtoken\n")
    again = doctor(tmp_path, "--json")
    assert findings(again)["secrets"]["state"] == "ok"
    assert "notareal" not in again.stdout
    assert json.loads(again.stdout)["next"] == "launcher check exp_1"


def test_an_empty_folder_is_told_to_train_the_demo_and_one_with_a_broken_file_to_check_it(tmp_path: Path) -> None:
    assert doctor(tmp_path).stdout.splitlines()[-2:] == ["ready to train", "next: launcher demo"]
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yml").write_text("exp_1: {experiment_id: 1\n")
    assert doctor(tmp_path).stdout.splitlines()[-1] == "next: launcher check"


def apply(api: Any, folder: str) -> None:
    """What `kubectl apply -k` and the controllers make of a folder of k8s/."""
    for obj in built(folder):
        if obj["kind"] in ("RoleBinding", "Role", "ServiceAccount", "ResourceQuota", "NetworkPolicy", "Service"):
            continue
        api.objects.put(obj | ({"status": {"phase": "Bound", **obj["spec"]}} if obj["kind"].endswith("Claim") else {}))
        if obj["kind"] == "Deployment":
            pod = {"kind": "Pod", **obj["spec"]["template"]}
            api.objects.put({**pod, "metadata": {**pod["metadata"], "name": "dpo-tensorboard-1", "namespace": "dpo"}})


@pytest.fixture
def cluster(cluster_api: Any) -> Any:
    cluster_api.objects.put({"kind": "Node", "metadata": {"name": "n"}, "status": {"allocatable": {"nvidia.com/gpu": "1"}}})
    return cluster_api


def test_an_empty_cluster_is_told_to_apply_the_overlay(tmp_path: Path, cluster: Any) -> None:
    done = doctor(tmp_path, "--cluster", "-n", "dpo", KUBECONFIG=str(cluster.kubeconfig))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"ok       cluster    {cluster.url} (context emulator), Kubernetes 1.36",
        "missing  namespace  dpo does not exist",
        "                    → kubectl apply -k k8s/overlays/workstation",
        "1 problem",
        "next: kubectl apply -k k8s/overlays/workstation",
    ]


def test_a_cluster_to_which_the_overlay_was_applied_is_ready(tmp_path: Path, cluster: Any) -> None:
    apply(cluster, "overlays/workstation")
    controllers.running(cluster, "dpo-tensorboard-1", "dpo")
    controllers.condition(cluster, "pods", "dpo-tensorboard-1", "Ready", namespace="dpo")
    done = doctor(tmp_path, "-n", "dpo", KUBECONFIG=str(cluster.kubeconfig))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"ok       cluster             {cluster.url} (context emulator), Kubernetes 1.36\n"
        "ok       namespace           dpo, Pod Security restricted\n"
        "ok       permissions         everything that the launcher needs in dpo\n"
        "ok       claim dpo-runs      bound, ReadWriteMany\n"
        "ok       claim dpo-cache     bound, ReadWriteMany\n"
        "ok       reader              dpo-tensorboard-1 is ready\n"
        "ok       pods                a run's pod is accepted (dry run)\n"
        "absent   secret dpo-secrets  not found: experiments with a token, S3 or Google Sheets need it\n"
        "                             → launcher secrets push\n"
        "absent   JobSet              not installed: runs over several nodes use an Indexed Job, which needs no add-on\n"
        f"                             → {INSTALL.format('jobset')}\n"
        "absent   Kueue               not installed: no queues; --queue does not work\n"
        f"                             → {INSTALL.format('kueue')}\n"
        "ok       nodes               1, of which 1 has GPUs: 1 in all, 1 on one\n"
        "absent   StorageClass        no default (the cluster has none); the claims are bound and do not need one\n"
        "ready to train\n"
        "next: launcher init\n"
    )


def test_what_may_not_be_done_is_missing_and_what_may_not_be_seen_is_unknown(tmp_path: Path, cluster: Any) -> None:
    apply(cluster, "overlays/workstation")
    cluster.deny("create", "jobs")
    cluster.deny("*", "pods/exec")
    for resource in ("nodes", "storageclasses", "secrets", "persistentvolumeclaims", "namespaces"):
        cluster.deny("*", resource)
    done = doctor(tmp_path, "-n", "dpo", "--json", KUBECONFIG=str(cluster.kubeconfig))
    found = json.loads(done.stdout)["findings"]
    assert done.returncode == 1
    denied = [one["detail"] for one in found if one["what"] == "permissions"]
    assert "`launcher download` needs permission to create pods/exec, get pods/exec" in denied
    assert any(words.startswith("`launcher submit` needs permission to create jobs") for words in denied)
    unknown = {one["what"] for one in found if one["state"] == "unknown"}
    assert unknown == {"namespace", "claim dpo-runs", "claim dpo-cache", "secret dpo-secrets", "nodes", "StorageClass"}


def asked(tmp_path: Path, cluster: Any) -> dict[str, dict[str, Any]]:
    return findings(doctor(tmp_path, "-n", "dpo", "--json", KUBECONFIG=str(cluster.kubeconfig)))


def test_trainer_is_told_where_it_is_served_with_what_keeps_runs_from_being_trainjobs(tmp_path: Path, cluster: Any) -> None:
    apply(cluster, "overlays/workstation")
    assert "Trainer" not in asked(tmp_path, cluster)
    cluster.addons |= {"JobSet", "Trainer"}
    found = asked(tmp_path, cluster)["Trainer"]
    assert (found["state"], found["is_needed"]) == ("missing", False)
    assert found["command"].startswith("kubectl -n dpo apply -f k8s/trainjob/runtime.yaml")
    runtime = yaml.safe_load((REPOSITORY / "k8s" / "trainjob" / "runtime.yaml").read_text())
    cluster.objects.put({**runtime, "metadata": {**runtime["metadata"], "namespace": "dpo"}})
    found = asked(tmp_path, cluster)["Trainer"]
    assert (found["state"], found["detail"]) == ("ok", "installed; the namespace has the runtime for --kind trainjob")
    cluster.deny("create", "trainjobs")
    assert asked(tmp_path, cluster)["Trainer"]["state"] == "unknown"


def test_an_add_on_whose_kinds_are_served_is_told_from_one_that_works(tmp_path: Path, cluster: Any) -> None:
    apply(cluster, "overlays/workstation")
    cluster.addons |= {"JobSet", "Kueue"}
    working = asked(tmp_path, cluster)
    assert [working[name]["state"] for name in ("JobSet", "Kueue")] == ["ok", "ok"]
    cluster.idle |= {"JobSet"}
    cluster.silent |= {"Kueue"}
    found = asked(tmp_path, cluster)
    assert [(found[name]["state"], found[name]["is_needed"]) for name in ("JobSet", "Kueue")] == [("missing", False)] * 2
    assert found["JobSet"]["detail"] == (
        "its CRDs are installed, but its controller is probably down: its webhook did not fill in a JobSet in a dry run; "
        "runs over several nodes use an Indexed Job, which needs no add-on"
    )
    assert found["JobSet"]["command"] == "kubectl -n jobset-system get deployments,pods"
    cluster.deny("create", "jobsets")
    assert asked(tmp_path, cluster)["JobSet"]["state"] == "unknown"


def test_a_cordoned_node_takes_no_run_and_its_gpus_do_not_count(tmp_path: Path, cluster: Any) -> None:
    apply(cluster, "overlays/workstation")
    cluster.objects.change("nodes", "n", lambda node: node.setdefault("spec", {}).update(unschedulable=True))
    alone = asked(tmp_path, cluster)["nodes"]
    assert (alone["state"], alone["is_needed"]) == ("missing", True)
    assert (alone["detail"], alone["command"]) == (
        "1, none takes pods; n is cordoned and takes no new pod", "kubectl uncordon n",
    )  # fmt: skip
    controllers.node(cluster, "m", gpus=2)
    both = asked(tmp_path, cluster)["nodes"]
    assert (both["state"], both["detail"]) == (
        "ok", "2, of which 1 has GPUs: 2 in all, 2 on one; n is cordoned and takes no new pod",
    )  # fmt: skip


def test_what_keeps_the_reader_and_a_server_from_running_is_explained_as_for_a_run(tmp_path: Path, cluster: Any) -> None:
    apply(cluster, "overlays/workstation")
    few = "0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available."
    controllers.unschedulable(cluster, "dpo-tensorboard-1", few, "dpo")
    labels = {"app.kubernetes.io/name": "dpo-launcher-serve", "dpo-launcher/serve": "chat"}
    pod = {"metadata": {"name": "serve-chat-1", "namespace": "dpo", "labels": labels}}
    cluster.objects.put({"kind": "Pod", **pod, "spec": {"containers": [{"name": "server", "image": "vllm:1"}]}})
    raw = 'failed to pull image "vllm:1": 429 Too Many Requests'
    controllers.waiting(cluster, "serve-chat-1", "ErrImagePull", raw, "dpo")
    found = asked(tmp_path, cluster)
    assert found["reader"]["detail"] == (
        "dpo-tensorboard-1: no node can take the reader pod: the only node has too little memory free"
    )
    assert found["server chat"]["detail"] == "serve-chat-1: cannot pull vllm:1: the registry's pull limit is reached"


def test_a_namespace_that_refuses_pods_says_why(tmp_path: Path, cluster: Any) -> None:
    apply(cluster, "overlays/workstation")
    cluster.refuse("policy.example.com", lambda plural, _: "a team must be named" if plural == "pods" else None)
    found = asked(tmp_path, cluster)["pods"]
    words = "admission webhook policy.example.com refuses the run's pods: a team must be named"
    assert (found["state"], found["detail"]) == ("missing", f"a run's pod is refused: {words}")


def test_a_policy_about_images_says_nothing_of_those_of_runs(tmp_path: Path, cluster: Any) -> None:
    def foreign(plural: str, obj: dict[str, Any]) -> str | None:
        container = obj["spec"]["containers"][0] if plural == "pods" else {}
        if container and "ephemeral-storage" not in container["resources"]["limits"]:
            return "a container must limit its disk"
        return "images come from registry.example.com" if container else None

    apply(cluster, "overlays/workstation")
    cluster.refuse("policy.example.com", foreign)
    found = asked(tmp_path, cluster)["pods"]
    words = "admission webhook policy.example.com refuses the run's pods: images come from registry.example.com"
    assert (found["state"], found["detail"]) == ("unknown", f"tried with an image without a registry: {words}")
    assert found["command"] == "launcher submit EXP --registry registry.example.com/team"


def test_no_cluster_at_all_is_one_finding(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--cluster", KUBECONFIG=str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stdout.startswith("missing  cluster  no cluster: ")


def test_what_a_killed_submit_left_is_listed_with_the_command_that_removes_it(tmp_path: Path, cluster: Any) -> None:
    apply(cluster, "overlays/cluster")
    for name, job in (("left", None), ("alive", "Job")):
        labels = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "run", "dpo-launcher/run": name}
        metadata = {"name": name, "namespace": "dpo", "labels": labels, "creationTimestamp": "2026-11-01T00:00:00Z"}
        for kind in ("Service", "ConfigMap"):
            cluster.objects.put({"kind": kind, "metadata": metadata})
        young = {**metadata, "name": f"{name}-data", "creationTimestamp": controllers.now()}
        cluster.objects.put({"kind": "ConfigMap", "metadata": young})
        if job:
            spec = {"template": {"metadata": {}, "spec": {"containers": [{"name": "trainer"}]}}}
            annotations = {"dpo-launcher/run": name, "dpo-launcher/folder": "out/runs/alive", "dpo-launcher/nodes": "1"}
            cluster.objects.put({"kind": job, "metadata": {**metadata, "annotations": annotations}, "spec": spec})
    found = findings(doctor(tmp_path, "-n", "dpo", "--json", KUBECONFIG=str(cluster.kubeconfig)))
    (left,) = [one for what, one in found.items() if what.startswith("left by ")]
    assert left["detail"].startswith("Service left, ConfigMap left: nothing owns them, because a submit was killed")
    assert (left["what"], left["state"], left["command"], left["is_needed"]) == (
        "left by left", "unknown", "launcher rm left -n dpo", False
    )  # fmt: skip
