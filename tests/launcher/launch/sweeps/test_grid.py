from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import ExperimentError, UsageError, Warned
from launcher.launch.rendered import Choice
from launcher.launch.sweeps.grid import Outcome, Point, load_points, of_record, plan_sweep, rank_notices, ranked
from launcher.runs.known import Known

RATES, BETAS = "hyperparameters.learning_rate=1e-6,5e-6", "hyperparameters.beta=0.05,0.1"
CONFIG = """\
demo:
  experiment_id: 1
  model_name: team/model
  datasets_path: data
"""


def settings(*axes: str) -> list[tuple[str, ...]]:
    return [point.settings for point in plan_sweep(Choice("demo"), axes).points]


def test_the_points_are_every_combination_and_the_last_axis_varies_fastest() -> None:
    sweep = plan_sweep(Choice("demo", ("experiment_id=2",), "grid", Path("f.yml")), [RATES, BETAS])
    assert [sweep.run(point) for point in sweep.points] == ["grid-1", "grid-2", "grid-3", "grid-4"]
    assert [str(point) for point in sweep.points] == [
        "learning_rate=1e-6, beta=0.05",
        "learning_rate=1e-6, beta=0.1",
        "learning_rate=5e-6, beta=0.05",
        "learning_rate=5e-6, beta=0.1",
    ]
    wanted = ("experiment_id=2", "hyperparameters.learning_rate=5e-6", "hyperparameters.beta=0.05")
    assert sweep.choice_of(sweep.points[2]) == Choice("demo", wanted, "grid-3", Path("f.yml"))


def test_a_sweep_is_the_same_again_from_the_record_of_a_point() -> None:
    sweep = plan_sweep(Choice("demo", ("experiment_id=2",), "grid", Path("f.yml")), [RATES, BETAS])
    assert of_record(sweep.note(sweep.points[1], parallel=2)["sweep"]) == sweep


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("hyperparameters.target_modules=[q_proj, v_proj],[k_proj]", ["[q_proj, v_proj]", "[k_proj]"]),
        ("launch.env={A: '1,2'},{A: x}", ["{A: '1,2'}", "{A: x}"]),
        ('topic="a, b", c', ['"a, b"', "c"]),
        ("topic=it's,that", ["it's", "that"]),
        ("hyperparameters.beta=0.1", ["0.1"]),
    ],
)
def test_a_comma_inside_of_brackets_or_quotes_belongs_to_a_value(axis: str, values: list[str]) -> None:
    key = axis.partition("=")[0]
    assert settings(axis) == [(f"{key}={value}",) for value in values]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["beta"], "--sweep 'beta': expected KEY=VALUE,VALUE, such as hyperparameters.beta=0.05,0.1"),
        (["a.=1,2"], "--sweep 'a.=1,2': expected KEY=VALUE,VALUE, such as hyperparameters.beta=0.05,0.1"),
        (
            ["hyperparameters.beta=0.1,"],
            "--sweep 'hyperparameters.beta=0.1,': a value is empty (write '' for an empty text, null for none)",
        ),
        ([BETAS, BETAS], "--sweep hyperparameters.beta: the key is given twice"),
        (["topic=1,2"], "--sweep topic: the key is given twice (see --set)"),
        ([f"{letter}={','.join(map(str, range(11)))}" for letter in "abc"], "--sweep: the grid must have at most 1,000 points"),
    ],
)
def test_a_wrong_axis_is_refused(axes: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_sweep(Choice("demo", ("topic=x",)), axes)
    assert str(caught.value) == message


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_point_is_checked_before_any_starts_and_a_mistake_is_named_once(home: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        load_points(plan_sweep(Choice("demo"), [BETAS, "hyperparameters.bta=1"]))
    assert str(caught.value).splitlines() == [
        "--set: unknown key 'bta' (in demo)",
        "    | hyperparameters.bta=1",
        "    |                 ^^^",
        "    hint:     did you mean 'beta'?",
    ]
    with pytest.raises(ExperimentError, match="beta"):
        load_points(plan_sweep(Choice("demo"), ["hyperparameters.beta=0.1,much"]))


def test_points_that_are_the_same_experiment_are_refused(home: Path) -> None:
    assert [one.experiment.hyperparameters.beta for one in load_points(plan_sweep(Choice("demo"), [BETAS]))] == [0.05, 0.1]
    with pytest.raises(UsageError) as caught:
        load_points(plan_sweep(Choice("demo"), ["hyperparameters.learning_rate=1e-6,2e-6,0.000001"]))
    assert str(caught.value) == "--sweep: points 1 (learning_rate=1e-6) and 3 (learning_rate=0.000001) are the same experiment"


def outcome(number: int, state: str = "done", **figures: float | str) -> Outcome:
    known = Known(f"s-{number}", "demo", state, None, None, 1, 1, None, "", None, "")
    return Outcome(Point(number, (f"hyperparameters.beta={number}",)), f"s-{number}", replace(known, **figures))  # type: ignore[arg-type]


def test_the_best_has_the_highest_validation_accuracy_then_margin_and_what_is_not_done_comes_last() -> None:
    judged = {"figures": "validation"}
    there = [
        outcome(1, "failed"),
        outcome(2, accuracy=0.9, margin=1.0, **judged),
        Outcome(Point(3, ()), "s-3", None),
        outcome(4, accuracy=0.95, margin=0.1, **judged),
        outcome(5, accuracy=0.9, margin=2.0, **judged),
        outcome(6, accuracy=0.99, margin=9.0, figures="training", loss=0.3),
        outcome(7, accuracy=1.0, margin=9.0, figures="training", loss=0.2),
    ]
    assert [one.run for one in ranked(there)] == ["s-4", "s-5", "s-2", "s-7", "s-6", "s-1", "s-3"]
    assert rank_notices(there) == ["margins scale with beta: compare accuracies across values of beta"]


def test_a_rank_by_the_training_loss_alone_is_a_warning() -> None:
    trained = [outcome(number, accuracy=1.0, figures="training", loss=0.1 * number) for number in (1, 2)]
    (margins, warning) = rank_notices(trained)
    assert isinstance(warning, Warned)
    assert warning.startswith("without validation pairs the points are ranked by their last training loss")
    judged = outcome(3, accuracy=0.9, margin=1.0, figures="validation")
    assert rank_notices([*trained, judged]) == rank_notices([trained[0], outcome(4, "failed")]) == [margins]


def test_runs_of_sft_rank_by_their_validation_loss_and_without_validation_data_by_their_last_loss() -> None:
    there = [
        outcome(1, validation_loss=0.9, loss=0.1),
        outcome(2, validation_loss=0.5, loss=0.4),
        outcome(3, loss=0.05),
        outcome(4, loss=0.04),
        outcome(5, "failed", validation_loss=0.1),
    ]
    assert [one.run for one in ranked(there)] == ["s-2", "s-1", "s-4", "s-3", "s-5"]
