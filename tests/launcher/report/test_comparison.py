"""Runs side by side: what differs, which figures, in which order, and what makes them incomparable."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import UsageError, Warned
from launcher.report.comparison import Comparison
from launcher.report.names import short_names
from launcher.report.reported import Reported
from tests.run_folders import Made, evaluate


def compared(home: Path, *made: Made, sort: str | None = None) -> Comparison:
    return Comparison.of([Reported.of(one.write(home)) for one in made], sort)


def test_only_the_settings_that_differ_are_rows(tmp_path: Path):
    found = compared(tmp_path, Made("a"), Made("b", settings={"learning_rate": 5e-4, "beta": 0.2}))
    assert found.differences == {"hyperparameters.learning_rate": (2e-3, 5e-4), "hyperparameters.beta": (0.1, 0.2)}
    rows = {label: cells for label, *cells in found.rows}
    assert rows["learning_rate"] == ["0.002", "0.0005"]
    assert rows["state"] == ["done", "done"]
    assert rows["step"] == ["40/40", "40/40"]
    assert "max_steps" not in rows


def test_a_setting_that_an_older_version_did_not_know_has_its_default_there(tmp_path: Path):
    here = Reported.of(Made("z").write(tmp_path)).experiment
    rules = {name: action for name, action in here["health"].items() if name != "longer_answers"}
    older = Made("b", record={"experiment": {**here, "health": rules}})
    assert compared(tmp_path, Made("a"), older).differences == {}
    changed = Made("c", record={"experiment": {**here, "health": {**here["health"], "longer_answers": "off"}}})
    assert compared(tmp_path / "other", older, changed).differences == {"health.longer_answers": ("warn", "off")}


def test_versions_that_differ_count_as_settings(tmp_path: Path):
    found = compared(tmp_path, Made("a"), Made("b", record={"packages": {"python": "3.11.7", "torch": "2.14.0"}}))
    assert found.differences == {"packages.torch": ("2.13.0", "2.14.0")}
    assert ("torch", "2.13.0", "2.14.0") in found.rows


def test_figures_have_their_intervals_where_the_run_has_computed_them(tmp_path: Path):
    found = compared(tmp_path, Made("a", learned=True), Made("b"), Made("c", validation=False))
    rows = {label: cells for label, *cells in found.rows}
    assert rows["margin"] == ["+1.963 [+1.763, +2.163]", "+1.963", "-"]
    assert rows["accuracy"] == ["0.893 [0.843, 0.943]", "0.893", "-"]
    assert rows["train loss"] == ["0.3400"] * 3
    assert found.json()["runs"][0]["figures"]["accuracy"]["low"] == pytest.approx(0.8427, abs=1e-3)
    assert found.json()["runs"][2]["figures"]["accuracy"] == {"value": None, "low": None, "high": None}


def test_a_difference_on_the_same_pairs_has_a_narrower_interval_than_the_runs_have(tmp_path: Path):
    made = [Made(name, learned=True).write(tmp_path) for name in ("a", "b")]
    for run, better in zip(made, (0.0, 0.3), strict=True):
        evaluate(run, better=better)
    found = Comparison.of([Reported.of(run) for run in made])
    first, second = found.figures["margin_to_first"]
    assert first.value is None
    assert second.value == pytest.approx(0.3)
    assert second.low is not None
    assert second.low == pytest.approx(0.3, abs=1e-6)
    accuracy = found.figures["accuracy_to_first"][1]
    assert accuracy.value is not None
    assert 0 < accuracy.value < 0.2
    assert ("margin to 1st", "-", "+0.300 [+0.300, +0.300]") in found.rows


@pytest.mark.parametrize("other", [Made("b", data="f"), Made("b", settings={"beta": 0.5})], ids=["data", "beta"])
def test_pairs_of_other_data_and_rewards_under_another_beta_are_not_subtracted(other: Made, tmp_path: Path):
    runs = [made.write(tmp_path) for made in (Made("a"), other)]
    for run in runs:
        evaluate(run)
    found = Comparison.of([Reported.of(run) for run in runs])
    assert found.figures["margin_to_first"][1].value is None
    assert (found.figures["accuracy_to_first"][1].value is None) == (other.data == "f")


def test_cost_is_gpus_times_hours_of_all_attempts(tmp_path: Path):
    attempts = [
        {"started": "2026-11-28T08:00:00+00:00", "ended": "2026-11-28T08:30:00+00:00"},
        {"started": "2026-11-28T10:00:00+00:00", "ended": "2026-11-28T11:00:00+00:00"},
    ]
    found = compared(tmp_path, Made("a", gpus=("H200", "H200"), record={"attempts": attempts}), Made("b"))
    assert [figure.value for figure in found.figures["gpu_hours"]] == [3.0, 0.0]
    assert [figure.value for figure in found.figures["hours"]] == [1.5, 1.5]


def test_the_best_run_comes_first_and_settings_ascend(tmp_path: Path):
    made = [Made(name, seed=seed, settings={"beta": beta}) for name, seed, beta in (("x", 1, 0.1), ("y", 3, 0.3), ("z", 2, 0.2))]
    runs = [Reported.of(one.write(tmp_path)) for one in made]

    def order(sort: str) -> str:
        return "".join(run.name for run in Comparison.of(runs, sort).runs)

    assert [
        order(sort) for sort in ("margin", "-margin", "eval_loss", "train_loss", "beta", "hyperparameters.beta", "-beta")
    ] == [
        "yzx",
        "xzy",
        "yzx",
        "xzy",
        "xzy",
        "xzy",
        "yzx",
    ]


def test_a_run_without_the_figure_comes_last_in_either_order(tmp_path: Path):
    runs = [Reported.of(one.write(tmp_path)) for one in (Made("n", validation=False), Made("a"), Made("b", seed=2))]
    assert [run.name for run in Comparison.of(runs, "margin").runs] == ["b", "a", "n"]
    assert [run.name for run in Comparison.of(runs, "-margin").runs] == ["a", "b", "n"]


def test_an_unknown_key_to_sort_by_is_an_error_with_the_nearest_one(tmp_path: Path):
    with pytest.raises(UsageError, match=r"--sort accurracy: unknown key; did you mean 'accuracy'\?"):
        compared(tmp_path, Made("a"), sort="accurracy")


def test_other_validation_data_make_the_figures_incomparable(tmp_path: Path):
    found = compared(tmp_path, Made("a"), Made("b", data="f"), Made("c", validation=False))
    (notice,) = [str(one) for one in found.notices if isinstance(one, Warned)]
    assert notice == (
        "validation sets differ (a: aaaaaaaaaaaa, b: ffffffffffff, c: none): their validation metrics are not comparable"
    )
    assert compared(tmp_path / "same", Made("a"), Made("b")).notices == ()


def test_other_shares_held_out_of_the_same_file_make_the_figures_incomparable(tmp_path: Path):
    runs = [Made(name).write(tmp_path) for name in ("a", "b")]
    for run, share in zip(runs, (0.1, 0.2), strict=True):
        data = [
            {"role": role, "name": "t.csv", "sha256": "a" * 64, "rows": 9, "held_out": share} for role in ("train", "validation")
        ]
        run.update_record(data=data)
    found = Comparison.of([Reported.of(run) for run in runs], None)
    which = "(a: aaaaaaaaaaaa with validation_split: 0.1, b: aaaaaaaaaaaa with validation_split: 0.2)"
    assert [str(one) for one in found.notices if isinstance(one, Warned)] == [
        f"training data differ {which}: metrics also differ because of the data",
        f"validation sets differ {which}: their validation metrics are not comparable",
    ]
    assert not found.is_one_validation_set


def test_rewards_under_another_beta_are_not_compared_unwarned(tmp_path: Path):
    found = compared(tmp_path, Made("a"), Made("b", settings={"beta": 0.5}))
    assert list(found.notices) == ["beta differs: rewards and margins are multiples of beta; compare accuracies"]


def test_losses_of_another_method_are_not_compared_unwarned(tmp_path: Path):
    of_sft = {**Made("b").experiment().model_dump(mode="json"), "method": "sft"}
    earlier = {name: value for name, value in Made("c").experiment().model_dump(mode="json").items() if name != "method"}
    found = compared(tmp_path, Made("a"), Made("b", record={"experiment": of_sft}))
    assert list(found.notices) == ["method differs: their losses are not comparable, and SFT has no rewards"]
    assert compared(tmp_path / "dpo", Made("a"), Made("c", record={"experiment": earlier})).notices == ()


def test_a_run_that_is_not_done_says_which_step_its_figures_are_of(tmp_path: Path):
    stopped = {"outcome": {"state": "stopped", "exit_code": 143}, "result": None}
    found = compared(tmp_path, Made("a"), Made("b", steps=15, total=40, record=stopped))
    assert list(found.notices)[-1] == "b is stopped (143) at step 15/40; its validation metrics are of step 15"


def test_a_spreadsheet_gets_a_line_for_each_run_with_whole_numbers(tmp_path: Path):
    head, first, _ = compared(tmp_path, Made("a", learned=True), Made("b", settings={"beta": 0.2})).table()
    cells = dict(zip(head, first, strict=True))
    assert cells["run"] == "a"
    assert cells["hyperparameters.beta"] == 0.1
    assert cells["margin"] - cells["margin_low"] == pytest.approx(0.2)
    assert cells["gpu_hours"] == 0.0


def test_what_all_names_begin_with_is_left_out():
    assert short_names(["demo-20261128-083222-e7eb", "demo-20261128-091500-11aa"]) == ["…083222-e7eb", "…091500-11aa"]
    assert short_names(["demo-a", "demo-b"]) == ["demo-a", "demo-b"]
    assert short_names(["demo-20261128-a"]) == ["demo-20261128-a"]
    assert short_names(["experiment-", "experiment-1"]) == ["experiment-", "experiment-1"]
