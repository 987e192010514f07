"""What of the caller's environment reaches a run, or refuses it, is the same for every way to start one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.data.checked import check
from launcher.errors import ExperimentError
from launcher.experiment.variables import VARIABLES
from launcher.launch.cluster.submit import submit
from launcher.launch.rendered import Choice, differences, rendered, rendered_for_cluster

CONFIG = """\
demo:
  experiment_id: 1
  model_name: org/model
  datasets_path: data
  storage_config: {bucket_name: models}
  launch: {image: "registry.example.com/team/trainer:1", gpus: 0}
"""
DEMO = Choice("demo", run_name="first")
WAYS: dict[str, Callable[[], object]] = {
    "host": lambda: rendered(DEMO, "host"),
    "docker": lambda: rendered(DEMO, "docker"),
    "cluster": lambda: rendered_for_cluster(DEMO),
    "submit": lambda: submit(DEMO),
    "diff": lambda: differences(DEMO),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("configs", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_PROFILE", *(one.name for one in VARIABLES)):  # an imported library may have set one
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_address_with_a_password_starts_nothing(way: Callable[[], object], home: Path) -> None:
    (home / ".env").write_text("AWS_ENDPOINT_URL_S3=http://me:hush-hush@127.0.0.1:1\nAWS_ACCESS_KEY=a\nAWS_SECRET_KEY=b\n")
    with pytest.raises(ExperimentError, match="AWS_ENDPOINT_URL_S3: contains a user name or a password") as caught:
        way()
    assert (caught.value.exit_code, "hush" in str(caught.value)) == (42, False)


def test_check_finds_such_an_address_too(home: Path) -> None:
    (home / ".env").write_text("AWS_ENDPOINT_URL=http://me:hush-hush@127.0.0.1:1\n")
    (error,) = check("demo").errors
    assert (error.exit_code, "AWS_ENDPOINT_URL: contains a user name or a password" in str(error)) == (42, True)


def test_a_proxy_and_a_profile_reach_host_container_and_pod(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text("[default]\nregion = eu-west-1\ns3 =\n  addressing_style = virtual\n")
    proxies = {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "10.0.0.0/8"}
    monkeypatch.setenv("HTTPS_PROXY", proxies["HTTPS_PROXY"])
    profile = {"AWS_REGION": "eu-west-1", "DPO_S3_ADDRESSING_STYLE": "virtual"}

    host = rendered(DEMO, "host").spec.json()["environment"]
    docker = rendered(DEMO, "docker").spec.json()["environment"]
    cluster = rendered_for_cluster(DEMO).spec
    pod = {one["name"]: one["value"] for one in cluster.container["env"] if "value" in one}  # type: ignore[union-attr]
    assert proxies.items() <= host.items(), "which finds the profile itself"
    assert {**proxies, **profile}.items() <= docker.items()
    assert pod["NO_PROXY"].startswith(f"{proxies['NO_PROXY']},"), "followed by what lies inside the cluster"
    assert {**proxies, **profile, "NO_PROXY": pod["NO_PROXY"]}.items() <= pod.items()
    told = {one.what: (one.here, one.there) for one in differences(DEMO).all}
    both = "AWS_REGION, DPO_S3_ADDRESSING_STYLE, HTTPS_PROXY, NO_PROXY"
    assert told["your environment"] == (both, f"{both}, no_proxy")
