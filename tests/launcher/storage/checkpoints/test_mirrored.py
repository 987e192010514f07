from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import CredentialError, ExperimentError, StorageError, UnreachableError, UploadError, Warned
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from launcher.storage import Mirrored
from launcher.storage.checkpoints.aside import set_folder_aside, set_run_aside
from launcher.storage.checkpoints.restore import ARRIVING, restore
from tests.s3.proxy import FaultProxy
from tests.waiting import wait_for
from trainer.checkpoints.mirror import First

from ..conftest import EFFORT, KEYS

BELOW = "team/exp_1/m/r"


@pytest.fixture
def place(proxy: FaultProxy) -> Mirrored:
    experiment = Experiment.parse(
        {
            "experiment_id": "1",
            "model_name": "org/m",
            "datasets_path": "data",
            "checkpoint_to": "s3://models/team",
            "storage_config": {"endpoint_url": proxy.url, "bucket_name": "adapters"},
        }
    )
    found = Mirrored.of(experiment, "r", KEYS, EFFORT)
    assert found is not None
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return new_run(tmp_path / "here")


def new_run(root: Path, **record: Any) -> RunDir:
    run = RunDir.of(root, "out", "1", "m", "r")
    run.create({run.experiment: "{}"}, {"run": "r", "outcome": {"state": "starting"}, **record})
    return run


def write(run: RunDir, step: int, *, best: int | None = None, weights: bytes = b"") -> Path:
    """A checkpoint, and the lines of the log that lead to it."""
    folder = run.path / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "weights").write_bytes(weights or f"weights of step {step} ".encode() * 200)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "best_global_step": best}))
    with run.steps.open("a") as log:
        log.write(json.dumps({"type": "train", "step": step, "loss": 1 / step}) + "\n")
    return folder


def sent(place: Mirrored, run: RunDir, *steps: int, **more: Any) -> None:
    for step in steps:
        checkpoint, aside = write(run, step, **more), run.path / "aside" / str(step)
        set_folder_aside(checkpoint, aside)
        set_run_aside(run, aside / "run")
        place.send(step, aside)


def steps_of(run: RunDir) -> list[int]:
    return [json.loads(line)["step"] for line in run.steps.read_text().splitlines()]


def brought(run: RunDir, place: Mirrored) -> tuple[int | None, list[str]]:
    said: list[str] = []
    return restore(run, place, said.append), said


def test_the_newest_complete_checkpoint_comes_to_a_fresh_folder_with_metrics_and_record(
    place: Mirrored, run: RunDir, tmp_path: Path
) -> None:
    run.update_record(created="2026-01-01", mirror={"id": "a"}, attempts=[{"number": 1}], model={"revision": "c0ffee"})
    (run.attempt(1)).mkdir()
    (run.attempt(1) / "node-0").touch()
    sent(place, run, 5, 10)
    fresh = new_run(tmp_path / "there", created="2026-02-02", process={"pid": 7})
    assert brought(fresh, place) == (10, [f"downloaded checkpoint-10 from s3://models/{BELOW}, with metrics and record"])
    (there,) = fresh.checkpoints()
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        path.name: path.read_bytes() for path in (run.path / "checkpoint-10").iterdir()
    }
    assert steps_of(fresh) == [5, 10]
    record = fresh.read_record()
    assert (record["created"], record["attempts"], record["model"]) == ("2026-01-01", [{"number": 1}], {"revision": "c0ffee"})
    assert record["mirror"] == {"id": "a", "step": 10, "failed": None}
    assert (record["process"], record["outcome"]) == ({"pid": 7}, {"state": "starting"})
    assert (fresh.attempt(1) / "node-0").exists()
    assert not (fresh.path / ARRIVING).exists()


def with_adapter(run: RunDir, *, copied: bool = True) -> None:
    """A run that started from an adapter, with its copy of it."""
    run.update_record(adapter={"name": "/away/sft", "mode": "merge", "sha256": {"adapter_config.json": "ab"}})
    if copied:
        run.start.mkdir()
        (run.start / "adapter_config.json").write_text("{}")


def test_the_copy_of_the_adapter_that_a_run_started_from_comes_with_its_checkpoint(
    place: Mirrored, run: RunDir, tmp_path: Path
) -> None:
    with_adapter(run)
    first = First(place, 2, start=run.start)
    for step in (5, 10):
        checkpoint, aside = write(run, step), run.path / "aside" / str(step)
        set_folder_aside(checkpoint, aside)
        set_run_aside(run, aside / "run")
        first(step, aside, None)
    assert (place.read("start/adapter_config.json"), place.steps()) == (b"{}", [5, 10])
    fresh = new_run(tmp_path / "there")
    assert brought(fresh, place)[0] == 10
    assert (fresh.start / "adapter_config.json").read_text() == "{}"
    assert not (fresh.path / ARRIVING).exists()

    shutil.rmtree(fresh.start)  # as after a kill between the two
    assert brought(fresh, place)[0] is None
    assert (fresh.start / "adapter_config.json").read_text() == "{}"


