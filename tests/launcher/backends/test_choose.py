"""Which backend a run is started on where nobody says so."""

from pathlib import Path

import pytest

from launcher.backends import choose
from launcher.backends.choose import backend_of, choose_backend
from launcher.backends.docker.backend import Docker
from launcher.backends.host import Host
from launcher.job import image
from launcher.runs.run_dir import RunDir

NONE = {"DOCKER_HOST": "unix:///no/such/engine", "HOME": "/"}


def test_without_an_engine_it_is_the_host_and_the_reason_is_said(tmp_path):
    backend, why = choose_backend(None, tmp_path, NONE, None)
    assert isinstance(backend, Host)
    assert why == "no Docker engine: /no/such/engine not found"


@pytest.mark.parametrize(("named", "kind"), [("host", Host), ("docker", Docker)])
def test_a_backend_that_is_named_is_taken_unseen(tmp_path, named, kind):
    backend, why = choose_backend(named, tmp_path, NONE, None)
    assert (type(backend), why) == (kind, None)


@pytest.mark.engine
def test_with_an_engine_it_is_a_container_unless_the_packages_of_an_installation_need_no_image(engine, tmp_path, monkeypatch):
    caller = {"HOME": str(tmp_path)}
    assert isinstance(choose_backend(None, tmp_path, caller, None)[0], Docker)
    monkeypatch.setattr(image, "__file__", str(tmp_path / "site-packages" / "launcher" / "job" / "image.py"))
    monkeypatch.setattr(choose, "missing_packages", lambda: ["torch"])
    assert isinstance(choose_backend(None, tmp_path, caller, None)[0], Docker)
    monkeypatch.setattr(choose, "missing_packages", list)
    backend, why = choose_backend(None, tmp_path, caller, None)
    assert isinstance(backend, Host)
    assert why == "dpo-launcher[trainer] is installed here; --backend docker uses the published image"
    assert isinstance(choose_backend(None, tmp_path, caller, "registry.example.com/mine:1")[0], Docker)


def test_a_run_belongs_to_the_backend_in_its_record(tmp_path: Path):
    for name, kind in (("docker", Docker), ("host", Host)):
        run = RunDir(tmp_path / "exp_1" / "m" / "runs" / name)
        run.create({run.experiment: "{}"}, {"backend": name})
        assert isinstance(backend_of(run), kind)
