"""A dataset on the hub is read at one commit from a run's first start on, and in every run that repeats it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from launcher.errors import CredentialError
from launcher.experiment.schema import Experiment
from launcher.job.resume import Recorded
from launcher.job.topology import DDP
from launcher.launch.repeats.inputs import inputs_of_run, kept_here
from launcher.runs.run_dir import RunDir
from tests.hub.datasets import DataHub, DataSet
from trainer.inputs.data import read_data

NAME = "org/prefs"
Make = Callable[..., Experiment]
New = Callable[[Path, Experiment, str], RunDir]


def lines(count: int) -> bytes:
    return "".join(json.dumps({"question": f"Why {n}?", "concrete": "so", "vague": "no"}) + "\n" for n in range(count)).encode()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[DataHub]:
    with DataHub({NAME: DataSet()}).serving() as hub:
        hub.sets[NAME].commit({"train.jsonl": lines(3), "test.jsonl": lines(2)})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


@pytest.fixture
def experiment(make_experiment: Make) -> Experiment:
    settings = {"datasets_path": f"hf://{NAME}", "train_filename": "train", "validation_filename": "test"}
    return make_experiment(experiment={**settings, "prompt_filename": None})


def read(tmp_path: Path, experiment: Experiment, run: RunDir) -> int:
    return len(read_data(experiment, run, root=tmp_path, data_root=tmp_path, cache=tmp_path / "cache", first=True).train)


def test_a_run_records_its_commit_and_reads_no_newer_one(
    hub: DataHub, tmp_path: Path, experiment: Experiment, new_run: New
) -> None:
    run, first = new_run(tmp_path, experiment, "one"), hub.sets[NAME].refs["main"]
    assert read(tmp_path, experiment, run) == 3
    hub.sets[NAME].commit({"train.jsonl": lines(7), "test.jsonl": lines(2)})
    assert read(tmp_path, experiment, run) == 3
    about = {"name": NAME, "revision": first, "config": "default"}
    assert [source["hub"] for source in run.read_record()["data"]] == [{**about, "split": "train"}, {**about, "split": "test"}]
    other = new_run(tmp_path, experiment, "two")
    assert read(tmp_path, experiment, other) == 7
    repeats = new_run(tmp_path, experiment, "three")
    repeats.update_record(again={"of": "one", "data": run.read_record()["data"]})
    assert read(tmp_path, experiment, repeats) == 3


def test_a_run_is_repeated_at_its_commit_and_from_its_copies_where_the_hub_has_it_no_more(
    hub: DataHub, tmp_path: Path, experiment: Experiment, new_run: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPO_CACHE_ROOT", str(tmp_path / "cache"))
    run, first = new_run(tmp_path, experiment, "one"), hub.sets[NAME].refs["main"]
    read(tmp_path, experiment, run)
    hub.sets[NAME].commit({"train.jsonl": lines(7), "test.jsonl": lines(2)})
    recorded = Recorded("one", experiment, DDP, run.read_record())

    def again() -> tuple[Experiment, list[str]]:
        found, notices, changes = inputs_of_run(recorded, tmp_path, partial(kept_here, run, tmp_path))
        assert changes == []
        return found, notices

    found, notices = again()
    assert (found.datasets_path, notices) == (f"hf://{NAME}@{first}", [])
    monkeypatch.setenv("DPO_CACHE_ROOT", str(tmp_path / "another"))
    del hub.sets[NAME].commits[first]
    found, notices = again()
    assert notices == [f"datasets_path: dataset {NAME} has no revision {first}; the run's copies of its data files are used"]
    assert found.train_filename == "train.jsonl"
    assert read(tmp_path, found, new_run(tmp_path, found, "two")) == 3
    (run.source / "train.jsonl").unlink()
    hub.sets[NAME].is_gated = True
    hub.status = 403
    with pytest.raises(CredentialError):
        again()
