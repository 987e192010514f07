from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.reference.shards import Shards

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]


def rounded_otherwise(cache: Path) -> None:
    """The cache as another machine would have filled it: all numbers are off by a rounding error."""
    for shard in cache.rglob("reference/**/*.parquet"):
        table = pq.read_table(shard)
        numbers = {
            key: number * (1 + 1e-7) for key, number in zip(*(table[name].to_pylist() for name in ("key", "number")), strict=True)
        }
        shard.unlink()
        Shards(shard.parent, print).add(numbers)


def test_a_resumed_run_has_the_reference_of_the_first_one_bit_for_bit_whatever_is_in_the_cache(
    tmp_path: Path, few_pairs: Path, make_experiment: Make, new_run: NewRun, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.trainer.trained import events, same_bits, train_in

    def run_of(name: str, data: Path, **settings: Any) -> RunDir:
        steps = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
        experiment = make_experiment(experiment={"datasets_path": str(data)}, **steps, **settings)
        run = new_run(tmp_path, experiment, name)
        train_in(tmp_path, run, experiment)
        return run

    run_of("before", few_pairs, max_steps=1)
    rounded_otherwise(tmp_path / "cache")
    whole = run_of("whole", few_pairs)
    shutil.rmtree(tmp_path / "cache")
    capfd.readouterr()
    rest = run_of("rest", few_pairs, resume_from_checkpoint=str(whole.path / "checkpoint-2"))
    assert same_bits(whole.adapter, rest.adapter)
    assert "reference: 12 of 12 pairs from the checkpoint" in capfd.readouterr().out
    figures = [[event["eval_rewards/margins"] for event in events(run, "eval")][-1] for run in (whole, rest)]
    assert figures[0] == figures[1]
