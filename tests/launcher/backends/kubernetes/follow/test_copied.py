"""What can be read of a run whose pods have only disks of their own."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from launcher.backends.kubernetes.follow.archive import NoReader
from launcher.backends.kubernetes.follow.bring import bring
from launcher.backends.kubernetes.follow.copied import Copied, archive_of
from launcher.backends.kubernetes.follow.run import ClusterRun
from launcher.errors import UsageError
from launcher.storage import Mirrored
from tests.s3.server import MotoServer

KEYS = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}
BELOW = "team/exp_1/m/first"


@pytest.fixture
def run(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> ClusterRun:
    client = moto.emptied("ckpt")
    record = {"attempts": [{"number": 1}], "outcome": {"state": "running"}}
    files: dict[str, Any] = {
        "checkpoint-5/manifest.json": "{}",
        "checkpoint-10/manifest.json": "{}",
        "checkpoint-10/run/run.json": json.dumps(record),
        "checkpoint-10/run/logs/rank-0.log": "a\nb\n",
        "checkpoint-10/run/logs/dpo_train_steps.jsonl": '{"step": 10}\n',
        "checkpoint-15/weights": "half of one",
    }
    for name, text in files.items():
        client.put_object(Bucket="ckpt", Key=f"{BELOW}/{name}", Body=text.encode())
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    folder = PurePosixPath("out/exp_1/m/runs/first")
    run = ClusterRun("first", "default", "first", "Job", "demo", "1", 1, folder, "", "")
    return replace(run, copies=f"s3://ckpt/{BELOW}", store=moto.url)


def test_metrics_logs_record_and_checkpoints_are_those_of_the_newest_checkpoint_and_then_of_the_end(
    run: ClusterRun, moto: MotoServer
) -> None:
    copied = archive_of(None, run)  # type: ignore[arg-type]
    assert isinstance(copied, Copied)
    assert copied.record(run)["outcome"]["state"] == "running"
    assert copied.checkpoints(run) == ["checkpoint-5", "checkpoint-10"]
    assert copied.ranks(run) == [0]
    assert copied.steps(run) == ['{"step": 10}']
    assert (copied.log(run, 0), copied.log(run, 0, 2), copied.log(run, 1)) == (b"a\nb\n", b"b\n", None)
    import boto3

    client = boto3.client("s3", endpoint_url=moto.url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
    done = {"attempts": [{"number": 1, "exit_code": 0}], "outcome": {"state": "done"}}
    client.put_object(Bucket="ckpt", Key=f"{BELOW}/run/run.json", Body=json.dumps(done).encode())
    assert archive_of(None, run).record(run)["outcome"]["state"] == "done"  # type: ignore[arg-type]


def test_without_credentials_it_is_said_plainly(run: ClusterRun, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    words = f"its pods have only local disks, and its copies in s3://ckpt/{BELOW} cannot be read here"
    with pytest.raises(NoReader, match=words):
        archive_of(None, run).reader()  # type: ignore[arg-type]


def test_the_whole_folder_is_downloaded_from_the_copies_with_its_adapter_and_without_checkpoints(
    run: ClusterRun, moto: MotoServer, tmp_path: Path
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "adapter_config.json").write_text("{}")
    place = Mirrored.at(str(run.copies), run.store, run.region, os.environ)
    place.keep("adapter", tmp_path / "made")
    target = tmp_path / "here" / "first"
    files, size, was_there = bring(archive_of(None, run), PurePosixPath("/"), target, lambda done, of: None)  # type: ignore[arg-type]
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert {"run.json", "logs/rank-0.log", "logs/dpo_train_steps.jsonl", "adapter/adapter_config.json"} <= found
    assert not [name for name in found if name.startswith("checkpoint-")]
    assert (files, was_there, size > 0) == (len(found), False, True)
    again = bring(archive_of(None, run), PurePosixPath("/"), target, lambda done, of: None)  # type: ignore[arg-type]
    assert again == (files, size, True)
    (target / "run.json").write_text("another")
    with pytest.raises(UsageError, match="exists with other contents"):
        bring(archive_of(None, run), PurePosixPath("/"), target, lambda done, of: None)  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["first"]
