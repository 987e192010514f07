"""A run of method: sft, whole: what it writes, what it leaves out, and how it resumes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment
from launcher.runs.learned.figures import Figures
from launcher.runs.run_dir import RunDir
from tests.trainer.conftest import run_of
from tests.trainer.trained import events, same_bits, train_in

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]

FOUR: dict[str, Any] = {
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "learning_rate": 1e-2,
    "beta": 0.4,
}
SFT = {"method": "sft"}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory, make_experiment: Make, few_pairs: Path) -> tuple[Path, RunDir]:
    root = tmp_path_factory.mktemp("sft")
    experiment = make_experiment(experiment={**SFT, "datasets_path": str(few_pairs)}, **FOUR)
    run = run_of(root, experiment, "whole")
    train_in(root, run, experiment)
    return root, run


def test_the_log_and_the_result_have_losses_and_token_accuracies_and_no_rewards(four: tuple[Path, RunDir]) -> None:
    _, run = four
    lines, evaluations = events(run, "train"), events(run, "eval")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [line["step"] for line in evaluations] == [0, 2, 4]
    assert {"loss", "grad_norm", "learning_rate", "entropy", "mean_token_accuracy", "num_tokens"} <= lines[0].keys()
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert evaluations[-1]["eval_loss"] < evaluations[0]["eval_loss"]
    record = run.read_record()
    assert record["method"] == "sft"
    assert record["result"]["after"].keys() == {"eval_loss", "eval_entropy", "eval_mean_token_accuracy"}
    assert record["result"]["learned"] == {"samples": 0}
    assert "rewards" not in run.steps.read_text() + json.dumps(record["result"])
    assert not record["health"]
    assert not (run.evaluation / "pairs.jsonl").exists()
    assert not (run.evaluation / "suspects.jsonl").exists()


def test_the_figures_at_the_end_name_what_sft_has(four: tuple[Path, RunDir]) -> None:
    found = Figures.of(four[1].read_record()["result"])
    assert found is not None
    assert [row[0] for row in found.rows] == ["loss", "token accuracy", "entropy"]
    assert [label for label, _ in found.meanings] == ["loss", "token accuracy", "entropy"]
    assert found.displaced is None


def test_the_work_of_the_record_counts_one_answer_a_pair(four: tuple[Path, RunDir]) -> None:
    work = four[1].read_record()["work"]
    assert work["tokens"] == work["packed"], "every prompt once"
    assert 0 < work["answer_tokens"] < work["tokens"]
    assert (work["answers"]["count"], work["answers"]["of_pair"]) == (12, 1)


def test_tensorboard_has_charts_of_sft(four: tuple[Path, RunDir]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(four[1].tensorboard)).Reload()
    drawn = [scalar.value for scalar in board.Scalars("eval/mean_token_accuracy")]
    assert drawn == [pytest.approx(event["eval_mean_token_accuracy"]) for event in events(four[1], "eval")]
    assert not any("rewards" in tag for tag in board.Tags()["scalars"])


def test_a_resume_ends_in_the_same_bits(four: tuple[Path, RunDir], make_experiment: Make, few_pairs: Path) -> None:
    root, run = four
    more = {**FOUR, "resume_from_checkpoint": str(run.path / "checkpoint-2"), "beta": 0.1}  # beta is DPO's alone
    experiment = make_experiment(experiment={**SFT, "datasets_path": str(few_pairs)}, **more)
    rest = run_of(root, experiment, "rest")
    train_in(root, rest, experiment)
    assert [line["step"] for line in events(rest, "train")] == [3, 4]
    assert same_bits(run.adapter, rest.adapter)


def test_a_run_of_dpo_does_not_resume_from_a_checkpoint_of_sft(
    four: tuple[Path, RunDir], make_experiment: Make, few_pairs: Path
) -> None:
    root, run = four
    more = {**FOUR, "resume_from_checkpoint": str(run.path / "checkpoint-2"), "beta": 0.1}
    experiment = make_experiment(experiment={"datasets_path": str(few_pairs)}, **more)
    with pytest.raises(ExperimentError) as caught:
        train_in(root, run_of(root, experiment, "dpo"), experiment)
    assert "method: " in str(caught.value)
    assert '"sft"' in str(caught.value)
    assert '"dpo"' in str(caught.value)


def test_all_weights_learn_answers_on_the_plain_path_without_a_second_copy_of_the_model(
    tmp_path: Path, make_experiment: Make, few_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trainer.prepare.model

    loads: list[Any] = []
    load = trainer.prepare.model.load_start
    monkeypatch.setattr(trainer.prepare.model, "load_start", lambda *args, **kwargs: loads.append(args) or load(*args, **kwargs))
    settings = {**FOUR, "full_finetuning": True, "dpo_path": "plain", "max_steps": 2}
    experiment = make_experiment(experiment={**SFT, "datasets_path": str(few_pairs)}, **settings)
    run = run_of(tmp_path, experiment, "full")
    train_in(tmp_path, run, experiment)
    assert len(loads) == 1
    losses = [event["eval_loss"] for event in events(run, "eval")]
    assert losses[-1] < losses[0]
    assert run.read_record()["dpo_path"]["path"] == "plain"


def test_dpo_starts_from_the_adapter_that_sft_left(four: tuple[Path, RunDir], make_experiment: Make, few_pairs: Path) -> None:
    root, warm_up = four
    more = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    begins = {}
    for name, adapter in (("from sft", {"adapter": str(warm_up.adapter)}), ("from base", {})):
        experiment = make_experiment(experiment={"datasets_path": str(few_pairs), **adapter}, **more)
        run = run_of(root, experiment, name.replace(" ", "-"))
        train_in(root, run, experiment)
        first = events(run, "train")[0]
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-6), "the reference is what the training starts from"
        begins[name] = events(run, "eval")[0]["eval_logps/chosen"]
    assert begins["from sft"] > begins["from base"] + 1, "the chosen answers have become more likely before DPO begins"
