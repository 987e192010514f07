"""Curves: what a chart shows of long logs, and which charts appear."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.report.curves import charts, curves, findings
from launcher.report.reported import Reported
from launcher.runs.run_dir import RunDir
from tests.run_folders import Made, finding


def log(run: RunDir, **columns: list[float | str]) -> Reported:
    """A log with these figures, a line a step."""
    rows = zip(*columns.values(), strict=True)
    lines = [{"type": "train", "step": n, **dict(zip(columns, row, strict=True))} for n, row in enumerate(rows, 1)]
    run.steps.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Reported.of(run)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return Made("r").write(tmp_path)


def test_a_short_log_is_drawn_whole(run: RunDir):
    found = log(run, loss=[0.7, "nan", 0.123456789])
    drawn = curves(found, charts([found]), 1)
    assert (drawn["x"], drawn["raw"]["loss"]) == ([1, 2, 3], [0.7, None, 0.12346])
    assert "mean" not in drawn


def test_a_spike_of_one_step_among_20000_is_kept(run: RunDir):
    values = [0.5] * 20_000
    values[13_337] = 9.25
    values[4_242] = -3.5
    found = log(run, loss=values)
    drawn = curves(found, charts([found]), 5)
    assert len(drawn["x"]) == len(drawn["raw"]["loss"]) <= 1200
    assert len(drawn["mx"]) == len(drawn["mean"]["loss"]) == 589
    at = {value: step for step, value in zip(drawn["x"], drawn["raw"]["loss"], strict=True)}
    assert abs(at[9.25] - 13_338) < 34
    assert abs(at[-3.5] - 4_243) < 34
    assert drawn["x"] == sorted(set(drawn["x"]))
    assert (drawn["x"][0], drawn["x"][-1]) == (1, 20_000)


def test_the_order_of_lowest_and_highest_is_that_of_the_steps(run: RunDir):
    found = log(run, loss=[1.0, 0.0] * 1000 + [0.0, 1.0] * 1000)
    raw = curves(found, charts([found]), 1)["raw"]["loss"]
    assert (raw[:2], raw[-2:]) == ([1.0, 0.0], [0.0, 1.0])


def test_the_mean_of_a_bucket_leaves_out_what_is_no_number(run: RunDir):
    found = log(run, loss=[1.0, "nan", 3.0, 4.0] * 500)
    drawn = curves(found, charts([found]), 50)
    assert drawn["mean"]["loss"][0] == pytest.approx(8 / 3, rel=1e-4)
    assert None not in drawn["raw"]["loss"]


def test_more_runs_have_fewer_points_each(run: RunDir):
    found = log(run, loss=[float(n) for n in range(20_000)])
    points = [len(curves(found, charts([found]), runs)["x"]) for runs in (1, 5, 20, 200)]
    assert points == [2000, 1178, 300, 200]


def test_every_evaluation_is_a_point(tmp_path: Path):
    found = Reported.of(Made("r", steps=3000).write(tmp_path))
    drawn = curves(found, charts([found]), 1)
    assert drawn["ex"] == list(range(0, 3001, 300))
    assert len(drawn["evals"]["rewards/margins"]) == 11


def test_known_figures_come_first_and_unknown_ones_get_a_chart_unless_they_are_constant(run: RunDir):
    found = log(run, odd=[1.0, 2.0], still=[3.0, 3.0], **{"rewards/margins": [0.0, 1.0], "learning_rate": [1e-5, 1e-5]})
    assert [(chart.key, chart.is_main) for chart in charts([found])] == [
        ("margin", True),
        ("learning_rate", True),
        ("odd", False),
    ]


def test_token_accuracy_is_a_main_chart_only_where_there_are_no_rewards(run: RunDir):
    alone = log(run, loss=[2.0, 1.0], mean_token_accuracy=[0.1, 0.2])
    assert [(chart.key, chart.is_main) for chart in charts([alone])] == [("loss", True), ("token_accuracy", True)]
    beside = log(run, mean_token_accuracy=[0.1, 0.2], **{"rewards/margins": [0.0, 1.0]})
    assert [(chart.key, chart.is_main) for chart in charts([beside])] == [("token_accuracy", False), ("margin", True)]


def test_memory_and_gpu_use_are_recognised_by_their_names(run: RunDir):
    found = log(run, gpu_memory_gib=[1.0, 2.0], gpu_utilization=[0.1, 0.9])
    assert {chart.key: [name for name, _ in chart.parts] for chart in charts([found])} == {
        "memory": ["gpu_memory_gib"],
        "gpu": ["gpu_utilization"],
    }


def test_findings_are_numbered_over_all_runs_and_marked_on_their_chart(tmp_path: Path):
    made = [
        Made("a", record={"health": [finding("margin_flat"), finding("loss_spikes", 3)]}),
        Made("b", record={"health": [finding("gradient_spikes", 5), finding("unheard_of", 0)]}),
    ]
    runs = [Reported.of(one.write(tmp_path)) for one in made]
    found = findings(runs, charts(runs))
    assert [(one["number"], one["run"], one["first"], one["chart"]) for one in found] == [
        (1, 0, 20, "margin"),
        (2, 0, 3, "loss"),
        (3, 1, 5, "grad_norm"),
        (4, 1, None, "loss"),
    ]
