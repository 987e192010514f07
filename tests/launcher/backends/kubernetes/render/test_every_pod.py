"""Every kind of pod that is rendered has what a cluster asks of pods, or leaves it out for a reason that is stated here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml

from launcher.backends.kubernetes.render.serving import Server, Source, text
from launcher.backends.kubernetes.render.spec import KubernetesSpec
from launcher.backends.kubernetes.render.together import together
from launcher.backends.kubernetes.submit.staging import staging_job
from launcher.experiment.schema import Experiment
from launcher.job.job import plan
from launcher.job.serving import Served
from tests.k8s.built import built
from tests.launcher.backends.kubernetes.render.test_together import points
from tests.pod_security import violations
from tests.rendered import large, rendered, small

KUBERNETES: dict[str, Any] = {
    "annotations": {"example.com/owner": "research"},
    "image_pull_secrets": ["registry"],
    "labels": {"cost-center": "7"},
    "node_selector": {"pool": "gpus"},
    "pod": {"metadata": {"labels": {"azure.workload.identity/use": "true"}}},
    "run_as": 2000,
    "service_account": "trainer",
    "tolerations": [{"key": "team", "operator": "Exists"}],
}
OF_PODS: dict[str, Any] = {**KUBERNETES, "runtime_class": "nvidia", "priority_class": "training"}
CALLER = {"HTTPS_PROXY": "http://proxy:3128"}
CA = "-----BEGIN CERTIFICATE-----\n"
GPU = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


@dataclass(frozen=True)
class Shown:
    """A pod's template and the container that is looked at."""

    metadata: Mapping[str, Any]
    pod: Mapping[str, Any]
    container: Mapping[str, Any]

    @property
    def env(self) -> dict[str, Any]:
        return {one["name"]: one.get("value") for one in self.container.get("env") or []}

    @property
    def mounts(self) -> set[str]:
        return {one["name"] for one in self.container["volumeMounts"]}

    @property
    def resources(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        return self.container["resources"]["requests"], self.container["resources"]["limits"]


def run(kind: str = "job", kubernetes: Mapping[str, Any] = OF_PODS, nodes: int = 1) -> KubernetesSpec:
    launch = {"gpus": 1, "nodes": nodes, "global_batch_size": 128, "kubernetes": {**kubernetes, "kind": kind}}
    return rendered(launch, local=replace(small(), ca=CA), caller=CALLER)


def of_template(template: Mapping[str, Any], *, init: bool = False) -> Shown:
    pod = template["spec"]
    return Shown(template["metadata"], pod, pod["initContainers" if init else "containers"][0])


def manifest(kubernetes: Mapping[str, Any]) -> str:
    """Of a server that fetches its adapter from a bucket, on a base of the hub."""
    launch = {"gpus": 1, "kubernetes": kubernetes}
    data = {"experiment_id": "1", "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "d", "launch": launch}
    job = plan(Experiment.parse(data), run="one", key="exp_1", gpus_there=1)
    served = Served("one", "Qwen/Qwen3-0.6B", "/dpo/adapter")
    source = Source("s3://models/one")
    return text(Server(job, served, "vllm/vllm-openai:v0.32.0", source, CALLER, CA), None)


def server() -> Mapping[str, Any]:
    found = next(one for one in yaml.safe_load_all(manifest(OF_PODS)) if one["kind"] == "Deployment")
    return dict(found["spec"]["template"])


def staging() -> Mapping[str, Any]:
    spec = rendered({"gpus": 1, "kubernetes": OF_PODS}, local=large(), caller=CALLER)
    return dict(staging_job(spec, spec.staged[0], "default", "abcd")["spec"]["template"])


def reader() -> Mapping[str, Any]:
    found = next(one for one in built("overlays/cluster") if one["kind"] == "Deployment")
    return dict(found["spec"]["template"])


def sweep() -> KubernetesSpec:
    launch, local = {"gpus": 1, "kubernetes": OF_PODS}, replace(small(), ca=CA)
    data = {"experiment_id": "1", "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data/answers", "launch": launch}
    jobs = [
        replace(plan(Experiment.parse(data), run=job.run, key="exp_1", gpus_there=1), notes=job.notes) for job in points({})[0]
    ]
    specs = [rendered(launch, run=job.run, notes=dict(job.notes), local=local, caller=CALLER) for job in jobs]
    return together("grid", 2, jobs, specs)


PODS: dict[str, Callable[[], Shown]] = {
    "job": lambda: of_template(run().pod),
    "jobset": lambda: of_template(run("jobset", nodes=2).pod),
    "trainjob": lambda: of_template(run("trainjob", KUBERNETES, nodes=2).pod),
    "sweep": lambda: of_template(sweep().pod),
    "staging": lambda: of_template(staging()),
    "server": lambda: of_template(server()),
    "fetch": lambda: of_template(server(), init=True),
    "reader": lambda: of_template(reader()),
}
EVERY: dict[str, Callable[[Shown], Any]] = {
    "restricted": lambda one: violations(one.pod) == [],
    "no token": lambda one: one.pod["automountServiceAccountToken"] is False,
    "no links": lambda one: one.pod["enableServiceLinks"] is False,
    "read-only root": lambda one: one.container["securityContext"]["readOnlyRootFilesystem"],
    "fsGroup": lambda one: one.pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch",
    "pull policy": lambda one: one.container.get("imagePullPolicy"),
    "image_pull_secrets": lambda one: one.pod.get("imagePullSecrets") == [{"name": "registry"}],
    "cpu": lambda one: all("cpu" in part for part in one.resources),
    "memory is promised": lambda one: len({part["memory"] for part in one.resources}) == 1,
    "disk": lambda one: all("ephemeral-storage" in part for part in one.resources),
    "sizes": lambda one: all("sizeLimit" in volume["emptyDir"] for volume in one.pod["volumes"] if "emptyDir" in volume),
    "/tmp": lambda one: "tmp" in one.mounts,
    "run_as": lambda one: one.pod["securityContext"]["runAsUser"] == 2000,
    "tolerations": lambda one: {"key": "team", "operator": "Exists"} in one.pod.get("tolerations", []),
    "GPU taints": lambda one: GPU in one.pod.get("tolerations", []),
    "node_selector": lambda one: one.pod.get("nodeSelector", {}).get("pool") == "gpus",
    "runtime_class": lambda one: one.pod.get("runtimeClassName") == "nvidia",
    "priority_class": lambda one: one.pod.get("priorityClassName") == "training",
    "service_account": lambda one: one.pod.get("serviceAccountName") == "trainer",
    "labels": lambda one: one.metadata["labels"].get("cost-center") == "7",
    "annotations": lambda one: one.metadata.get("annotations", {}).get("example.com/owner") == "research",
    "labels of the patch": lambda one: "azure.workload.identity/use" in one.metadata["labels"],
    "not moved": lambda one: one.metadata.get("annotations", {}).get("karpenter.sh/do-not-disrupt") == "true",
    "proxies": lambda one: one.env.get("HTTPS_PROXY") == CALLER["HTTPS_PROXY"],
    "certificates": lambda one: "ca" in one.mounts and one.env.get("SSL_CERT_FILE") == "/dpo/ca/ca.pem",
    "last words": lambda one: one.container.get("terminationMessagePolicy") == "FallbackToLogsOnError",
}
_OF_NO_RUN = "one pod for all runs: an overlay of k8s/ sets it, not an experiment"
_NO_FIELD = "runtimePatches of a TrainJob have no such field: preflight refuses the key, and names the runtime"
_NO_NETWORK = "it is reached by a command in it, and connects to nothing"
_OF_ANOTHER = "launch.kubernetes.pod is a patch of the container trainer, which a server has not: its manifest says so"
_SERVES = "a server that is moved serves again after a minute, and loses nothing"
LEFT_OUT: dict[tuple[str, str], str] = {
    ("trainjob", "runtime_class"): _NO_FIELD,
    ("trainjob", "priority_class"): _NO_FIELD,
    ("trainjob", "pull policy"): "the API server gives what its tag implies; preflight refuses an image that needs another one",
    ("staging", "proxies"): _NO_NETWORK,
    ("staging", "certificates"): _NO_NETWORK,
    ("server", "last words"): "its log stays with the pod, which is restarted and not replaced",
    **dict.fromkeys((("server", "labels of the patch"), ("fetch", "labels of the patch")), _OF_ANOTHER),
    **dict.fromkeys((("server", "not moved"), ("fetch", "not moved")), _SERVES),
    **dict.fromkeys((("reader", name) for name in ("proxies", "certificates")), _NO_NETWORK),
    ("reader", "last words"): "its log stays with the pod, which is restarted and not replaced",
    ("reader", "not moved"): "it is read again after it was moved",
    **{
        ("reader", name): _OF_NO_RUN
        for name in (
            "run_as", "tolerations", "node_selector", "runtime_class", "priority_class", "service_account", "labels",
            "annotations", "labels of the patch",
        )
    },
    ("reader", "GPU taints"): "it needs no GPU, and leaves such nodes to runs",
}  # fmt: skip


@pytest.mark.parametrize("what", EVERY)
@pytest.mark.parametrize("kind", PODS)
def test_a_pod_has_what_the_cluster_asks_for_or_says_why_not(kind: str, what: str) -> None:
    has = bool(EVERY[what](PODS[kind]()))
    assert has is ((kind, what) not in LEFT_OUT), LEFT_OUT.get((kind, what), f"{kind} has no {what}, for no reason")


def test_no_reason_is_of_a_pod_or_a_thing_that_does_not_exist() -> None:
    assert {kind for kind, _ in LEFT_OUT} <= PODS.keys()
    assert {what for _, what in LEFT_OUT} <= EVERY.keys()


def test_a_server_s_manifest_says_that_the_patch_of_runs_is_not_its_own() -> None:
    said = "# launch.kubernetes.pod is left out: it is a patch of the pods that train\n"
    assert (said in manifest(OF_PODS), said in manifest({})) == (True, False)
