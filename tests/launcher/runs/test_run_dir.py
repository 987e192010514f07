from __future__ import annotations

import json
import os
import resource
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from launcher.errors import LauncherError, UsageError
from launcher.runs.run_dir import RunDir, find_checkpoint_runs, find_runs


def make(root: Path, name: str) -> RunDir:
    run = RunDir.of(root, "data/dpo/model", "7", "Qwen3-0.6B", name)
    run.create({run.experiment: "{}"}, {"run": name})
    return run


def test_a_run_lies_where_the_seed_s_users_look(tmp_path: Path) -> None:
    run = make(tmp_path, "first")
    shelf = tmp_path / "data" / "dpo" / "model" / "exp_7" / "Qwen3-0.6B"
    assert run.path == shelf / "runs" / "first"
    assert (shelf / "run.json").resolve() == run.record
    assert (shelf / "logs").resolve() == run.logs
    assert (shelf / "logs_tensorboard").is_dir()


def test_the_links_name_the_newest_run_and_are_relative(tmp_path: Path) -> None:
    make(tmp_path, "first")
    newest = make(tmp_path, "second")
    assert (newest.shelf / "logs").readlink() == Path("runs/second/logs")
    moved = tmp_path / "moved"
    newest.shelf.rename(moved)
    assert (moved / "run.json").read_text() == (moved / "runs" / "second" / "run.json").read_text()
    assert sorted(path.name for path in moved.iterdir()) == ["logs", "logs_tensorboard", "run.json", "runs"]


def test_the_link_to_the_adapter_moves_when_an_adapter_is_published_and_not_when_a_run_starts(tmp_path: Path) -> None:
    first = make(tmp_path, "first")
    link = first.shelf / "adapter"
    assert not link.is_symlink()
    (first.path / ".adapter").mkdir()
    (first.path / ".adapter" / "adapter_model.safetensors").touch()
    first.publish(first.path / ".adapter")
    assert link.readlink() == Path("runs/first/adapter")
    make(tmp_path, "second")  # it may be stopped, or fail
    assert (link / "adapter_model.safetensors").is_file()
    assert (first.shelf / "logs").readlink() == Path("runs/second/logs")


def test_somebody_s_own_folder_is_never_replaced_by_a_link(tmp_path: Path) -> None:
    shelf = RunDir.of(tmp_path, "data/dpo/model", "7", "Qwen3-0.6B", "x").shelf
    (shelf / "adapter").mkdir(parents=True)
    (shelf / "adapter" / "precious").touch()
    first = make(tmp_path, "first")
    (first.path / ".adapter").mkdir()
    first.publish(first.path / ".adapter")
    assert (shelf / "adapter" / "precious").exists()
    assert (shelf / "logs").is_symlink()


def test_a_disk_that_refuses_a_file_leaves_no_half_made_run(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # like a full disk: folders can be made, files cannot be filled
    try:
        with pytest.raises(LauncherError, match=r"cannot create the run's folder .*: file too large"):
            make(tmp_path, "first")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "data/dpo/model/exp_7/Qwen3-0.6B/runs/first").exists()
    assert make(tmp_path, "first").record.is_file()


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(LauncherError, match=r"cannot create .*: not a directory"):
        make(tmp_path, "first")


def test_a_run_that_exists_is_not_made_again(tmp_path: Path) -> None:
    run = make(tmp_path, "first")
    before = run.record.read_text()
    with pytest.raises(UsageError, match="run first exists"):
        make(tmp_path, "first")
    assert run.record.read_text() == before


def test_runs_are_found_newest_first_and_checkpoints_by_their_step(tmp_path: Path) -> None:
    first, second, third = (make(tmp_path, name) for name in ("b", "a", "c"))
    for seconds, run in enumerate((first, second, third)):  # a file system's clock may tick less often than runs are made here
        os.utime(run.experiment, (seconds, seconds))
    assert find_runs([tmp_path / "data/dpo/model"]) == [third, second, first]
    for step in ("9", "10", "x"):
        (first.path / f"checkpoint-{step}").mkdir()
    assert [path.name for path in first.checkpoints()] == ["checkpoint-9", "checkpoint-10"]
    assert find_checkpoint_runs(third) == [first]
    assert find_checkpoint_runs(first) == []


def test_an_attempt_that_was_killed_ended_when_it_last_wrote_to_a_log(tmp_path: Path) -> None:
    run = make(tmp_path, "first")
    started = "2026-11-24T12:00:00+00:00"
    run.update_record(attempts=[{"number": 1, "started": started, "ended": None, "exit_code": None}])
    assert [attempt["ended"] for attempt in run.closed_attempts()] == [started]
    run.rank_log(0).write_text("step 1\n")
    last = datetime(2026, 11, 24, 12, 3, 20, tzinfo=UTC)
    os.utime(run.rank_log(0), (last.timestamp(), last.timestamp()))
    assert [attempt["ended"] for attempt in run.closed_attempts()] == ["2026-11-24T12:03:20+00:00"]
    run.reopen({"run": "first", "attempts": []})
    assert [attempt["ended"] for attempt in run.read_record()["attempts"]] == ["2026-11-24T12:03:20+00:00"]


def test_a_reader_never_sees_half_a_record(tmp_path: Path) -> None:
    run = make(tmp_path, "first")

    def write() -> None:
        for number in range(100):
            run.update_record(number=number, padding="x" * 20_000)

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while writer.is_alive() or reads == 0:
        assert run.read_record()["run"] == "first"
        reads += 1
    writer.join()
    assert run.read_record()["number"] == 99
    assert list(run.path.glob(".run.json*")) == []


def test_a_record_that_is_no_json_is_named(tmp_path: Path) -> None:
    run = make(tmp_path, "first")
    run.record.write_text('{"run": ')
    with pytest.raises(LauncherError, match=r"run\.json: expected JSON"):
        run.read_record()
    run.record.write_text(json.dumps({"run": "first"}))
    assert run.read_record() == {"run": "first"}
