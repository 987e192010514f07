"""``launch.kubernetes.volumes``: claims and other kinds, for the run's roles and for the user's own folders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.backends.kubernetes.render.guard import OWN_VOLUMES
from launcher.backends.kubernetes.render.resources import Sizes
from launcher.backends.kubernetes.render.spec import KubernetesSpec
from launcher.backends.kubernetes.render.together import together
from launcher.errors import ExperimentError, Warned
from tests.launcher.backends.kubernetes.render.test_together import points
from tests.rendered import large, rendered, small


def with_volumes(volumes: dict[str, Any], **options: Any) -> KubernetesSpec:
    return rendered({"gpus": 1, "kubernetes": {"volumes": volumes}}, **options)


def mounted(spec: KubernetesSpec) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Name -> (volume, mount), both without the name."""
    volumes = {one["name"]: {k: v for k, v in one.items() if k != "name"} for one in spec.pod["spec"]["volumes"]}
    mounts = {one["name"]: {k: v for k, v in one.items() if k != "name"} for one in spec.container["volumeMounts"]}
    return {name: (volumes[name], mounts[name]) for name in volumes}


def test_a_volume_of_any_kind_has_its_place_in_the_pod() -> None:
    nfs, csi = {"server": "nas", "path": "/export/corpus"}, {"driver": "s3.csi.example.com", "readOnly": True}
    spec = with_volumes(
        {
            "runs": "team-runs",
            "cache": {"nfs": nfs},
            "corpus": {"csi": csi, "path": "/mnt/corpus", "read_only": True, "sub_path": "v2"},
            "team": "team-claim",
        }
    )
    found = mounted(spec)
    assert found["runs"] == ({"persistentVolumeClaim": {"claimName": "team-runs"}}, {"mountPath": "/dpo/runs"})
    assert found["cache"] == ({"nfs": nfs}, {"mountPath": "/dpo/cache"})
    assert found["corpus"] == ({"csi": csi}, {"mountPath": "/mnt/corpus", "subPath": "v2", "readOnly": True})
    assert found["team"] == ({"persistentVolumeClaim": {"claimName": "team-claim"}}, {"mountPath": "/dpo/volumes/team"})
    assert spec.claims == {"runs": "team-runs", "team": "team-claim"}


def test_a_volume_that_the_restricted_standard_refuses_is_told() -> None:
    spec = with_volumes({"corpus": {"nfs": {"server": "nas", "path": "/x"}}, "more": {"emptyDir": {}}})
    (told,) = [one for one in spec.notices if isinstance(one, Warned)]
    assert told.startswith("volume corpus (nfs): refused by a namespace that enforces the restricted Pod Security Standard")


def test_data_and_models_may_lie_on_a_volume_of_one_s_own() -> None:
    volumes = {"corpus": "team"}
    spec = with_volumes(volumes, datasets_path="/dpo/volumes/corpus/a", model_name="/dpo/volumes/corpus/m")
    assert (spec.staged, [one["kind"] for one in spec.objects]) == ((), ["Service", "ConfigMap", "Job"])


@pytest.mark.parametrize(
    ("sizes", "cache", "runs"),
    [(Sizes(), "100Gi", "20Gi"), (Sizes(8_000_000_000, 40_000_000), "40Gi", "4Gi")],
)
def test_empty_volumes_are_as_large_as_what_a_run_puts_there(sizes: Sizes, cache: str, runs: str) -> None:
    spec = with_volumes({"cache": {"emptyDir": {}}, "runs": {"emptyDir": {}}}, sizes=sizes)
    found = mounted(spec)
    assert (found["cache"][0]["emptyDir"], found["runs"][0]["emptyDir"]) == ({"sizeLimit": cache}, {"sizeLimit": runs})
    whole = 1 + int(cache[:-2]) + int(runs[:-2])
    resources = spec.container["resources"]
    disk = resources["requests"]["ephemeral-storage"], resources["limits"]["ephemeral-storage"]
    assert disk == (f"{whole}Gi", f"{whole + 6}Gi")
    own = with_volumes({"cache": {"emptyDir": {"sizeLimit": "1e9"}}, "runs": {"emptyDir": {"medium": "Memory"}}}, sizes=sizes)
    assert mounted(own)["cache"][0] == {"emptyDir": {"sizeLimit": "1e9"}}
    assert mounted(own)["runs"][0] == {"emptyDir": {"medium": "Memory"}}


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ({"x": {"hostPath": {"path": "/"}}}, "launch.kubernetes.volumes.x.hostPath: is refused: folders of a node"),
        ({"x": {"nsf": {}}}, "launch.kubernetes.volumes.x.nsf: is not a kind of volume"),
        ({"x": {"nfs": {"host": "a"}}}, "launch.kubernetes.volumes.x.nfs.host: unknown field in a NFSVolumeSource"),
        ({"x": {"path": "/mnt/x"}}, "launch.kubernetes.volumes.x: must have exactly one kind of volume, has none"),
        ({"x": {"nfs": {}, "csi": {}}}, "launch.kubernetes.volumes.x: must have exactly one kind of volume, has nfs, csi"),
        ({"runs": {"emptyDir": {}, "path": "/x"}}, "launch.kubernetes.volumes.runs.path: runs is always mounted at /dpo/runs"),
        ({"shm": "x"}, "launch.kubernetes.volumes.shm: is the name of a volume of the run itself"),
        ({"A_b": "x"}, "launch.kubernetes.volumes.A_b: 'A_b' is not a valid name of a volume"),
        ({"x": {"emptyDir": {}, "path": "/dpo/runs/x"}}, "launch.kubernetes.volumes.x.path: /dpo/runs/x is below /dpo/runs"),
        ({"x": {"emptyDir": {}, "path": "/etc"}}, "launch.kubernetes.volumes.x.path: /etc is the image's own"),
        ({"x": {"emptyDir": {}, "read_only": "no"}}, "launch.kubernetes.volumes.x.read_only: must be true or false"),
    ],
)
def test_a_volume_that_cannot_be_is_named(volumes: dict[str, Any], said: str) -> None:
    with pytest.raises(ExperimentError) as error:
        with_volumes(volumes)
    (mistake,) = error.value.mistakes
    assert str(mistake).startswith(said)