def test_copies_without_the_adapter_that_the_run_started_from_are_a_warning_that_names_it(
    place: Mirrored, run: RunDir, tmp_path: Path
) -> None:
    with_adapter(run, copied=False)
    sent(place, run, 5)
    step, said = brought(new_run(tmp_path / "there"), place)
    assert step == 5
    assert said[0].startswith(f"no copy of the adapter /away/sft in s3://models/{BELOW}: it is read from where the run started (")
    assert isinstance(said[0], Warned)


def test_a_checkpoint_without_its_manifest_is_none_and_a_damaged_one_is_left_for_an_older_one(
    place: Mirrored, run: RunDir, tmp_path: Path, client: Any
) -> None:
    sent(place, run, 5, 10, 15)
    client.delete_object(Bucket="models", Key=f"{BELOW}/checkpoint-15/manifest.json")
    client.put_object(Bucket="models", Key=f"{BELOW}/checkpoint-10/weights", Body=b"X" * 20 * 200)
    assert place.steps() == [5, 10]
    fresh = new_run(tmp_path / "there")
    step, said = brought(fresh, place)
    assert (step, [one.name for one in fresh.checkpoints()]) == (5, ["checkpoint-5"])
    assert isinstance(said[0], Warned)
    assert said[0].startswith(f"checkpoint-10 in s3://models/{BELOW} cannot be used: ")
    assert steps_of(fresh) == [5]


def test_a_disk_that_is_full_is_no_damage_of_the_copies_and_the_run_does_not_begin_again(
    place: Mirrored, run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(place, run, 5)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("launcher.storage.transfer.download.receive", full)
    with pytest.raises(StorageError, match="No space left on device"):
        brought(new_run(tmp_path / "there"), place)


def test_a_folder_that_is_ahead_keeps_its_own_and_one_that_is_behind_gets_newer_metrics(
    place: Mirrored, run: RunDir, tmp_path: Path
) -> None:
    run.update_record(mirror={"id": "a"})
    sent(place, run, 5, 10)
    behind = new_run(tmp_path / "behind", mirror={"id": "a"})
    write(behind, 5)
    assert brought(behind, place)[0] == 10
    assert steps_of(behind) == [5, 10]
    write(run, 15)
    assert brought(run, place) == (None, [f"the run's folder has checkpoint-15; s3://models/{BELOW} has checkpoint-10"])


def test_another_run_of_the_same_name_is_refused(place: Mirrored, run: RunDir, tmp_path: Path) -> None:
    run.update_record(mirror={"id": "a"})
    sent(place, run, 5)
    for record in ({"mirror": {"id": "b"}}, {}):
        other = new_run(tmp_path / f"other-{len(record)}", **record)
        write(other, 2)
        with pytest.raises(ExperimentError, match="holds checkpoints of another run named r"):
            restore(other, place, print)


def test_the_best_checkpoint_comes_with_the_newest(place: Mirrored, run: RunDir, tmp_path: Path) -> None:
    sent(place, run, 5)
    sent(place, run, 10, best=5)
    fresh = new_run(tmp_path / "there")
    assert brought(fresh, place)[0] == 10
    assert [one.name for one in fresh.checkpoints()] == ["checkpoint-5", "checkpoint-10"]


def test_old_checkpoints_are_removed_manifest_first_and_the_best_stays(
    place: Mirrored, run: RunDir, proxy: FaultProxy, client: Any
) -> None:
    sent(place, run, 5, 10, 15, 20)
    client.put_object(Bucket="models", Key=f"{BELOW}/checkpoint-12/weights", Body=b"half of one")
    client.put_object(Bucket="models", Key=f"{BELOW}/checkpoint-25/weights", Body=b"half of the next")
    proxy.requests.clear()
    assert place.prune(2, kept=(5,)) == [10]
    assert place.steps() == [5, 15, 20]
    gone = [one.path.partition("?")[0].rpartition("/")[2] for one in proxy.requests if one.method == "DELETE"]
    assert gone[0] == "manifest.json"
    left = {one["Key"].split("/")[4] for one in client.list_objects_v2(Bucket="models")["Contents"]}
    assert left == {"checkpoint-5", "checkpoint-15", "checkpoint-20", "checkpoint-25"}


def test_a_later_copy_that_could_not_be_used_does_not_push_out_what_the_run_has_just_sent(place: Mirrored, run: RunDir) -> None:
    sent(place, run, 5, 10)  # the run was resumed from 5, as 10 is damaged
    aside = run.path / "aside" / "7"
    set_folder_aside(write(run, 7), aside)
    First(place, 1)(7, aside, None)
    assert place.steps() == [7, 10]


def test_the_parts_of_two_nodes_are_one_checkpoint(place: Mirrored, run: RunDir, tmp_path: Path) -> None:
    own, theirs = run.path / "aside", tmp_path / "node-1"
    set_folder_aside(write(run, 5), own)
    theirs.mkdir()
    (theirs / "rng_state_1.pth").write_bytes(b"rank 1")
    with pytest.raises(UploadError, match=r"another node did not upload its part \(abc-1.json\) within 0 s"):
        place.send(5, own, others=place.others(["abc-1.json"], 0))
    assert place.steps() == []
    place.send_part(5, theirs, "abc-1.json")
    assert place.steps() == []
    place.send(5, own, others=place.others(["abc-1.json"], 10))
    fresh = new_run(tmp_path / "there")
    assert brought(fresh, place)[0] == 5
    assert (fresh.path / "checkpoint-5" / "rng_state_1.pth").read_bytes() == b"rank 1"
    assert not (fresh.path / "checkpoint-5" / ".parts").exists()


def test_the_check_before_the_training_tells_a_missing_key_a_missing_bucket_and_a_server_that_is_away_apart(
    place: Mirrored, proxy: FaultProxy
) -> None:
    assert place.check() == []
    with pytest.raises(CredentialError):
        replace(place, env={}).check()
    with pytest.raises(ExperimentError, match="checkpoint_to: bucket nowhere not found"):
        replace(place, storage=place.storage.model_copy(update={"bucket_name": "nowhere"})).check()
    proxy.kill()
    with pytest.raises(UnreachableError):
        place.check()


@pytest.mark.parametrize("value", ["models/team", "s3://", "/data/ckpt"])
def test_checkpoint_to_must_name_a_bucket(value: str) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="s3://bucket/folder"):
        Experiment.parse({"model_name": "org/m", "datasets_path": "data", "checkpoint_to": value})


