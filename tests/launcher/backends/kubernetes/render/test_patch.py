"""``launch.kubernetes.pod``: merged last, judged by name and place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.backends.kubernetes.render.spec import KubernetesSpec, text
from launcher.backends.kubernetes.render.together import together
from launcher.errors import ExperimentError, Warned
from launcher.experiment.schema import Experiment
from launcher.job.job import plan
from tests.pod_fields import FILE
from tests.pod_fields import text as published
from tests.rendered import rendered


def patched(pod: str, **options: Any) -> KubernetesSpec:
    return rendered({"gpus": 1, "kubernetes": {"pod": yaml.safe_load(pod)}}, **options)


def container(spec: KubernetesSpec) -> Mapping[str, Any]:
    return spec.container


def refused(pod: str) -> list[str]:
    with pytest.raises(ExperimentError) as error:
        patched(pod)
    return [f"{one.where.removeprefix('launch.kubernetes.pod.')}: {one.what}" for one in error.value.mistakes]


def trainer(fields: str) -> str:
    return f"spec: {{containers: [{{name: trainer, {fields}}}]}}"


def test_the_list_of_fields_is_the_one_that_kubernetes_publishes() -> None:
    assert FILE.read_text() == published(), "run: python -m tests.pod_fields"


# --- How it is merged


def test_maps_are_merged_and_the_rest_of_the_pod_stays() -> None:
    before, after = rendered({"gpus": 1}).pod, patched("spec: {nodeSelector: {a: b}, schedulerName: volcano}").pod
    assert after["metadata"] == before["metadata"]
    assert after["spec"] == {**before["spec"], "nodeSelector": {"a": "b"}, "schedulerName": "volcano"}


def test_containers_variables_mounts_and_volumes_are_merged_by_their_keys() -> None:
    plain = rendered({"gpus": 1})
    spec = patched(
        "{spec: {volumes: [{name: shared, persistentVolumeClaim: {claimName: team}}], containers: [{name: trainer, "
        "env: [{name: OMP_NUM_THREADS, value: '7'}, {name: NCCL_IB_HCA, value: mlx5}], "
        "volumeMounts: [{name: shared, mountPath: /mnt/team}]}]}}"
    )
    (only,) = spec.pod["spec"]["containers"]
    changed = {one["name"]: one.get("value") for one in only["env"]}
    before = {one["name"]: one.get("value") for one in plain.container["env"]}
    assert changed == {**before, "OMP_NUM_THREADS": "7", "NCCL_IB_HCA": "mlx5"}
    assert only["volumeMounts"] == [*plain.container["volumeMounts"], {"name": "shared", "mountPath": "/mnt/team"}]
    volume = {"name": "shared", "persistentVolumeClaim": {"claimName": "team"}}
    assert spec.pod["spec"]["volumes"] == [*plain.pod["spec"]["volumes"], volume]
    assert {**only, "env": 0, "volumeMounts": 0} == {**plain.container, "env": 0, "volumeMounts": 0}


def test_a_variable_that_the_cluster_fills_in_replaces_a_value() -> None:
    spec = patched(trainer("env: [{name: OMP_NUM_THREADS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]"))
    (found,) = [one for one in spec.container["env"] if one["name"] == "OMP_NUM_THREADS"]
    assert found == {"name": "OMP_NUM_THREADS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}


def test_tolerations_are_added_to_those_of_the_run() -> None:
    own = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    spec = patched("spec: {tolerations: [{key: team, operator: Exists}]}")
    assert spec.pod["spec"]["tolerations"] == [own, {"key": "team", "operator": "Exists"}]


def test_null_removes_what_may_go() -> None:
    spec = patched(
        "{metadata: {annotations: {karpenter.sh/do-not-disrupt: null}}, spec: {tolerations: null, nodeSelector: null, "
        "containers: [{name: trainer, resources: {limits: {cpu: null}}}]}}"
    )
    assert spec.pod["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert "tolerations" not in spec.pod["spec"]
    assert set(spec.container["resources"]["limits"]) == {"memory", "ephemeral-storage", "nvidia.com/gpu"}
    assert set(spec.container["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"}


def test_tmp_may_lie_on_a_disk_of_its_own_and_an_empty_volume_gets_a_size_that_is_counted() -> None:
    disk = "ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Ti}}}}}"
    spec = patched(f"spec: {{volumes: [{{name: tmp, {disk}}}, {{name: scratch, emptyDir: {{}}}}]}}")
    volumes = {one["name"]: one for one in spec.pod["spec"]["volumes"]}
    assert list(volumes["tmp"]) == ["name", "ephemeral"]
    assert volumes["scratch"]["emptyDir"] == {"sizeLimit": "10Gi"}
    resources = spec.container["resources"]
    sizes = resources["requests"]["ephemeral-storage"], resources["limits"]["ephemeral-storage"]
    assert sizes == ("11Gi", "13Gi")  # logs and scratch; and the home


def test_a_sidecar_gets_the_rights_of_the_run_s_container() -> None:
    spec = patched("spec: {initContainers: [{name: proxy, image: a/b, restartPolicy: Always, securityContext: {runAsUser: 7}}]}")
    (sidecar,) = spec.pod["spec"]["initContainers"]
    assert sidecar["securityContext"] == {**spec.container["securityContext"], "runAsUser": 7}


def test_on_the_network_of_the_node_names_of_the_cluster_are_still_resolved_and_it_is_told() -> None:
    spec = patched("spec: {hostNetwork: true}")
    assert spec.pod["spec"]["dnsPolicy"] == "ClusterFirstWithHostNet"
    (told,) = [one for one in spec.notices if one.startswith("hostNetwork")]
    assert isinstance(told, Warned)
    assert told.endswith("it needs the label pod-security.kubernetes.io/enforce: privileged")
    assert patched("spec: {hostNetwork: true, dnsPolicy: Default}").pod["spec"]["dnsPolicy"] == "Default"


def test_memory_that_a_network_card_reads_may_be_locked_and_it_is_told() -> None:
    spec = patched(trainer("securityContext: {capabilities: {add: [IPC_LOCK]}}, resources: {limits: {rdma/hca: 1}}"))
    assert spec.container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    assert [one for one in spec.notices if one.startswith("the capability IPC_LOCK: refused by a namespace that enforces")]


def test_gpus_of_a_resource_claim_take_the_place_of_the_extended_resource() -> None:
    claim = "resourceClaims: [{name: gpu, resourceClaimTemplateName: gpus}]"
    use = "resources: {claims: [{name: gpu}], limits: {nvidia.com/gpu: null}}"
    spec = patched(f"spec: {{{claim}, containers: [{{name: trainer, {use}}}]}}")
    assert "nvidia.com/gpu" not in spec.container["resources"]["limits"]
    assert spec.container["resources"]["claims"] == [{"name": "gpu"}]
    assert refused(trainer("resources: {limits: {nvidia.com/gpu: null}}")) == [
        "spec.containers.0.resources.limits.nvidia.com/gpu: is refused: the number of GPUs has its own setting"
    ]


@pytest.mark.parametrize("kind", ["job", "jobset"])
def test_a_job_and_a_jobset_have_the_same_patched_pods(kind: str) -> None:
    launch = {"gpus": 0, "nodes": 2, "kubernetes": {"kind": kind, "pod": {"spec": {"schedulerName": "volcano"}}}}
    assert rendered(launch).pod["spec"]["schedulerName"] == "volcano"


def test_the_points_of_a_sweep_that_share_a_job_have_the_patched_pod() -> None:
    pod = yaml.safe_load(
        "{metadata: {annotations: {a: b}}, spec: {schedulerName: volcano, containers: [{name: trainer, "
        "env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]}]}}"
    )
    launch = {"gpus": 0, "kubernetes": {"pod": pod, "annotations": {"c": "d"}, "labels": {"e": "f"}}}
    jobs, specs = [], []
    for number in (1, 2):
        notes = {"sweep": {"name": "grid", "point": number, "settings": [f"hyperparameters.beta=0.{number}"]}}
        specs.append(rendered(launch, run=f"grid-{number}", notes=notes))
        fields = {"experiment_id": "1", "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data/answers", "launch": launch}
        job = plan(Experiment.parse(fields), run=f"grid-{number}", key="exp_1", gpus_there=0)
        jobs.append(replace(job, notes=notes))
    made = together("grid", 2, jobs, specs)
    assert made.pod["spec"]["schedulerName"] == "volcano"
    assert made.pod["metadata"]["annotations"].items() >= {"a": "b", "c": "d"}.items()
    assert made.pod["metadata"]["labels"].items() >= {"e": "f", "dpo-launcher/run": "grid"}.items()
    assert made.owner["metadata"]["annotations"]["c"] == "d"
    assert [one["name"] for one in made.container["env"]].count("NODE") == 1


# --- What it says


def test_each_change_is_told_with_its_place_in_the_file() -> None:
    env = ("launch", "kubernetes", "pod", "spec", "containers", 0, "env", 0, "value")
    origins = {("launch", "kubernetes", "pod", "spec", "schedulerName"): "e.yml:9", env: "e.yml:12"}
    pod = "spec: {schedulerName: volcano, containers: [{name: trainer, env: [{name: NCCL_DEBUG, value: INFO}]}]}"
    spec = patched(pod, origins=origins)
    assert [str(one) for one in spec.changes] == [
        "spec.schedulerName (e.yml:9)", "spec.containers.trainer.env.NCCL_DEBUG (e.yml:12)",
    ]  # fmt: skip
    assert "# launch.kubernetes.pod sets spec.schedulerName (e.yml:9), spec.containers.trainer.env.NCCL_DEBUG" in text(spec)


# --- What it may not


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        ("affinity: {}", "affinity: unknown field in a PodTemplateSpec of Kubernetes 1.36"),
        ("spec: {hostnetwork: true}", "spec.hostnetwork: unknown field in a PodSpec of Kubernetes 1.36"),
        (trainer("env: [{name: A, value: 1}]"), "spec.containers.0.env.0.value: must be text"),
        (trainer("env: [{value: a}]"), "spec.containers.0.env.0: has no name, which identifies it for the merge"),
        ("spec: {hostNetwork: 'yes'}", "spec.hostNetwork: must be true or false"),
        ("spec: {priority: true}", "spec.priority: must be a whole number"),
        ("spec: {tolerations: {}}", "spec.tolerations: must be a list"),
        ("spec: {affinity: [a]}", "spec.affinity: must be a mapping"),
        (trainer("resources: {limits: {a/b: much}}"), "spec.containers.0.resources.limits.a/b: must be a quantity, such as"),
    ],
)
def test_an_unknown_field_or_a_wrong_type_is_named(pod: str, said: str) -> None:
    (found,) = refused(pod)
    assert found.startswith(said)


_OWN = {
    "metadata: {labels: {dpo-launcher/run: x}}": "metadata.labels.dpo-launcher/run",
    "metadata: {labels: {app.kubernetes.io/name: x}}": "metadata.labels.app.kubernetes.io/name",
    "metadata: {labels: null}": "metadata.labels",
    "metadata: {name: x}": "metadata.name",
    "spec: null": "spec",
    "spec: {restartPolicy: Always}": "spec.restartPolicy",
    "spec: {subdomain: x}": "spec.subdomain",
    "spec: {hostname: x}": "spec.hostname",
    "spec: {hostPID: true}": "spec.hostPID",
    "spec: {hostIPC: true}": "spec.hostIPC",
    "spec: {shareProcessNamespace: true}": "spec.shareProcessNamespace",
    "spec: {automountServiceAccountToken: true}": "spec.automountServiceAccountToken",
    "spec: {serviceAccountName: x}": "spec.serviceAccountName",
    "spec: {priorityClassName: x}": "spec.priorityClassName",
    "spec: {securityContext: null}": "spec.securityContext",
    "spec: {securityContext: {runAsNonRoot: false}}": "spec.securityContext.runAsNonRoot",
    "spec: {securityContext: {runAsNonRoot: null}}": "spec.securityContext.runAsNonRoot",
    "spec: {securityContext: {runAsUser: 0}}": "spec.securityContext.runAsUser",
    "spec: {securityContext: {seccompProfile: {type: Unconfined}}}": "spec.securityContext.seccompProfile.type",
    "spec: {volumes: [{name: h, hostPath: {path: /}}]}": "spec.volumes.0.hostPath",
    "spec: {volumes: [{name: runs, emptyDir: {}}]}": "spec.volumes.0",
    "spec: {volumes: null}": "spec.volumes",
    "spec: {containers: [{name: other, image: x}]}": "spec.containers.0",
    "spec: {initContainers: [{name: i, image: x, securityContext: {privileged: true}}]}":
        "spec.initContainers.0.securityContext.privileged",
    trainer("image: x"): "spec.containers.0.image",
    trainer("command: [x]"): "spec.containers.0.command",
    trainer("args: [x]"): "spec.containers.0.args",
    trainer("securityContext: {privileged: true}"): "spec.containers.0.securityContext.privileged",
    trainer("securityContext: {allowPrivilegeEscalation: true}"): "spec.containers.0.securityContext.allowPrivilegeEscalation",
    trainer("securityContext: {readOnlyRootFilesystem: false}"): "spec.containers.0.securityContext.readOnlyRootFilesystem",
    trainer("securityContext: {capabilities: {add: [SYS_ADMIN]}}"): "spec.containers.0.securityContext.capabilities.add",
    trainer("securityContext: {capabilities: {drop: []}}"): "spec.containers.0.securityContext.capabilities.drop",
    trainer("securityContext: {procMount: Unmasked}"): "spec.containers.0.securityContext.procMount",
    trainer("env: [{name: DPO_RUN, value: x}]"): "spec.containers.0.env.0",
    trainer("env: [{name: MY_TOKEN, value: x}]"): "spec.containers.0.env.0",
    trainer("resources: {limits: {memory: 1Gi}}"): "spec.containers.0.resources.limits.memory",
    trainer("resources: {requests: {cpu: '1'}}"): "spec.containers.0.resources.requests.cpu",
    trainer("volumeMounts: [{name: x, mountPath: /dpo}]"): "spec.containers.0.volumeMounts.0",
    trainer("volumeMounts: [{name: x, mountPath: /dpo/runs/y}]"): "spec.containers.0.volumeMounts.0",
    trainer("volumeMounts: [{name: x, mountPath: /}]"): "spec.containers.0.volumeMounts.0",
    trainer("volumeMounts: [{name: x, mountPath: /usr/lib}]"): "spec.containers.0.volumeMounts.0",
    trainer("volumeMounts: [{name: x, mountPath: relative}]"): "spec.containers.0.volumeMounts.0",
    trainer("ports: [{containerPort: 1, hostPort: 1}]"): "spec.containers.0.ports.0.hostPort",
}  # fmt: skip


@pytest.mark.parametrize("pod", _OWN)
def test_what_a_run_lives_on_and_what_gives_rights_is_refused_by_name(pod: str) -> None:
    (found,) = refused(pod)
    assert found.startswith(f"{_OWN[pod]}: is refused: ")


def test_all_that_is_refused_is_told_at_once() -> None:
    assert len(refused("spec: {hostPID: true, hostIPC: true, containers: [{name: trainer, image: x}]}")) == 3


def test_a_refusal_points_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from launcher.launch.rendered import Choice, rendered_for_cluster

    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "e.yml").write_text(
        "exp_1:\n  experiment_id: 1\n  model_name: a/b\n  datasets_path: s3://bucket/d\n  launch:\n    image: a/b\n    gpus: 0\n"
        "    kubernetes:\n      pod:\n        spec:\n          schedulerName: volcano\n          hostPID: true\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExperimentError) as error:
        rendered_for_cluster(Choice("exp_1"))
    assert str(error.value).startswith("configs/e.yml:12:20: launch.kubernetes.pod.spec.hostPID: is refused: ")
    there = rendered_for_cluster(Choice("exp_1", ("launch.kubernetes.pod.spec.hostPID=false",)))
    places = [one.origin for one in there.spec.changes]  # type: ignore[union-attr]
    assert places == ["configs/e.yml:11", "--set"]
