"""The log of a run as columns, and what is worked out of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from launcher.report.metrics import read_metrics
from launcher.report.reported import Reported, lengths
from tests.run_folders import Made


def written(file: Path, *lines: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_a_figure_that_a_line_lacks_or_has_as_text_is_nan(tmp_path: Path):
    file = written(
        tmp_path / "steps.jsonl",
        {"type": "train", "step": 1, "total_steps": 9, "loss": 0.7},
        {"type": "train", "step": 2, "total_steps": 9, "loss": "nan", "grad_norm": 1},
        {"type": "train", "step": 3, "total_steps": 9, "loss": 0.5, "grad_norm": None},
        {"type": "summary", "step": 3, "train_loss": 0.6},
    )
    train, evals = read_metrics(file)
    assert (list(train.steps), train.total, len(evals)) == ([1, 2, 3], 9, 0)
    assert [str(value) for value in train.column("loss")] == ["0.7", "nan", "0.5"]
    assert [str(value) for value in train.column("grad_norm")] == ["nan", "1.0", "nan"]
    assert (train.last("loss"), train.last("grad_norm"), train.last("nothing"), evals.last("loss")) == (0.5, None, None, None)


def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path):
    file = written(tmp_path / "steps.jsonl", {"type": "eval", "step": 0, "eval_loss": 0.69})
    with file.open("a") as log:
        log.write('{"type": "train", "ste')
    train, evals = read_metrics(file)
    assert (len(train), list(evals.steps)) == (0, [0])
    assert read_metrics(tmp_path / "none.jsonl")[0].newest is None


def test_speed_is_unknown_after_an_evaluation_and_where_an_attempt_has_begun(tmp_path: Path):
    run = Made("r", steps=6).write(tmp_path)
    lines = [{"type": "train", "step": n, "seconds": s, "loss": 0.5} for n, s in ((1, 10), (2, 12), (3, 14), (4, 20), (5, 3))]
    lines.insert(3, {"type": "eval", "step": 3, "eval_loss": 0.4})
    written(run.steps, *lines)
    rates = Reported.of(run).rates
    assert [round(rate, 3) if not math.isnan(rate) else None for rate in rates] == [None, 8.0, 8.0, None, None]


def test_a_run_that_was_stopped_has_the_figures_of_its_log(tmp_path: Path):
    outcome = {"state": "stopped", "exit_code": 143}
    found = Reported.of(Made("r", steps=20, total=40, record={"result": None, "outcome": outcome}).write(tmp_path))
    assert (found.step, found.total_steps, found.status.state, found.status.exit_code) == (20, 40, "stopped", 143)
    losses = [line["loss"] for line in Made("r", steps=20, total=40).lines() if line["type"] == "train"]
    assert found.train_loss == pytest.approx(sum(losses) / 20)
    assert found.pairs_per_second == pytest.approx(10.0)


def test_a_folder_with_a_record_alone_is_read(tmp_path: Path):
    run = Made("r").write(tmp_path)
    run.steps.unlink()
    found = Reported.of(run)
    assert (found.step, found.samples, found.suspects, found.health) == (0, None, None, None)


def test_lengths_are_medians_of_characters(tmp_path: Path):
    run = Made("r").write(tmp_path)
    assert lengths(run.data / "train.jsonl") == {"pairs": 10, "chosen": 25, "rejected": 25, "chosen_longer": 0.4}
    assert lengths(run.data / "none.jsonl") is None
    (run.data / "sft.jsonl").write_text('{"user": "Why?", "chosen": "x", "rejected": null, "line": 2}\n')
    assert lengths(run.data / "sft.jsonl") is None, "nothing to compare the chosen answers with"


def test_a_number_that_no_float_holds_is_nan(tmp_path: Path):
    file = written(tmp_path / "steps.jsonl", {"type": "train", "step": 1, "loss": 0.7, "grad_norm": 10**400})
    assert math.isnan(read_metrics(file)[0].column("grad_norm")[0])


def test_a_broken_line_costs_no_other_line(tmp_path: Path):
    file = written(
        tmp_path / "steps.jsonl", {"type": "train", "step": 1, "loss": 0.7}, {"type": "train", "step": 2, "loss": True}
    )
    with file.open("ab") as log:
        log.write(b'{"type": "train", "st\n{"type": "train", "step": 3, "loss": 0.5, "name": "\\ud83d \xff"}\n[1]\n\n7\n')
    train, _ = read_metrics(file)
    assert (list(train.steps), [str(value) for value in train.column("loss")]) == ([1, 2, 3], ["0.7", "nan", "0.5"])
