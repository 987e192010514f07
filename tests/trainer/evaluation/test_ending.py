"""What a run leaves of its validation pairs, one by one, and how sure its figures are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.processes.stop import StopRequest

pytestmark = pytest.mark.slow

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
SETTINGS: dict[str, Any] = {
    "max_steps": 4,
    "learning_rate": 1e-2,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "load_best_model_at_end": True,
    "per_device_eval_batch_size": 3,
}


def train_in(root: Path, run: RunDir, experiment: Experiment) -> None:
    from trainer.train import Roots, train

    train(run, experiment, Roots(root, root, root / "cache"), StopRequest(), attempt=1)


def pairs_of(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.evaluation / "pairs.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, few_pairs: Path, make_experiment: Make, new_run: NewRun) -> dict[str, RunDir]:
    root, made = tmp_path_factory.mktemp("ending"), {}
    for name in ("fast", "plain"):
        experiment = make_experiment(experiment={"datasets_path": str(few_pairs)}, **SETTINGS, dpo_path=name)
        made[name] = new_run(root, experiment, name)
        train_in(root, made[name], experiment)
    return made


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_the_pairs_of_the_saved_weights_have_the_means_that_the_log_has(runs: dict[str, RunDir], path: str) -> None:
    result, pairs = runs[path].read_record()["result"], pairs_of(runs[path])
    assert [pair["row"] for pair in pairs] == [2, 3, 4, 5]
    assert pairs[0]["columns"] == {"topic": "packing"}
    logged, after = result["after"], result["learned"]["after"]
    for name, of_log in {"chosen": "chosen", "rejected": "rejected", "margin": "margins"}.items():
        mean = sum(pair[name] for pair in pairs) / len(pairs)
        assert mean == pytest.approx(logged[f"eval_rewards/{of_log}"], abs=2e-5)
        assert after[name]["value"] == pytest.approx(mean, abs=1e-6)
        assert after[name]["low"] < mean < after[name]["high"]
    assert any(abs(pair["margin"]) > 1e-3 for pair in pairs), "something was learned"
    assert after["accuracy"]["value"] == pytest.approx(logged["eval_rewards/accuracies"])
    assert result["learned"]["before"]["accuracy"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert sum(group["pairs"] for group in result["learned"]["by_length"]) == result["learned"]["pairs"] == 4


def test_both_paths_give_a_pair_the_same_rewards(runs: dict[str, RunDir]) -> None:
    for one, other in zip(pairs_of(runs["fast"]), pairs_of(runs["plain"]), strict=True):
        assert one.keys() == other.keys()
        assert [one[name] for name in ("chosen", "rejected")] == pytest.approx(
            [other[name] for name in ("chosen", "rejected")], abs=1e-4
        )
