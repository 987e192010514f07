from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.s3.server import MotoServer

Launcher = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(moto: MotoServer) -> Any:
    return moto.emptied("models")


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], client: Any) -> Launcher:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("AWS_ACCESS_KEY=AKIAEXAMPLE\nAWS_SECRET_KEY=hush-hush\n")

    def type_in(*args: str) -> tuple[int, str, str]:
        """What is printed, without the lines about a transfer that takes more than a second."""
        with pytest.raises(SystemExit) as ended:
            main(list(args))
        out, err = capsys.readouterr()
        answer = [line for line in out.splitlines(keepends=True) if not re.match("(up|down)loaded [0-9]", line)]
        return int(ended.value.code or 0), "".join(answer), err

    return type_in


def make_run(root: Path, url: str | None, name: str = "first", *, code: int = 47) -> RunDir:
    """A run that has trained, and ended with ``code``."""
    storage = {"bucket_name": "models", "object_prefix": "team", "endpoint_url": url} if url else None
    experiment = Experiment.parse({"experiment_id": "1", "model_name": "org/m", "datasets_path": "d", "storage_config": storage})
    run = RunDir.of(root, "data/dpo/model", "1", "m", name)
    outcome = {"state": "done" if code == 0 else "failed", "exit_code": code, "sentence": "not uploaded", "ended": "then"}
    record = {"run": name, "key": "one", "experiment_id": "1", "backend": "host", "outcome": outcome, "attempts": []}
    run.create({run.experiment: experiment.model_dump_json()}, record)
    aside = run.path / "aside"
    aside.mkdir()
    (aside / "adapter_model.safetensors").write_bytes(b"weights")
    run.publish(aside)
    return run


def write_experiment(url: str) -> None:
    Path("configs").mkdir()
    storage = {"bucket_name": "models", "object_prefix": "other", "endpoint_url": url}
    experiment = {"experiment_id": 2, "model_name": "m", "datasets_path": "d", "storage_config": storage}
    Path("configs/e.yml").write_text(json.dumps({"two": experiment}))


def keys(client: Any) -> list[str]:
    return [one["Key"] for one in client.list_objects_v2(Bucket="models").get("Contents", [])]


def test_a_run_that_was_trained_but_not_uploaded_is_done_afterwards(
    launcher: Launcher, moto: MotoServer, client: Any, tmp_path: Path
) -> None:
    run = make_run(tmp_path, moto.url)
    code, out, err = launcher("upload", "first")
    uri = "s3://models/team/exp_1/m/first"
    assert (code, err) == (0, "")
    assert re.sub(r"\([^)]*\)", "(N B)", out) == (
        f"Uploaded 2 objects (N B) to {uri}\nDownload it with: launcher download {uri} --experiment one\n"
    )
    assert keys(client) == [f"team/exp_1/m/first/{name}" for name in ("adapter_model.safetensors", "manifest.json")]
    record = run.read_record()
    assert record["uploaded"]["uri"] == uri
    assert record["outcome"] == {
        "state": "done",
        "exit_code": 0,
        "sentence": "done: trained, and uploaded afterwards",
        "ended": "then",
    }


def test_an_upload_that_fails_ends_in_47_and_leaves_the_run_as_it_was(
    launcher: Launcher, moto: MotoServer, client: Any, tmp_path: Path
) -> None:
    client.delete_bucket(Bucket="models")
    run = make_run(tmp_path, moto.url)
    before = run.read_record()
    assert launcher("upload", "first") == (
        47,
        "",
        f"error: bucket models at {moto.url}: bucket not found; check bucket_name, region and endpoint_url\n",
    )
    assert run.read_record() == before


def test_the_path_of_an_adapter_means_its_run(launcher: Launcher, moto: MotoServer, client: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path, moto.url)
    assert launcher("upload", "data/dpo/model/exp_1/m/adapter")[0] == 0
    assert run.read_record()["outcome"]["state"] == "done"
    assert keys(client)[0] == "team/exp_1/m/first/adapter_model.safetensors"


def test_a_folder_elsewhere_needs_an_experiment(launcher: Launcher, moto: MotoServer, client: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights").write_bytes(b"w")
    assert launcher("upload", "mine") == (
        2,
        "",
        "error: a folder outside every run needs --experiment EXP: its storage_config names the bucket\n",
    )
    write_experiment(moto.url)
    assert launcher("upload", "./mine", "--experiment", "two")[0] == 0
    assert keys(client) == ["other/exp_2/m/mine/manifest.json", "other/exp_2/m/mine/weights"]


def test_another_experiment_s_bucket_may_take_a_run(launcher: Launcher, moto: MotoServer, client: Any, tmp_path: Path) -> None:
    make_run(tmp_path, None, code=0)
    assert launcher("upload", "first") == (
        2,
        "",
        "error: the experiment of first has no storage_config.bucket_name; set it, or name another experiment with "
        "--experiment EXP\n",
    )
    write_experiment(moto.url)
    assert launcher("upload", "first", "--experiment", "two")[0] == 0
    assert keys(client)[0] == "other/exp_1/m/first/adapter_model.safetensors"
    assert launcher("download", "first") == (0, "Downloaded 1 file (7 B) to first\n", "")  # from the server where it went


def test_a_run_without_an_adapter_has_nothing_to_download(launcher: Launcher, moto: MotoServer, tmp_path: Path) -> None:
    run = make_run(tmp_path, moto.url, code=42)
    (run.adapter / "adapter_model.safetensors").unlink()
    run.adapter.rmdir()
    said = "error: first has no adapter (state: failed). Resume it with: launcher resume first\n"
    assert launcher("download", "first") == (2, "", said)


def test_what_was_uploaded_comes_down_into_a_folder_of_its_name(
    launcher: Launcher, moto: MotoServer, client: Any, tmp_path: Path
) -> None:
    run = make_run(tmp_path, moto.url)
    assert launcher("download", "first") == (
        2,
        "",
        f"error: first was not uploaded; its adapter is {run.adapter}. Upload it with: launcher upload first\n",
    )
    launcher("upload", "first")
    assert launcher("download", "first") == (0, "Downloaded 1 file (7 B) to first\n", "")
    assert Path("first/adapter_model.safetensors").read_bytes() == b"weights"
    assert launcher("download", "first") == (0, "first is complete: 1 file (7 B), nothing to download\n", "")

    write_experiment(moto.url)
    uri = "s3://models/team/exp_1/m/first"
    assert launcher("download", uri, "--experiment", "two", "--to", "x/y") == (0, "Downloaded 1 file (7 B) to x/y\n", "")
    assert Path("x/y/adapter_model.safetensors").read_bytes() == b"weights"


def test_a_downloaded_adapter_comes_with_the_line_that_loads_it(
    launcher: Launcher, moto: MotoServer, client: Any, tmp_path: Path
) -> None:
    run = make_run(tmp_path, moto.url)
    (run.adapter / "adapter_config.json").write_text("{}")
    launcher("upload", "first")
    assert launcher("download", "first", "--to", "mine")[1].splitlines()[-1] == (
        'Load it in Python: from peft import AutoPeftModelForCausalLM; model = AutoPeftModelForCausalLM.from_pretrained("mine")'
    )