# For each line "FOLDER STEP SECONDS" of its input it starts a process that writes and uploads checkpoints, and kills it.
KILLED = """
import json, os, signal, sys, time
from pathlib import Path
import boto3
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from launcher.storage import Effort, Mirrored
from trainer.checkpoints.mirror import First, begin

def train(folder, first):
    run = RunDir(Path(folder))
    place = Mirrored.of(Experiment.model_validate_json(sys.argv[1]), "r", os.environ, Effort(part=4096, threads=2))
    mirror = begin(run, First(place, 2), place.uri)
    for step in range(first, first + 10_000):
        aside, folder = run.path / ".saving", run.path / f"checkpoint-{step}"
        aside.mkdir()
        for name in "abc":
            (aside / name).write_bytes(f"{name} of {step} ".encode() * (700 if name == "c" else 1))
        (aside / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        aside.rename(folder)
        mirror.offer(folder)
        time.sleep(0.05)

for line in sys.stdin:
    folder, step = line.split()
    if (child := os.fork()) == 0:
        train(folder, int(step))
    sys.stdin.readline()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
"""


def test_a_process_killed_at_random_moments_leaves_no_half_checkpoint(place: Mirrored, proxy: FaultProxy, tmp_path: Path) -> None:
    chance, seen = random.Random(7), {0}
    experiment = {"model_name": "org/m", "experiment_id": "1", "datasets_path": "data", "checkpoint_to": "s3://models/team"}
    text = json.dumps({**experiment, "storage_config": {"endpoint_url": proxy.url}})
    argv, env = [sys.executable, "-c", KILLED, text], {**os.environ, **KEYS}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(12):
            run = new_run(tmp_path / str(number))
            moment = len(proxy.requests) + chance.randint(20, 200)
            process.stdin.write(f"{run.path} {max(seen) + 1}\n")
            process.stdin.flush()
            wait_for(lambda moment=moment: len(proxy.requests) >= moment)
            process.stdin.write("\n")
            process.stdin.flush()
            assert "killed\n" in iter(process.stdout.readline, ""), "after what an upload that ended tells"
            fresh = new_run(tmp_path / f"fresh-{number}")
            step, said = brought(fresh, place)
            assert [one for one in said if isinstance(one, Warned)] == []
            for folder in fresh.checkpoints():
                for name in "abc":
                    assert (folder / name).read_bytes() == f"{name} of {step} ".encode() * (700 if name == "c" else 1)
            assert (step or 0) >= max(seen), "a newer one was complete before"
            seen.add(step or 0)
            if len(seen) > 3:
                break
        process.stdin.close()
    assert len(seen) > 3
