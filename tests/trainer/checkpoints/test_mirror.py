"""The thread that uploads checkpoints, over senders that are played here."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from launcher.errors import StorageError, UploadError
from launcher.runs.run_dir import RunDir
from launcher.storage.transfer.upload import Uploaded
from tests.waiting import wait_for
from trainer.checkpoints.mirror import First, Mirror, begin

URI = "s3://b/exp_1/m/r"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "runs" / "r")
    run.create({run.experiment: "{}"}, {"run": "r"})
    return run


def write(run: RunDir, step: int) -> Path:
    folder = run.path / f"checkpoint-{step}"
    (folder / "global_step").mkdir(parents=True)
    (folder / "global_step" / "shard").write_text(f"of {step}")
    with run.steps.open("a") as log:
        log.write(f'{{"step": {step}}}\n')
    return folder


class Slow:
    """Uploads when it is let: notes what each upload saw."""

    def __init__(self) -> None:
        self.began, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.sent: list[tuple[int, str, str]] = []

    def __call__(self, step: int, folder: Path, best: int | None) -> int:
        self.began.release()
        assert self.let.acquire(timeout=60)
        lines = (folder / "run" / "logs" / "dpo_train_steps.jsonl").read_text()
        self.sent.append((step, (folder / "global_step" / "shard").read_text(), lines))
        return 10


def test_of_the_checkpoints_that_wait_the_newest_comes_next_as_it_was_when_it_was_written(run: RunDir) -> None:
    send = Slow()
    mirror = Mirror(run, URI, send)
    for step in (5, 10, 15):
        mirror.offer(write(run, step))
        if step == 5:
            assert send.began.acquire(timeout=60)
    shutil.rmtree(run.path / "checkpoint-5")  # too old for save_total_limit
    with run.steps.open("a") as log:
        log.write("later\n")
    for _ in range(2):
        send.let.release()
    assert mirror.finish()
    assert [(step, shard) for step, shard, _ in send.sent] == [(5, "of 5"), (15, "of 15")]
    assert send.sent[1][2] == "".join(f'{{"step": {step}}}\n' for step in (5, 10, 15))
    assert not (run.path / ".mirror").exists()
    assert run.read_record()["mirror"]["step"] == 15


def test_the_best_checkpoint_is_not_dropped_for_a_newer_one(run: RunDir) -> None:
    send = Slow()
    mirror = Mirror(run, URI, send)
    for step in (5, 10, 15):
        mirror.offer(write(run, step), 10 if step >= 10 else 5)
        if step == 5:
            assert send.began.acquire(timeout=60)
    for _ in range(3):
        send.let.release()
    assert mirror.finish()
    assert [step for step, *_ in send.sent] == [5, 15, 10]


def test_a_server_that_fails_is_a_warning_with_the_age_and_the_training_never_waits(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    let, is_away = threading.Event(), threading.Event()
    let.set()

    def send(step: int, folder: Path, best: int | None) -> int:
        assert let.wait(60), "who offers a checkpoint waits for its upload"
        if is_away.is_set():
            raise UploadError("cannot connect")
        return 10

    mirror = Mirror(run, URI, send, first=0.05)
    mirror.offer(write(run, 5))
    wait_for(lambda: (run.read_record().get("mirror") or {}).get("step") == 5)
    let.clear()
    is_away.set()
    mirror.offer(write(run, 10))
    let.set()
    wait_for(lambda: run.read_record()["mirror"]["failed"] == "cannot connect")
    mirror.offer(write(run, 15))
    is_away.clear()
    assert mirror.finish()
    out = capsys.readouterr().out
    old = f"warning: the newest checkpoint in {URI} is checkpoint-5, "
    assert f"{old}5 steps old; checkpoint-10: cannot connect\n" in out
    assert f"{old}10 steps old; checkpoint-15: cannot connect\n" in out
    assert f"checkpoint-15 is in {URI} (10 B in " in out
    mirror_ = run.read_record()["mirror"]
    assert (mirror_["step"], mirror_["offered"], mirror_["failed"]) == (15, 15, None)


def test_a_run_that_is_asked_to_stop_waits_no_longer_than_its_grace_period(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    send = Slow()
    mirror = Mirror(run, URI, send)
    mirror.offer(write(run, 5))
    began = time.monotonic()
    assert not mirror.finish(began + 0.3)
    assert 0.2 < time.monotonic() - began < 20
    assert f"warning: no checkpoint is in {URI} yet; checkpoint-5: the time for it is over\n" in capsys.readouterr().out
    send.let.release()


def test_a_stop_that_comes_while_the_end_waits_is_heeded(run: RunDir) -> None:
    send, asked = Slow(), [None, None, time.monotonic()]
    mirror = Mirror(run, URI, send, asked=lambda: asked.pop(0) if len(asked) > 1 else asked[0])
    mirror.offer(write(run, 5))
    began = time.monotonic()
    assert not mirror.finish()
    assert time.monotonic() - began < 20
    send.let.release()


def test_a_log_that_cannot_be_written_ends_no_uploads_and_the_end_does_not_wait_for_ever(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trainer.checkpoints.mirror.say", full)
    monkeypatch.setattr("trainer.checkpoints.mirror.notices", full)
    answers = iter([UploadError("cannot connect"), None, None])

    def send(step: int, folder: Path, best: int | None) -> int:
        if (error := next(answers)) is not None:
            raise error
        return 10

    mirror = Mirror(run, URI, send, first=0.01)
    mirror.offer(write(run, 5))
    wait_for(lambda: (run.read_record().get("mirror") or {}).get("step") == 5)
    mirror.offer(write(run, 10))
    assert mirror.finish(time.monotonic() + 60)
    assert run.read_record()["mirror"]["step"] == 10


def test_a_note_that_a_slow_disk_takes_late_does_not_undo_a_newer_one(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training notes what it offers while the upload of it succeeds."""
    begun, sent, write_now = threading.Event(), threading.Event(), RunDir.update_record

    def update_record(self: RunDir, **entries: object) -> None:
        if threading.current_thread() is threading.main_thread():
            begun.set()
            sent.wait(60)
            time.sleep(0.5)  # in which the other thread would note its success
        write_now(self, **entries)

    def send(step: int, folder: Path, best: int | None) -> int:
        assert begun.wait(60)
        sent.set()
        return 10

    mirror = Mirror(run, URI, send)
    monkeypatch.setattr(RunDir, "update_record", update_record)
    mirror.offer(write(run, 5))
    assert mirror.finish()
    assert run.read_record()["mirror"]["step"] == 5


