"""Where a merged model appears: whole in a new folder, or in a bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launcher.after import merge as merging
from launcher.after.merge import How, Merged, merge, whole
from launcher.cli import launcher
from launcher.errors import UsageError
from launcher.job.target import Target
from launcher.runs.cache import cache_root
from tests.run_folders import Made
from tests.s3.server import MotoServer

KEYS = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DPO_CACHE_ROOT", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


def target(home: Path, **settings: Any) -> Target:
    run = Made("one", settings=settings).write(home)
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text("{}")
    return Target.of(run.path)


def listen(_: Any) -> None:
    """Nothing is drawn."""


def test_a_folder_appears_when_it_is_whole(here: Path) -> None:
    with whole(here / "new" / "model") as aside:
        (aside / "config.json").write_text("{}")
        assert not (here / "new" / "model").exists()
    assert [path.name for path in (here / "new").rglob("*")] == ["model", "config.json"]


def test_an_empty_folder_is_replaced_and_a_failure_leaves_it_empty(here: Path) -> None:
    (here / "model").mkdir()
    with pytest.raises(FileNotFoundError), whole(here / "model") as aside:
        (aside / "half" / "of it").touch()
    assert list(here.rglob("*")) == [here / "model"]
    with whole(here / "model") as aside:
        (aside / "config.json").write_text("{}")
    assert (here / "model" / "config.json").is_file()


def test_what_a_killed_process_left_is_removed_and_one_that_works_is_not(here: Path) -> None:
    code = "import sys, time; from pathlib import Path; from launcher.after.merge import whole\n"
    code += "with whole(Path('model')) as aside: (aside / 'half').mkdir(); print('there', flush=True); time.sleep(60)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        with pytest.raises(UsageError, match="is being written by another process"), whole(here / "model"):
            pass
        process.kill()
    assert not (here / "model").exists()
    with whole(here / "model") as aside:
        assert list(aside.iterdir()) == []
    assert (here / "model").is_dir()


def test_a_folder_with_files_and_a_file_are_refused(here: Path) -> None:
    found = target(here)
    (here / "full").mkdir()
    (here / "full" / "x").touch()
    with pytest.raises(UsageError, match=r"full is not empty; name a new one with -o DIR"):
        merge(found, "full", How(), print, listen)
    with pytest.raises(UsageError, match=r"x is a file; name a new folder with -o DIR"):
        merge(found, "full/x", How(), print, listen)


def test_whole_weights_have_nothing_to_merge(here: Path) -> None:
    with pytest.raises(UsageError, match=r"one has whole weights: nothing to merge\. Use its folder: .*/adapter"):
        merge(target(here, full_finetuning=True), "out", How(), print, listen)


class Answering:
    """A tool whose process merges nothing and answers as one that did."""

    def __init__(self, found: Target):
        self.target, self.docker, self.caller = found, None, {"PATH": ""}

    def ask(self, module: str, args: list[str], **_: Any) -> Any:
        Path(args[0], "model.safetensors").write_bytes(b"weights")
        counts = {"base": "b", "dtype": "bfloat16", "tensors": 1, "changed": 1, "bytes": 7, "agreement": None, "said": None}
        return {**counts, "warnings": ["trained on 4-bit weights"], "notices": ["both are written"]}


def test_what_makes_the_merged_model_worse_is_printed_as_a_warning(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = target(here)
    monkeypatch.setattr(merging, "tool", lambda *_: Answering(found))
    done = CliRunner().invoke(launcher, ["merge", str(found.folder), "-o", "out"], catch_exceptions=False)
    assert [line for line in done.stderr.splitlines() if ": " in line] == [
        "warning: trained on 4-bit weights",
        "notice: both are written",
    ]


def test_a_merge_whose_upload_failed_is_uploaded_by_the_next_one(
    here: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = moto.emptied("models")
    for name, value in {**KEYS, "AWS_ENDPOINT_URL_S3": moto.url}.items():
        monkeypatch.setenv(name, value)
    found = target(here)
    folder = cache_root(os.environ) / "merged" / merging._key(found, "s3://models/team/chat", How())
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    done = Merged("one", str(folder), "base", "bfloat16", 1, 1, 7, None, None, (), ())
    folder.with_suffix(".json").write_text(json.dumps(vars(done)))
    told: list[str] = []
    sent = merge(found, "s3://models/team/chat", How(), told.append, listen)
    assert sent.place == "s3://models/team/chat"
    assert told == [f"{folder} is complete: uploading it"]
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="models")["Contents"]]
    assert keys == ["team/chat/manifest.json", "team/chat/model.safetensors"]
    assert list(folder.parent.iterdir()) == []


def test_a_merge_that_was_killed_while_its_uploaded_folder_was_removed_is_not_uploaded_in_part(
    here: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto.emptied("models")
    for name, value in {**KEYS, "AWS_ENDPOINT_URL_S3": moto.url}.items():
        monkeypatch.setenv(name, value)
    found = target(here)
    folder = cache_root(os.environ) / "merged" / merging._key(found, "s3://models/team/chat", How())
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    done = Merged("one", str(folder), "base", "bfloat16", 1, 1, 7, None, None, (), ())
    folder.with_suffix(".json").write_text(json.dumps(vars(done)))

    def killed(folder: Path, **_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(merging.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        merge(found, "s3://models/team/chat", How(), print, listen)
    assert not folder.with_suffix(".json").exists()
