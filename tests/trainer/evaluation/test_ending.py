"""What a run leaves of its validation pairs, one by one, and how sure its figures are."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launcher.cli import launcher
from launcher.errors import DataError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.trainer.trained import train_in

DEMO = Path(__file__).parents[3] / "configs" / "demo"

pytestmark = pytest.mark.slow

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
SETTINGS: dict[str, Any] = {
    "max_steps": 4,
    "per_device_train_batch_size": 6,
    "learning_rate": 1e-2,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "load_best_model_at_end": True,
    "per_device_eval_batch_size": 3,
}


def pairs_of(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.evaluation / "pairs.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data with 24 training and 4 validation pairs."""
    made = tmp_path_factory.mktemp("data")
    for name, count in (("training_data.csv", 24), ("validation_data.csv", 4), ("prompt_data.csv", 99)):
        lines = (DEMO / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (made / name).write_text("".join(lines[: count + 1]), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, folder: Path, make_experiment: Make, new_run: NewRun) -> dict[str, RunDir]:
    root, made = tmp_path_factory.mktemp("ending"), {}
    for name in ("fast", "plain"):
        experiment = make_experiment(experiment={"datasets_path": str(folder)}, **SETTINGS, dpo_path=name)
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


def test_the_training_pairs_are_ranked_by_their_margins_under_the_saved_weights(runs: dict[str, RunDir], folder: Path) -> None:
    with (folder / "training_data.csv").open(encoding="utf-8", newline="") as file:
        rows = dict(enumerate(csv.DictReader(file), start=2))
    found = {}
    for path, run in runs.items():
        lines = [json.loads(line) for line in (run.evaluation / "suspects.jsonl").read_text().splitlines()]
        assert run.read_record()["result"]["learned"]["looked_at"] == 24
        margins = [line["margin"] for line in lines]
        assert len(margins) == 20
        assert margins == sorted(margins)
        assert all(line["chosen"] == rows[line["row"]]["concrete"] for line in lines)
        assert all(line["rejected"] == rows[line["row"]]["vague"] for line in lines)
        found[path] = {line["row"]: line["margin"] for line in lines}
    both = found["fast"].keys() & found["plain"].keys()
    assert len(both) >= 18
    assert [found["fast"][row] for row in both] == pytest.approx([found["plain"][row] for row in both], abs=1e-4)


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_new_pairs_are_scored_as_the_run_scores_its_own(runs: dict[str, RunDir], path: str, folder: Path, tmp_path: Path) -> None:
    from trainer.after.score import scored

    found = scored(runs[path], folder / "validation_data.csv", tmp_path / "cache")
    assert found["notices"] == []
    for one, own in zip(found["pairs"], pairs_of(runs[path]), strict=True):
        numbers = {name: value for name, value in own.items() if isinstance(value, float)}
        assert {**one, **numbers} == own
        assert [one[name] for name in numbers] == pytest.approx(list(numbers.values()), abs=2e-5)
    result = runs[path].read_record()["result"]["learned"]
    assert found["learned"]["after"]["margin"]["value"] == pytest.approx(result["after"]["margin"]["value"], abs=2e-5)
    assert (found["learned"]["pairs"], found["learned"]["noise"]) == (4, result["noise"])


def test_the_verb_scores_a_file_in_a_process_of_its_own_and_names_mistakes_in_it(
    runs: dict[str, RunDir], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPO_CACHE_ROOT", str(tmp_path / "cache"))
    run, data = str(runs["fast"].path), str(folder / "validation_data.csv")
    done = CliRunner().invoke(launcher, ["score", run, "--data", data, "-o", "scores.jsonl", "--by", "topic"])
    assert done.exit_code == 0, done.output
    assert f"4 pairs of {data}:\n" in done.output
    assert "by topic:\ntopic" in done.output
    assert done.output.endswith("written: scores.jsonl\n")
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [one["margin"] for one in scores] == pytest.approx([one["margin"] for one in pairs_of(runs["fast"])], abs=2e-5)

    broken = tmp_path / "broken.csv"
    broken.write_text("topic,question,concrete\nbread,How hot?,Hot.\n")
    done = CliRunner().invoke(launcher, ["score", run, "--data", str(broken)])
    assert isinstance(done.exception, DataError)
    assert "missing column 'vague'" in str(done.exception)


def test_a_pass_over_the_training_pairs_costs_at_most_a_tenth_of_a_long_training() -> None:
    from trainer.evaluation.suspects import sample

    assert sample(400, 600) == list(range(400))
    assert sample(400, 40) == list(range(0, 400, 10)), "pairs that no step has seen have taught nothing"
    assert len(sample(100_000, 100_000)) == 30_000
    assert sample(10_000, 10_000) == list(range(0, 10_000, 2))
