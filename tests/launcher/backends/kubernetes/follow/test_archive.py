"""What runs have left on their claim, read and brought through the reader pod; its files are real ones, its commands too."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.backends.kubernetes.api.cluster import Cluster
from launcher.backends.kubernetes.follow.archive import Archive, NoReader
from launcher.backends.kubernetes.follow.bring import NotThere, bring
from launcher.backends.kubernetes.follow.usage import records
from launcher.errors import LauncherError, UsageError
from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.played import Played, archived, reader

ADAPTER = {"adapter/adapter_config.json": "{}", "adapter/with spaces\nand lines.bin": "x" * 100_000, "adapter/deep/er": ""}
FILES = {
    **ADAPTER,
    "run.json": '{"run": "first"}',
    "logs/rank-0.log": "a\n",
    "logs/rank-10.log": "b\n",
    "checkpoint-5/x": "",
    "checkpoint-10/x": "",
}


@pytest.fixture
def archive(cluster_api: ClusterApi) -> Archive:
    return Archive(Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)}), "default")


def filled(api: ClusterApi, root: Path) -> Any:
    """A run on the claim, whose pods are gone."""
    played = Played(api)
    archived(reader(api, root), "first", **FILES)
    return played.run


def brought(archive: Archive, run: Any, target: Path, name: str = "adapter") -> tuple[int, int, bool]:
    return bring(archive, run.path / name, target, lambda done, of: None)


def test_the_files_of_a_run_are_read_by_their_names(cluster_api, archive, tmp_path):
    run = filled(cluster_api, tmp_path)
    assert archive.record(run) == {"run": "first"}
    assert archive.ranks(run) == [0, 10]
    assert archive.checkpoints(run) == ["checkpoint-5", "checkpoint-10"]
    assert (archive.log(run, 0), archive.log(run, 0, 1), archive.log(run, 3)) == (b"a\n", b"\n", None)
    assert archive.find("first").folder == run.folder
    assert archive.find("firs*") is None


@pytest.mark.parametrize("program", ["find", "tar"])
def test_runs_are_found_while_another_one_changes_its_files(program, cluster_api, archive, tmp_path, monkeypatch):
    run = filled(cluster_api, tmp_path)
    (tmp_path / "bin").mkdir()
    changing = tmp_path / "bin" / program  # both exit with 1 where a file is gone that they have seen before
    changing.write_text(f'#!/bin/sh\n{shutil.which(program)} "$@"\nexit 1\n')
    changing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert archive.find("first").folder == run.folder
    assert records(archive) == {run.folder: {"run": "first"}}
    if program == "find":
        assert brought(archive, run, tmp_path / "here")[0] == len(ADAPTER)


def test_a_reader_that_does_not_run_is_explained_as_why_explains_a_run(cluster_api, archive, tmp_path):
    run = filled(cluster_api, tmp_path)
    cluster_api.objects.change("pods", "reader-1", lambda pod: pod.update(status={"phase": "Pending"}))
    controllers.unschedulable(cluster_api, "reader-1", "0/2 nodes are available: 2 node(s) were unschedulable.")
    with pytest.raises(NoReader, match=r"namespace default: no node can take the reader pod: 2 of 2 nodes are cordoned\n"):
        archive.ranks(run)


def test_a_reader_that_was_replaced_is_found_again(cluster_api, archive, tmp_path):
    run = filled(cluster_api, tmp_path)
    assert archive.ranks(run) == [0, 10]
    cluster_api.objects.delete("pods", "reader-1")
    with pytest.raises(NoReader):
        archive.ranks(run)
    reader(cluster_api, tmp_path, "reader-2")
    assert archive.ranks(run) == [0, 10]


def test_an_adapter_comes_whole_and_is_known_the_second_time(cluster_api, archive, tmp_path):
    run, target = filled(cluster_api, tmp_path), tmp_path / "here" / "first"
    assert brought(archive, run, target) == (3, 100_002, False)
    found = {f"adapter/{path.relative_to(target)}": path.read_text() for path in target.rglob("*") if path.is_file()}
    assert found == ADAPTER
    assert [path.name for path in target.parent.iterdir()] == ["first"]
    assert brought(archive, run, target) == (3, 100_002, True)
    (target / "deep" / "er").write_text("other")
    with pytest.raises(UsageError, match="with other contents"):
        brought(archive, run, target)


def test_all_of_a_run_comes_without_its_checkpoints(cluster_api, archive, tmp_path):
    run = filled(cluster_api, tmp_path)
    brought(archive, run, tmp_path / "here", "")
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["adapter", "logs", "run.json"]


def test_a_connection_that_breaks_is_tried_again_and_leaves_nothing_half(cluster_api, archive, tmp_path):
    run = filled(cluster_api, tmp_path)
    cluster_api.fail(None, "command=tar", times=1)
    assert brought(archive, run, tmp_path / "here")[0] == 3
    cluster_api.fail(None, "command=tar", times=3)
    with pytest.raises(LauncherError, match="the connection broke 3 times"):
        brought(archive, run, tmp_path / "there")
    assert not [path for path in tmp_path.iterdir() if "there" in path.name]


def test_what_comes_otherwise_than_it_lies_there_is_not_kept(cluster_api, archive, tmp_path):
    run = filled(cluster_api, tmp_path)

    def act(words, stdin):
        shown = [word.replace("/dpo/runs", str(tmp_path / "dpo" / "runs")) for word in words]
        done = subprocess.run(shown, capture_output=True, check=False)
        (tmp_path / "dpo" / "runs" / run.folder / "adapter" / "deep" / "er").write_text("changed")
        return done.returncode, done.stdout, done.stderr

    cluster_api.commands["default", "reader-1"] = act
    with pytest.raises(LauncherError, match="the copy of deep/er differs"):
        brought(archive, run, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_run_without_an_adapter_has_none(cluster_api, archive, tmp_path):
    run = filled(cluster_api, tmp_path)
    with pytest.raises(NotThere):
        brought(archive, run, tmp_path / "here", "nothing")
