"""The namespace of the suite, as far as that can be seen without a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.cluster.conftest import experiment
from tests.cluster.place import Place, Settings, image_override
from tests.pod_security import violations

KNOWN = {"DPO_TEST_IMAGE": "registry.example.com:5000/team/dpo-launcher:test", "DPO_TEST_NAMESPACE": "dpo-test-1"}


def made(folder: Path, **env: str) -> list[Mapping[str, Any]]:
    return list(yaml.safe_load_all(Place(Settings.of({**KNOWN, **env}), folder).manifests()))


@pytest.mark.parametrize("env", [{}, {"DPO_TEST_STORAGE_CLASS": "standard"}, {"DPO_TEST_HOST_PATH": "/var/lib/dpo-test"}])
def test_the_base_is_made_in_the_suites_own_namespace(tmp_path: Path, env: dict[str, str]) -> None:
    objects = made(tmp_path, **env)
    for obj in objects:
        kubernetes_validate.validate(obj, "1.36", strict=True)
    assert {obj["metadata"].get("namespace") for obj in objects} == {None, "dpo-test-1"}
    space = next(obj for obj in objects if obj["kind"] == "Namespace")
    assert space["metadata"]["name"] == "dpo-test-1"
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = next(obj for obj in objects if obj["kind"] == "Deployment")["spec"]["template"]["spec"]
    assert violations(pod) == []
    assert pod["containers"][0]["image"] == "registry.example.com:5000/team/dpo-launcher:test"
    bound = next(obj for obj in objects if obj["kind"] == "RoleBinding")["subjects"]
    assert bound == [{"kind": "ServiceAccount", "name": "dpo-launcher", "namespace": "dpo-test-1"}]


def test_a_host_path_becomes_two_volumes_that_only_these_claims_may_have(tmp_path: Path) -> None:
    objects = made(tmp_path, DPO_TEST_HOST_PATH="/var/lib/dpo-test")
    volumes = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "PersistentVolume"}
    claims = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "PersistentVolumeClaim"}
    assert set(volumes) == {"dpo-test-1-runs", "dpo-test-1-cache"}
    for name, claim in claims.items():
        volume = volumes[claim["volumeName"]]
        assert volume["claimRef"] == {"namespace": "dpo-test-1", "name": name}
        assert (claim["storageClassName"], claim["accessModes"]) == ("", ["ReadWriteMany"])
    assert volumes["dpo-test-1-runs"]["hostPath"] == {"path": "/var/lib/dpo-test/runs", "type": "Directory"}


def test_what_prepares_a_host_path_does_not_depend_on_what_its_new_namespace_has_yet(tmp_path: Path) -> None:
    settings = Settings.of({**KNOWN, "DPO_TEST_HOST_PATH": "/var/lib/dpo-test", "DPO_TEST_PREPARE": "1"})
    objects = Place(settings, tmp_path).preparation()
    for obj in objects:
        kubernetes_validate.validate(obj, "1.36", strict=True)
    assert [obj["kind"] for obj in objects] == ["Namespace", "Job"], "a pod would need the ServiceAccount at once"
    assert {obj["metadata"].get("namespace", obj["metadata"]["name"]) for obj in objects} == {"dpo-test-1-prepare"}


@pytest.mark.parametrize(("fails", "namespace"), [("wait", "dpo-test-1-prepare"), ("rollout", "dpo-test-1")])
def test_a_namespace_that_does_not_become_ready_is_described_before_it_is_removed(
    tmp_path: Path, fails: str, namespace: str
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f"""#!/bin/sh
case " $* " in
  *" {fails} "*) echo "error: timed out" >&2; exit 1 ;;
  *" -n {namespace} get events "*) echo "MountVolume.SetUp failed" ;;
esac
""")
    kubectl.chmod(0o755)
    settings = Settings.of({**KNOWN, "DPO_TEST_HOST_PATH": "/var/lib/dpo-test", "DPO_TEST_PREPARE": "1"})
    with pytest.raises(AssertionError, match=r"(?s)timed out.*MountVolume.SetUp failed"):
        Place(settings, tmp_path, str(kubectl)).make()


def test_a_suite_does_not_find_the_runs_that_another_has_left_in_a_host_path() -> None:
    one, other = (experiment("registry.example.com/x:1")["hyperparameters"]["model_output_dir"] for _ in range(2))
    assert one != other


@pytest.mark.parametrize(
    ("reference", "override"),
    [
        ("registry.example.com/x:1", {"newName": "registry.example.com/x", "newTag": "1"}),
        ("localhost:5000/a/x:1", {"newName": "localhost:5000/a/x", "newTag": "1"}),
        ("localhost:5000/a/x", {"newName": "localhost:5000/a/x", "newTag": "latest"}),
        ("registry.example.com/x@sha256:00", {"newName": "registry.example.com/x", "digest": "sha256:00"}),
    ],
)
def test_an_image_is_told_to_kustomize_in_its_parts(reference: str, override: dict[str, str]) -> None:
    assert image_override(reference) == {"name": "dpo-launcher", **override}


def node(*images: str) -> dict[str, Any]:
    return {"status": {"images": [{"names": [name]} for name in images]}}


def filled(folder: Path, nodes: list[dict[str, Any]], **env: str) -> Settings:
    kubectl = folder / "kubectl"
    (folder / "nodes.json").write_text(json.dumps({"items": nodes}))
    kubectl.write_text(f"#!/bin/sh\ncat {folder}/nodes.json\n")
    kubectl.chmod(0o755)
    there = Place(Settings.of({"KUBECONFIG": "x", **env}), folder, str(kubectl))
    there.fill()
    return there.settings


def test_a_single_node_gives_the_image_and_the_folder_that_nobody_named(tmp_path: Path) -> None:
    images = ("registry.k8s.io/pause:3.10", "docker.io/library/dpo-launcher:cuda-12ab", "docker.io/library/dpo-launcher:cpu-34cd")
    found = filled(tmp_path, [node(*images)])
    assert (found.image, found.host_path, found.prepare) == (images[2], "/var/lib/dpo-test", True)


def test_what_is_named_stays_and_several_nodes_get_no_folder_of_one(tmp_path: Path) -> None:
    one, own = node("docker.io/library/dpo-launcher:cpu-34cd"), "registry.example.com/x:1"
    found = filled(tmp_path, [one], DPO_TEST_IMAGE=own, DPO_TEST_STORAGE_CLASS="nfs")
    assert (found.image, found.host_path, found.prepare) == (own, None, False)
    assert filled(tmp_path, [one, one]).host_path is None
    with pytest.raises(AssertionError, match="no node has an image"):
        filled(tmp_path, [node("registry.k8s.io/pause:3.10")])
