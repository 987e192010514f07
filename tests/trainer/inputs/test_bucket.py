"""What a training reads from a bucket and leaves there: moto answers over HTTP, behind a proxy that falls and comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import CredentialError, ExperimentError, UploadError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.s3.proxy import Fault, FaultProxy
from tests.s3.server import MotoServer

REPOSITORY = Path(__file__).parents[3]
BASE = "s3://models/base/tiny"
KEYS = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}
RANK = """
import sys
from pathlib import Path
from accelerate import PartialState
from launcher.experiment.schema import Experiment
from trainer.inputs.bucket import model_path
state = PartialState(cpu=True)
experiment = Experiment.model_validate_json(sys.stdin.read())
print("path", model_path(experiment, Path(), Path(sys.argv[1]), first=state.process_index == 0))
state.destroy_process_group()
"""

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]


@pytest.fixture
def client(moto: MotoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A bare client of the server, which has no bucket yet; this process may use the server, from an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return moto.emptied()


@pytest.fixture
def proxy(moto: MotoServer, client: Any) -> Iterator[FaultProxy]:
    with FaultProxy(moto.url) as proxy:
        yield proxy


def experiment_of(url: str, model: str = "no/model", **more: Any) -> Experiment:
    """One whose model and data are nowhere: whoever begins to train fails."""
    storage = {"bucket_name": "models", "object_prefix": "team", "endpoint_url": url, "upload_to_cloud": True}
    given = {"experiment_id": "7", "model_name": model, "datasets_path": "nowhere", "launch": {"gpus": 0}}
    return Experiment.parse({**given, "storage_config": storage, **more})


def trained(root: Path, experiment: Experiment, new_run: NewRun) -> RunDir:
    """A run whose training is over, with the adapter that it left."""
    run = new_run(root, experiment, "first")
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"weights")
    return run


def train_again(run: RunDir, experiment: Experiment, root: Path) -> None:
    from trainer.processes.stop import StopRequest
    from trainer.train import Roots, train

    train(run, experiment, Roots(root, root, root / "cache"), StopRequest(), attempt=2)


def keys(client: Any) -> list[str]:
    return [one["Key"] for one in client.list_objects_v2(Bucket="models").get("Contents", [])]


def test_what_cannot_be_uploaded_ends_in_47_and_a_retry_only_uploads_it(
    client: Any, proxy: FaultProxy, tmp_path: Path, new_run: NewRun
) -> None:
    experiment = experiment_of(proxy.url)
    run = trained(tmp_path, experiment, new_run)
    with pytest.raises(UploadError) as caught:
        train_again(run, experiment, tmp_path)
    assert caught.value.exit_code == 47
    assert str(caught.value) == (
        f"the adapter is complete in {run.adapter}, but its upload failed: bucket models at {proxy.url}: "
        "bucket not found; check bucket_name, region and endpoint_url\nUpload it with: launcher upload first"
    )
    assert "uploaded" not in run.read_record()

    client.create_bucket(Bucket="models")
    run.update_record(outcome={"state": "failed", "exit_code": 47, "sentence": "not uploaded"})
    train_again(run, experiment, tmp_path)
    folder = "team/exp_7/model/first"
    assert keys(client) == [f"{folder}/adapter_model.safetensors", f"{folder}/manifest.json"]
    record = run.read_record()
    assert record["uploaded"]["uri"] == f"s3://models/{folder}"
    assert record["outcome"] == {"state": "done", "exit_code": 0, "sentence": "done: trained, and uploaded afterwards"}


def test_credentials_that_are_refused_after_the_training_end_in_47_too(
    client: Any, proxy: FaultProxy, tmp_path: Path, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_of(proxy.url)
    run = trained(tmp_path, experiment, new_run)
    monkeypatch.delenv("AWS_SECRET_KEY")
    with pytest.raises(UploadError, match="AWS_ACCESS_KEY is set and AWS_SECRET_KEY is not"):
        train_again(run, experiment, tmp_path)


def test_nothing_is_uploaded_where_nobody_wants_it(client: Any, proxy: FaultProxy, tmp_path: Path, new_run: NewRun) -> None:
    client.create_bucket(Bucket="models")
    experiment = experiment_of(proxy.url, storage_config={"bucket_name": "models", "endpoint_url": proxy.url})
    train_again(trained(tmp_path, experiment, new_run), experiment, tmp_path)
    assert proxy.requests == []


def test_a_bucket_that_is_not_there_or_cannot_be_written_is_found_before_the_training(
    client: Any, proxy: FaultProxy, tmp_path: Path
) -> None:
    from trainer.inputs.bucket import check_upload

    run = RunDir(tmp_path / "first")
    with pytest.raises(ExperimentError, match=r"storage_config\.bucket_name: bucket models not found at"):
        check_upload(experiment_of(proxy.url), run)
    client.create_bucket(Bucket="models")
    check_upload(experiment_of(proxy.url), run)
    assert keys(client) == []
    proxy.faults = [Fault("status", "PUT", status=403, code="AccessDenied", times=9)]
    with pytest.raises(CredentialError, match="PutObject was refused: needs s3:PutObject"):
        check_upload(experiment_of(proxy.url), run)


def test_a_store_that_is_down_before_the_training_is_a_warning(
    client: Any, proxy: FaultProxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainer.inputs.bucket import check_upload

    proxy.kill()
    check_upload(experiment_of(proxy.url), RunDir(tmp_path / "first"))
    proxy.start()
    said = [line for line in capsys.readouterr().out.splitlines(keepends=True) if not line.startswith("checking the bucket")]
    assert "".join(said) == (  # a stage is named where it takes longer than a second
        "warning: cannot check the bucket; the upload is tried anyway after the training: bucket models at "
        f"{proxy.url}: cannot connect (EndpointConnectionError: connection refused); check endpoint_url and the network\n"
    )


def test_the_ranks_of_a_machine_fetch_the_base_model_once(client: Any, proxy: FaultProxy, tmp_path: Path, port: int) -> None:
    client.create_bucket(Bucket="models")
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    for name, body in files.items():
        client.put_object(Bucket="models", Key=f"base/tiny/{name}", Body=body)
    ranks = []
    for rank in ("0", "1"):
        of_rank = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        env = {**os.environ, **of_rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(REPOSITORY)}
        argv = [sys.executable, "-c", RANK, str(tmp_path / "cache")]
        ranks.append(subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    text = experiment_of(proxy.url, BASE).model_dump_json()
    for process in ranks:
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
    said = [process.communicate(timeout=600)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    (folder,) = {line.removeprefix("path ") for one in said for line in one.splitlines() if line.startswith("path ")}
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == files
    assert [f"model: {BASE}, cached in {folder}" in one for one in said] == [True, False]
    read = [request.path.rpartition("/")[2] for request in proxy.requests if request.path.startswith("/models/base")]
    assert sorted(read) == sorted(files)


def test_a_place_without_a_model_is_the_experiment_s_mistake(client: Any, proxy: FaultProxy, tmp_path: Path) -> None:
    from trainer.inputs.bucket import model_path

    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="base/tiny/notes.txt", Body=b"later")
    with pytest.raises(ExperimentError) as caught:
        model_path(experiment_of(proxy.url, BASE), tmp_path, tmp_path / "cache", first=True)
    assert str(caught.value) == (
        f"model_name: no model in {BASE}\n    expected: a folder with config.json\n    found:    notes.txt"
    )


def test_an_adapter_in_a_bucket_is_no_model(client: Any, proxy: FaultProxy, tmp_path: Path) -> None:
    from trainer.inputs.bucket import model_path
    from trainer.inputs.models.model import refuse_adapter

    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="base/tiny/adapter_config.json", Body=b'{"base_model_name_or_path": "me/base"}')
    experiment = experiment_of(proxy.url, BASE)
    path = model_path(experiment, tmp_path, tmp_path / "cache", first=True)
    with pytest.raises(ExperimentError) as caught:
        refuse_adapter(experiment, path, cached=True)
    assert str(caught.value).startswith(f"model_name: {BASE} is an adapter, not a whole model\n")


@pytest.mark.slow
def test_a_run_whose_store_is_down_ends_in_47_and_launcher_upload_finishes_it(
    client: Any, proxy: FaultProxy, tmp_path: Path, make_experiment: Make
) -> None:
    client.create_bucket(Bucket="models")
    storage = {"bucket_name": "models", "object_prefix": "team", "endpoint_url": proxy.url, "upload_to_cloud": True}
    experiment = make_experiment(experiment={"storage_config": storage}, max_steps=1)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "e.yml").write_text(json.dumps({"tiny": experiment.model_dump(mode="json", exclude_unset=True)}))
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "DPO_CACHE_ROOT": str(tmp_path / "cache"), "COLUMNS": "120"}

    def launcher(*args: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "launcher", *args]
        return subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)

    proxy.kill()
    done = launcher("run", "tiny", "--backend", "host", "--name", "first")
    assert done.returncode == 47, done.stdout + done.stderr
    (run,) = (RunDir(path.parent) for path in tmp_path.rglob("experiment.json"))
    assert run.read_record()["outcome"]["exit_code"] == 47
    assert "Upload it with: launcher upload first" in done.stdout + done.stderr
    assert keys(client) == []

    proxy.start()
    done = launcher("upload", "first")
    assert done.returncode == 0, done.stdout + done.stderr
    record = run.read_record()
    assert (record["outcome"]["state"], record["outcome"]["exit_code"]) == ("done", 0)
    prefix = record["uploaded"]["uri"].removeprefix("s3://models/")
    there = {path.relative_to(run.adapter).as_posix() for path in run.adapter.rglob("*") if path.is_file()}
    assert set(keys(client)) == {f"{prefix}/{name}" for name in (*there, "manifest.json")}