def every_mount() -> set[tuple[str, str]]:
    """(volume, where it is mounted) of runs that together have every volume of the run's own."""
    secret = {"gpus": 0, "secrets": ["LOGIN"]}
    local = replace(small(), ca="a certificate")
    data = {**secret, "kubernetes": {"volumes": {"data": "corpus"}}}
    specs = [
        rendered(data, local=local, caller={"LOGIN": "x"}),
        rendered(secret, local=local, caller={"LOGIN": "x"}),
        together("grid", 2, *points({"gpus": 0})),
    ]
    return {(one["name"], one["mountPath"]) for spec in specs for one in spec.container["volumeMounts"]}


def test_no_volume_of_one_s_own_is_mounted_over_one_of_the_run() -> None:
    mounts = every_mount()
    assert {name for name, _ in mounts} == set(OWN_VOLUMES)
    for _, path in sorted(mounts):
        for taken in (path, f"{path}/below") if path != "/tmp" else (path,):
            with pytest.raises(ExperimentError, match=r"launch\.kubernetes\.volumes\.x\.path: .* the (run|image)'s own"):
                with_volumes({"x": {"emptyDir": {}, "path": taken}})
            trainer = {"name": "trainer", "volumeMounts": [{"name": "x", "mountPath": taken}]}
            pod = {"spec": {"containers": [trainer], "volumes": [{"name": "x", "emptyDir": {}}]}}
            with pytest.raises(ExperimentError, match=r"is refused: .* the (run|image)'s own"):
                rendered({"gpus": 0, "kubernetes": {"pod": pod}})


def test_what_is_copied_once_needs_a_cache_that_the_pods_share() -> None:
    volumes = {"cache": {"emptyDir": {}}}
    with pytest.raises(ExperimentError, match="cannot be copied to the pods: each one has an empty cache"):
        with_volumes(volumes, local=large(), model_name="../models/tiny")
    staged = with_volumes(volumes, local=large(), model_name="../models/tiny", storage_config={"bucket_name": "bucket"})
    assert [one.target.split("/")[2] for one in staged.staged] == ["bucket", "bucket"]


def test_nodes_with_runs_of_their_own_need_checkpoint_to_and_one_node_is_warned() -> None:
    own, wide = {"runs": {"emptyDir": {}}}, {"gpus": 1, "nodes": 2, "global_batch_size": 8}
    with pytest.raises(
        ExperimentError, match=r"launch\.kubernetes\.volumes\.runs: is a volume of each pod's own, but the 2 nodes"
    ):
        rendered({**wide, "kubernetes": {"volumes": own}})
    spec = rendered({**wide, "kubernetes": {"volumes": own}}, checkpoint_to="s3://ckpt/team")
    env = {one["name"]: one.get("value") for one in spec.container["env"]}
    assert env["DPO_OWN_RUNS"] == "1"
    assert "DPO_OWN_RUNS" not in {one["name"] for one in with_volumes({}).container["env"]}
    alone = with_volumes(own)
    assert any(isinstance(one, Warned) and "are lost with the pod; set checkpoint_to" in one for one in alone.notices)


def test_the_grace_period_has_room_for_the_upload_of_a_checkpoint() -> None:
    trained = 8_000_000_000
    grace = rendered(trained=trained).grace
    assert rendered(trained=trained, checkpoint_to="s3://ckpt/team").grace == grace + 12 * trained // 100_000_000
