"""What k8s/ builds, as kubectl builds it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from launcher.backends.kubernetes.api.permissions import PERMISSIONS, SECRET, VIEW, rules
from launcher.backends.kubernetes.follow.run import RUNS_ROOT
from launcher.published import ARCHITECTURE
from tests.k8s.built import REPOSITORY, build, built
from tests.pod_security import violations

OURS = ("base", "overlays/workstation", "overlays/cluster", "overlays/openshift")
VERSIONS = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36")
READER = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "reader"}


def one(folder: str, kind: str, name: str | None = None) -> Mapping[str, Any]:
    found = [obj for obj in built(folder) if obj["kind"] == kind and name in (None, obj["metadata"]["name"])]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("folder", OURS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_in_every_version_that_is_supported(folder, version):
    for obj in built(folder):
        kubernetes_validate.validate(obj, version, strict=True)
    kubernetes_validate.validate(yaml.safe_load((REPOSITORY / "k8s/examples/secret.yaml").read_text()), version, strict=True)


@pytest.mark.parametrize("folder", OURS)
def test_an_overlay_has_all_of_the_base_in_one_namespace(folder):
    kinds = sorted(obj["kind"] for obj in built("base"))
    there = [obj["kind"] for obj in built(folder)]
    assert [kind for kind in kinds if kind not in there] == []
    cluster_wide = {"Namespace", "PersistentVolume"}
    assert {obj["metadata"].get("namespace") for obj in built(folder) if obj["kind"] not in cluster_wide} == {"dpo"}
    assert not [obj for obj in built(folder) if obj["kind"].startswith("ClusterRole")]


@pytest.mark.parametrize("folder", OURS)
def test_the_namespace_enforces_the_restricted_standard_and_the_reader_passes_it(folder):
    labels = one(folder, "Namespace")["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}
    assert violations(one(folder, "Deployment")["spec"]["template"]["spec"]) == []


def test_the_role_has_the_verbs_that_the_launcher_uses_and_no_others():
    role = one("base", "Role", "dpo-launcher")
    assert role["rules"] == rules()
    assert {rule["resourceNames"][0] for rule in role["rules"] if "resourceNames" in rule} == {SECRET}
    assert all("*" not in [*one.verbs, one.resource, one.group] for one in PERMISSIONS)


def test_a_viewer_may_read_and_do_nothing_else_and_is_nobody_at_first():
    role = one("base", "Role", "dpo-viewer")
    assert role["rules"] == rules(VIEW)
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert not {"secrets", "pods/exec"} & {name for rule in role["rules"] for name in rule["resources"]}
    assert {one("base", "RoleBinding")["roleRef"]["name"]} == {"dpo-launcher"}


def test_no_verb_is_given_twice_over_one_resource():
    pairs = [(one.group, one.resource, verb) for one in PERMISSIONS for verb in one.verbs]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("folder", OURS)
def test_the_reader_is_found_by_its_labels_and_cannot_change_what_it_reads(folder):
    deployment = one(folder, "Deployment")
    template = deployment["spec"]["template"]
    assert READER.items() <= template["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"] == READER
    assert one(folder, "Service")["spec"]["selector"] == READER
    (container,) = template["spec"]["containers"]
    assert container["name"] == "tensorboard"
    (runs,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == str(RUNS_ROOT)]
    assert runs["readOnly"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert template["spec"]["automountServiceAccountToken"] is False
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_the_reader_runs_on_nodes_of_the_architecture_for_which_its_image_is_built():
    where = {folder: one(folder, "Deployment")["spec"]["template"]["spec"].get("nodeSelector") for folder in OURS}
    amd64 = {"kubernetes.io/arch": ARCHITECTURE}
    # A workstation has one node, on which its image was built.
    assert where == dict.fromkeys(OURS, amd64) | {"overlays/workstation": None}


@pytest.mark.parametrize("folder", OURS)
def test_the_claims_are_those_that_a_run_mounts_where_nobody_names_others(folder):
    claims = {obj["metadata"]["name"]: obj["spec"] for obj in built(folder) if obj["kind"] == "PersistentVolumeClaim"}
    assert set(claims) == {"dpo-runs", "dpo-cache"}
    assert all(claim["accessModes"] == ["ReadWriteMany"] for claim in claims.values())


def test_on_a_workstation_each_claim_has_its_folder():
    claims = {
        obj["metadata"]["name"]: obj["spec"] for obj in built("overlays/workstation") if obj["kind"] == "PersistentVolumeClaim"
    }
    volumes = {obj["metadata"]["name"]: obj["spec"] for obj in built("overlays/workstation") if obj["kind"] == "PersistentVolume"}
    for name, claim in claims.items():
        volume = volumes[claim["volumeName"]]
        assert claim["storageClassName"] == volume["storageClassName"] == ""
        assert volume["claimRef"] == {"namespace": "dpo", "name": name}
        assert volume["persistentVolumeReclaimPolicy"] == "Retain"
        assert volume["hostPath"]["path"] in (REPOSITORY / "k8s" / "README.md").read_text()


def test_on_openshift_the_reader_names_no_user_and_no_group():
    security = one("overlays/openshift", "Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert security == {
        "runAsNonRoot": True, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip


def test_a_shared_cluster_has_a_quota_a_storage_class_a_group_and_ranks_that_only_runs_reach():
    folder = "overlays/cluster"
    claims = [obj["spec"] for obj in built(folder) if obj["kind"] == "PersistentVolumeClaim"]
    assert {claim["storageClassName"] for claim in claims} == {"shared"}
    assert {subject["kind"] for subject in one(folder, "RoleBinding")["subjects"]} == {"ServiceAccount", "Group"}
    quota = one(folder, "ResourceQuota")["spec"]["hard"]
    # A quota of memory or CPU would refuse pods that do not say both.
    assert not [name for name in quota if "cpu" in name or "memory" in name]
    ranks = one(folder, "NetworkPolicy", "dpo-runs")["spec"]
    assert ranks["ingress"][0]["from"][0]["podSelector"] == ranks["podSelector"]
    assert one(folder, "NetworkPolicy", "dpo-tensorboard")["spec"].get("ingress", []) == []


def server_of(name: str) -> Mapping[str, Any]:
    """The template of the pods of a server."""
    objects = yaml.safe_load_all((REPOSITORY / "tests/golden/kubernetes" / f"{name}.yaml").read_text())
    return next(obj for obj in objects if obj["kind"] == "Deployment")["spec"]["template"]


SERVERS = ("serve-from-the-claim", "serve-from-a-hub", "serve-from-a-bucket", "serve-on-four-gpus")


@pytest.mark.parametrize("name", SERVERS)
def test_only_pods_of_the_namespace_may_ask_a_server_and_at_its_port_alone(name):
    template, policy = server_of(name), one("overlays/cluster", "NetworkPolicy", "dpo-serve")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (rule,) = policy["ingress"]
    (port,) = template["spec"]["containers"][0]["ports"]
    assert (rule["from"], rule["ports"]) == ([{"podSelector": {}}], [{"protocol": "TCP", "port": port["name"]}])
    others = [obj["spec"] for obj in built("overlays/cluster") if obj["kind"] == "NetworkPolicy" and obj["spec"] != policy]
    for other in others:  # policies add up: none of the others opens a server
        assert not other["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


@pytest.mark.parametrize("name", SERVERS)
def test_the_egress_example_lets_a_server_reach_dns_and_the_servers_of_runs(name):
    policy = one("examples/egress", "NetworkPolicy", "dpo-serve-egress")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= server_of(name)["metadata"]["labels"].items()
    dns, _, servers = one("examples/egress", "NetworkPolicy", "dpo-runs-egress")["spec"]["egress"]
    assert (policy["policyTypes"], policy["egress"]) == (["Egress"], [dns, servers])


def test_the_queue_example_names_one_queue_of_the_runs_namespace():
    queue = one("examples/kueue", "LocalQueue")
    assert queue["metadata"]["namespace"] == "dpo"
    assert queue["spec"]["clusterQueue"] == one("examples/kueue", "ClusterQueue")["metadata"]["name"]
    covered = one("examples/kueue", "ClusterQueue")["spec"]["resourceGroups"][0]
    # Kueue lets nothing in that asks for a resource that no group covers.
    assert covered["coveredResources"] == ["cpu", "memory", "nvidia.com/gpu"]
    assert [each["name"] for each in covered["flavors"][0]["resources"]] == covered["coveredResources"]


@pytest.mark.parametrize("kind", ["ResourceFlavor", "ClusterQueue", "LocalQueue"])
def test_the_queue_example_has_only_fields_that_kueue_has(kind):
    schema = json.loads((Path(__file__).parent / "kueue.schema.json").read_text())
    obj = one("examples/kueue", kind)
    jsonschema.validate(obj, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**obj, "spec": {**obj["spec"], "quota": 1}}, schema)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_egress_example_is_valid_and_opens_dns_the_run_itself_and_named_servers(version):
    for obj in built("examples/egress"):
        kubernetes_validate.validate(obj, version, strict=True)
    runs = one("examples/egress", "NetworkPolicy", "dpo-runs-egress")["spec"]
    dns, ranks, servers = runs["egress"]
    assert runs["policyTypes"] == ["Egress"]
    assert {(port["protocol"], port["port"]) for port in dns["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert dns["to"][0]["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    assert ranks == {"to": [{"podSelector": one("overlays/cluster", "NetworkPolicy", "dpo-runs")["spec"]["podSelector"]}]}
    assert [block["ipBlock"]["cidr"] for block in servers["to"]] == ["192.0.2.10/32"]
    reader = one("examples/egress", "NetworkPolicy", "dpo-tensorboard-egress")["spec"]
    assert (reader["podSelector"]["matchLabels"], reader.get("egress", [])) == (READER, [])


def test_the_base_can_be_named_by_a_tag_of_a_repository(tmp_path):
    place = tmp_path / "repository"
    shutil.copytree(REPOSITORY / "k8s", place / "k8s")
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.com", "-C", str(place)]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "k8s"], ["tag", "v0.1.0"]):
        subprocess.run([*git, *words], check=True)
    readme = (REPOSITORY / "k8s/README.md").read_text()
    (shown,) = [text for text in re.findall(r"```text\n(.*?)```", readme, re.DOTALL) if "?ref=" in text]
    (tmp_path / "overlay").mkdir()
    told = shown.replace("https://github.com/dpo-launcher/dpo-launcher//", f"file://{place}//")
    (tmp_path / "overlay" / "kustomization.yaml").write_text(told)
    objects = build(tmp_path / "overlay")
    assert sorted(obj["kind"] for obj in objects) == sorted(obj["kind"] for obj in built("base"))
    (deployment,) = [obj for obj in objects if obj["kind"] == "Deployment"]
    assert (
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] == f"ghcr.io/dpo-launcher/dpo-launcher@sha256:{'0' * 64}"
    )


def test_the_secret_example_holds_no_secret():
    secret = yaml.safe_load((REPOSITORY / "k8s/examples/secret.yaml").read_text())
    assert secret["metadata"]["name"] == SECRET
    assert all(value.startswith("put-your-") for value in secret["stringData"].values())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hostNetwork": True}, "host namespaces: hostNetwork=true"),
        ({"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "restricted volume types: volume 'x' uses hostPath"),
        ({"securityContext": {}}, "runAsNonRoot != true (container 'tensorboard')"),
        ({"securityContext": {"runAsNonRoot": True}}, "seccompProfile: None (container 'tensorboard')"),
        ({"securityContext": {"runAsUser": 0}}, "runAsUser=0"),
        ({"containers": [{"name": "c"}]}, "allowPrivilegeEscalation != false (container 'c')"),
        ({"initContainers": [{"name": "i"}]}, "unrestricted capabilities (container 'i')"),
    ],
)
def test_the_check_of_the_standard_refuses_what_the_standard_refuses(change, told):
    good = one("base", "Deployment")["spec"]["template"]["spec"]
    assert told in violations({**good, **change})


def test_the_patch_for_ipv6_replaces_the_address_on_which_tensorboard_listens():
    path = re.search(r"path: (\S+/args/\d+), value: \"::\"", (REPOSITORY / "k8s/README.md").read_text())
    assert path is not None
    found: Any = one("base", "Deployment")
    *parts, index = path[1].strip("/").split("/")
    for part in parts:
        found = found[int(part) if part.isdecimal() else part]
    assert found[int(index) - 1 : int(index) + 1] == ["--host", "0.0.0.0"]