def test_a_run_keeps_the_name_of_its_copies(run: RunDir) -> None:
    begin(run, Slow(), URI).finish()
    first = run.read_record()["mirror"]
    assert first["to"] == URI
    begin(run, Slow(), URI).finish()
    assert json.loads(run.record.read_text())["mirror"]["id"] == first["id"]


class Kept:
    """A place in a bucket that lets nothing be removed; ``is_denied`` until a test changes it."""

    uri, is_denied = URI, True

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send(self, step: int, folder: Path, others: object) -> Uploaded:
        self.sent.append(step)
        return Uploaded(URI, 1, 10)

    def prune(self, limit: int | None, kept: object) -> list[int]:
        if self.is_denied:
            raise StorageError("s3:DeleteObject is denied\n    hint: …")
        return []


def test_a_checkpoint_whose_older_ones_cannot_be_removed_is_uploaded_and_that_is_a_warning_once(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Kept()
    mirror = Mirror(run, URI, First(place, 2), first=0.01)  # type: ignore[arg-type]
    for step in (5, 10):
        mirror.offer(write(run, step))
        assert mirror.wait(time.monotonic() + 60)
    assert mirror.finish()
    assert place.sent == [5, 10]
    record = run.read_record()["mirror"]
    assert (record["step"], record["failed"]) == (10, None)
    assert capsys.readouterr().out.count(f"older checkpoints in {URI} cannot be removed: s3:DeleteObject is denied") == 1
