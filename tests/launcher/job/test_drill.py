"""What a drill kills, and how it sees what was under way."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.experiment.schema import Experiment
from launcher.job.drill import AFTER, BEFORE, Moment, fingerprint, moments, short_version, under_way
from launcher.runs.run_dir import RunDir


def test_moments_are_steps_and_writes_by_turns_and_each_comes_before_any_comes_again() -> None:
    drawn = list(itertools.islice(moments(6, random.Random(1)), 16))
    assert {moment.what for moment in drawn[::2]} == {"step"}
    assert {moment.step for moment in drawn[:10:2]} == {2, 3, 4, 5, 6}, "nobody sees step 1 before it is logged"
    writes = {(moment.what, moment.step) for moment in drawn[1:8:2]}
    assert writes == {("checkpoint", 2), ("checkpoint", 4), ("checkpoint", 6), ("adapter", 6)}
    assert drawn == list(itertools.islice(moments(6, random.Random(1)), 16)), "the seed decides"
    odd = {moment.step for moment in itertools.islice(moments(5, random.Random(1)), 20) if moment.what == "checkpoint"}
    assert odd == {2, 4, 5}, "the last step is saved, too"


def test_what_a_run_does_is_seen_in_its_folder(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert under_way(run, 0, 6) == BEFORE
    assert under_way(run, 3, 6) == "step 4"
    assert under_way(run, 6, 6) == "after step 6"
    write = Moment("checkpoint", 4)
    assert not write.has_come(run, 4)
    (tmp_path / ".saving" / "checkpoint-4").mkdir(parents=True)
    assert write.has_come(run, 4)
    assert under_way(run, 4, 6) == "writing checkpoint-4"
    assert not Moment("adapter", 6).has_come(run, 6)
    (tmp_path / ".adapter").mkdir()
    assert Moment("adapter", 6).has_come(run, 6)
    assert under_way(run, 6, 6) == "writing the adapter"
    (tmp_path / ".adapter").rename(run.adapter)
    assert under_way(run, 6, 6) == AFTER
    assert [Moment("step", 4).has_come(run, last) for last in (2, 3)] == [False, True]


def test_every_file_of_an_adapter_is_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weights in"):
        fingerprint(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"w")
    (tmp_path / "adapter_config.json").write_text('{"target_modules": ["q", "k"]}')
    before = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("run one, 3 min")
    assert fingerprint(tmp_path) == before, "the model card names the run"
    (tmp_path / "adapter_config.json").write_text('{"target_modules": ["k", "q"]}')
    assert fingerprint(tmp_path) != before


def test_the_short_version_writes_checkpoints_evaluates_nothing_and_answers_no_prompt() -> None:
    fields = {"model_name": "m", "datasets_path": "d", "validation_filename": "v.csv", "checkpoint_to": "s3://ckpt/team"}
    short = short_version(Experiment.parse(fields), 6, full_determinism=False)
    h = short.hyperparameters
    assert (h.max_steps, h.save_strategy, h.save_steps, h.eval_strategy) == (6, "steps", 2, "no")
    assert Experiment.parse(short.model_dump(mode="json")) == short
    assert not short.has_validation
    assert short.samples.prompts == 0
    assert short.checkpoint_to is None, "it leaves nothing in the bucket"
