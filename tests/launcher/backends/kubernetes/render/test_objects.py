"""What a cluster would say to the objects of a run: their schemas, its Pod Security, and the length of every name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from launcher.backends.kubernetes.render.spec import KubernetesSpec
from launcher.backends.kubernetes.render.trainjob import CLUSTER, runtime
from tests.cluster_api.trainer import jobset_of
from tests.pod_security import violations
from tests.rendered import CASES, GOLDEN, rendered

VERSIONS = ["1.31", "1.32", "1.33", "1.34", "1.35", "1.36"]
JOBSET = json.loads((Path(__file__).parent / "jobset.schema.json").read_text())
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # RFC 1035
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def objects() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the golden files, for a TrainJob its JobSet, and for a JobSet the Job that its controller makes of it."""
    for file in sorted(GOLDEN.glob("*.yaml")):
        for obj in yaml.safe_load_all(file.read_text()):
            if obj["kind"] == "TrainJob":
                obj = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", **_jobset_of(obj)}
            yield f"{file.stem}/{obj['kind']}", obj
            for one in obj["spec"]["replicatedJobs"] if obj["kind"] == "JobSet" else ():
                job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "made"}, "spec": one["template"]["spec"]}
                yield f"{file.stem}/JobSet's Job", job


def _jobset_of(trainjob: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": trainjob["metadata"], "spec": jobset_of(runtime(CLUSTER), trainjob)}


OBJECTS = [(f"{name} {n}", obj) for n, (name, obj) in enumerate(objects())]
PODS = [(name, obj["spec"]["template"]) for name, obj in OBJECTS if obj["kind"] == "Job"]


def named(pairs: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    return [pytest.param(obj, id=name) for name, obj in pairs]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cluster_of_any_version_knows_every_field(version: str) -> None:
    for _, obj in OBJECTS:
        if obj["kind"] != "JobSet":
            kubernetes_validate.validate(obj, version, strict=True)


@pytest.mark.parametrize("field", ["podFailurePolcy", "backoffLimit"])
def test_a_wrong_field_is_found(field: str) -> None:
    job = deepcopy(next(obj for _, obj in OBJECTS if obj["kind"] == "Job"))
    job["spec"][field] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("jobset", named([(name, obj) for name, obj in OBJECTS if obj["kind"] == "JobSet"]))
def test_a_jobset_has_the_fields_that_its_controller_knows(jobset: dict[str, Any]) -> None:
    jsonschema.validate(jobset, JOBSET)
    wrong = deepcopy(jobset)
    wrong["spec"]["failurePolicy"]["rules"][0]["onJobFailureReasons"] = ["PodFailed"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, JOBSET)


@pytest.mark.parametrize("template", named(PODS))
def test_a_pod_passes_the_restricted_pod_security_standard(template: dict[str, Any]) -> None:
    assert violations(template["spec"]) == []
    assert template["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hostNetwork", True),
        ("hostPID", True),
        ("hostIPC", True),
        ("volumes.0", {"name": "runs", "hostPath": {"path": "/"}}),
        ("volumes.0", {"name": "runs", "nfs": {"server": "s", "path": "/"}}),
        ("securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}]),
        ("securityContext.runAsNonRoot", None),
        ("securityContext.runAsNonRoot", False),
        ("securityContext.runAsUser", 0),
        ("securityContext.seccompProfile", None),
        ("securityContext.seccompProfile", {"type": "Unconfined"}),
        ("securityContext.appArmorProfile", {"type": "Unconfined"}),
        ("securityContext.seLinuxOptions", {"type": "spc_t"}),
        ("securityContext.windowsOptions", {"hostProcess": True}),
        ("containers.0.securityContext.privileged", True),
        ("containers.0.securityContext.allowPrivilegeEscalation", None),
        ("containers.0.securityContext.capabilities", {"drop": ["NET_RAW"]}),
        ("containers.0.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        ("containers.0.securityContext.procMount", "Unmasked"),
        ("containers.0.securityContext.runAsUser", 0),
        ("containers.0.ports", [{"containerPort": 1, "hostPort": 1}]),
    ],
)
def test_the_standard_would_refuse_each_right_that_is_not_taken(path: str, value: Any) -> None:
    spec = deepcopy(PODS[0][1]["spec"])
    *parents, last = path.split(".")
    place = spec
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    place[int(last) if last.isdigit() else last] = value
    assert violations(spec) != []


# --- Names


def derived_names(spec: KubernetesSpec) -> Iterator[str]:
    """Every name that is made of a run's, by us and by the controllers, for the last pod."""
    yield from (one["metadata"]["name"] for one in spec.objects)
    host = f"{spec.job}-{spec.nodes - 1}" if spec.kind == "Job" else f"{spec.job}-node-0-{spec.nodes - 1}"
    yield from (host, f"{host}-x7k2p")


@pytest.mark.parametrize("kind", ["job", "jobset"])
@pytest.mark.parametrize("nodes", [1, 10, 11, 128])
@pytest.mark.parametrize(
    "run", ["exp_1-20261124-101112-beef", "1", "Exp.1__A", "a" * 100, "9" * 100, "x" + ".-_" * 30 + "x", "A-"]
)
def test_every_derived_name_is_one(run: str, nodes: int, kind: str) -> None:
    launch = {"gpus": 0, "nodes": nodes, "global_batch_size": 2 * nodes, "kubernetes": {"kind": kind}}
    spec = rendered(launch, run=run, user="Ω some.body@example.com", experiment_id="." + "e" * 80)
    for name in derived_names(spec):
        assert DNS_LABEL.fullmatch(name), name
        assert len(name) <= 63
    for obj in spec.objects:
        labels: Mapping[str, str] = obj["metadata"]["labels"]
        assert all(LABEL_VALUE.fullmatch(value) and len(value) <= 63 for value in labels.values()), labels
    assert spec.pod["metadata"]["labels"]["dpo-launcher/run"] == spec.owner["metadata"]["labels"]["dpo-launcher/run"]


def test_long_names_that_differ_at_their_end_stay_apart() -> None:
    first, second = rendered(run="a" * 99 + "b"), rendered(run="a" * 99 + "c")
    assert first.job != second.job
    assert first.owner["metadata"]["labels"] != second.owner["metadata"]["labels"]


@pytest.mark.parametrize("name", CASES)
def test_whoever_selects_a_runs_pods_finds_them(name: str) -> None:
    spec = rendered(**CASES[name])
    for obj in spec.objects:
        assert obj["metadata"].get("namespace") == spec.namespace
        if obj["kind"] == "Service":
            assert obj["spec"]["selector"] == {"batch.kubernetes.io/job-name": spec.job}
    for constraint in spec.pod["spec"].get("topologySpreadConstraints", []):
        assert constraint["labelSelector"]["matchLabels"].items() <= spec.pod["metadata"]["labels"].items()
    mounts = {one["name"] for one in spec.container["volumeMounts"]}
    assert mounts == {one["name"] for one in spec.pod["spec"]["volumes"]}
