"""A run of another machine, which only its copies in a bucket know, is resumed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import UsageError
from launcher.experiment.files import load
from launcher.launch.repeats.copied import found_or_brought
from launcher.launch.repeats.resume import resumption
from launcher.runs.run_dir import RunDir
from launcher.storage import Mirrored
from tests.s3.server import MotoServer

KEYS = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}
BELOW = "team/exp_1/model/first"
CONFIG = """\
demo:
  experiment_id: 1
  model_name: team/model
  datasets_path: data
  hyperparameters: {eval_strategy: "no", model_output_dir: out}
  launch: {gpus: 0}
  checkpoint_to: s3://ckpt/team
  storage_config: {endpoint_url: "%s"}
"""


@pytest.fixture
def client(moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG % moto.url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "/none")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return moto.emptied("ckpt")


def put(client: Any, backend: str = "host") -> None:
    experiment = load("demo").experiment.model_dump_json()
    process = {"pid": 1, "host": "elsewhere", "boot": "x", "started": 0}
    record = {"run": "first", "key": "demo", "backend": backend, "experiment": json.loads(experiment), "folder": "/elsewhere"}
    record |= {"created": "2026-11-24T10:00:00+00:00", "attempts": [{"number": 1}], "mirror": {"id": "a", "step": 10}}
    record |= {"process": process, "outcome": {"state": "running"}}
    files = {"manifest.json": "{}", "run/run.json": json.dumps(record), "run/experiment.json": experiment}
    for name, text in files.items():
        client.put_object(Bucket="ckpt", Key=f"{BELOW}/checkpoint-10/{name}", Body=text.encode())


def test_resume_finds_a_run_that_only_its_copies_know(client: Any, tmp_path: Path) -> None:
    put(client)
    said: list[str] = []
    where, run = found_or_brought("first", cluster=False, namespace=None, say=said.append)
    assert run == RunDir.of(tmp_path, "out", "1", "model", "first")
    assert said[0].startswith("warning: first ran on elsewhere when its checkpoint was copied; ")
    assert where.status(run).state == "lost"
    assert (run.read_record()["mirror"], run.read_record()["attempts"]) == ({"id": "a", "step": 10}, [{"number": 1}])
    assert resumption(where, run, said.append).sentence == "first resumes from checkpoint-10"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places of runs whose bucket was asked."""
    found: list[str] = []

    def newest_files(place: Mirrored) -> None:
        found.append(place.uri)

    monkeypatch.setattr(Mirrored, "newest_files", newest_files)
    return found


def test_no_bucket_is_asked_for_a_typing_error(client: Any, asked: list[str], tmp_path: Path) -> None:
    run = RunDir.of(tmp_path, "out", "1", "model", "first-1")
    run.create({run.experiment: "{}"}, {"created": "2026-11-24T10:00:00+00:00"})
    with pytest.raises(UsageError, match="did you mean 'first-1'"):
        found_or_brought("frist-1", cluster=False, namespace=None, say=print)
    assert asked == []
    with pytest.raises(UsageError):
        found_or_brought("first-2", cluster=False, namespace=None, say=print)
    assert asked == ["s3://ckpt/team/exp_1/model/first-2"]


def test_only_the_bucket_of_its_experiment_is_asked_for_a_run_with_the_name_of_one(
    client: Any, asked: list[str], moto: MotoServer, tmp_path: Path
) -> None:
    other = (CONFIG % moto.url).replace("demo:", "other:").replace("experiment_id: 1", "experiment_id: 2")
    (tmp_path / "configs" / "other.yml").write_text(other)
    with pytest.raises(UsageError):
        found_or_brought("demo-20261124-101112-beef", cluster=False, namespace=None, say=print)
    assert asked == ["s3://ckpt/team/exp_1/model/demo-20261124-101112-beef"]


def test_a_run_that_nobody_knows_is_not_found_and_one_of_a_cluster_is_submitted(client: Any) -> None:
    with pytest.raises(UsageError, match="no runs yet"):
        found_or_brought("first", cluster=False, namespace=None, say=print)
    put(client, "kubernetes")
    with pytest.raises(UsageError, match="resume it with: launcher submit demo --name first"):
        found_or_brought("first", cluster=False, namespace=None, say=print)
