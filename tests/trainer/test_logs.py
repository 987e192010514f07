from __future__ import annotations

import json
import time
from pathlib import Path

from launcher.runs.run_dir import RunDir
from trainer.logs import StepLog


def new_run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "runs" / "r")
    run.create({run.experiment: "{}"}, {})
    return run


def test_an_attempt_that_begins_again_keeps_nothing_of_the_one_before_in_the_log(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    first = StepLog(run, resume_step=0, attempt=1)
    first.write({"type": "eval", "step": 0, "eval_loss": 0.7})
    first.write({"type": "train", "step": 1, "loss": 0.7})
    first.close()  # killed before its first checkpoint
    time.sleep(1.1)  # event files are read in the order of their names, which have whole seconds and then a count: 10 before 9
    second = StepLog(run, resume_step=0, attempt=2)
    second.write({"type": "eval", "step": 0, "eval_loss": 0.6})
    second.close()
    assert [json.loads(line)["eval_loss"] for line in run.steps.read_text().splitlines()] == [0.6]
    assert len((run.logs / "dpo_train_steps.cut-2.jsonl").read_text().splitlines()) == 2

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run.tensorboard)).Reload()
    assert board.Tags()["scalars"] == ["eval/loss"] or board.Scalars("train/loss") == []
    assert [round(scalar.value, 3) for scalar in board.Scalars("eval/loss")] == [0.6]


def test_without_tensorboard_in_report_to_there_are_no_events(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    log = StepLog(run, resume_step=0, attempt=1, events=False)
    log.write({"type": "train", "step": 1, "loss": 0.7})
    log.close()
    assert list(run.tensorboard.iterdir()) == []
    assert len(run.steps.read_text().splitlines()) == 1


def test_the_curves_of_a_line_are_one_record_with_its_step(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    run = new_run(tmp_path)
    log = StepLog(run, resume_step=0, attempt=1)
    for step in (1, 2):
        log.write({"type": "train", "step": step, "loss": 0.5, "grad_norm": 1, "note": "text", "is_packed": True, "epoch": 0.1})
    log.close()
    (file,) = run.tensorboard.iterdir()
    records = [(event.step, event.summary.value) for event in LegacyEventFileLoader(str(file)).Load() if event.step]
    found = [(step, {value.tag: value.simple_value for value in values}) for step, values in records]
    assert found == [(step, {"train/loss": 0.5, "train/grad_norm": 1.0}) for step in (1, 2)]


def test_tensorboard_has_related_curves_in_one_chart_and_none_of_what_only_counts_on(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2

    run = new_run(tmp_path)
    log = StepLog(run, resume_step=0, attempt=1)
    line = {"total_steps": 9, "epoch": 0.5, "num_tokens": 10.0, "seconds": 1.0}
    log.write({"type": "train", "step": 1, "loss": 0.7, "rewards/margins": 0.1, **line})
    log.write({"type": "eval", "step": 1, "eval_loss": 0.6, **line})
    log.write({"type": "summary", "step": 9, "train_loss": 0.5, "train_seconds": 3.0, **line})
    log.close()
    board = EventAccumulator(str(run.tensorboard)).Reload()
    assert sorted(board.Tags()["scalars"]) == ["eval/loss", "train/loss", "train/rewards/margins"]
    (saved,) = board.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(saved.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert list(charts)[:4] == ["loss", "margin", "rewards", "accuracy"]
    assert charts["loss"] == ["train/loss", "eval/loss"]
    assert charts["rewards"] == ["train/rewards/chosen", "train/rewards/rejected", "eval/rewards/chosen", "eval/rewards/rejected"]


def test_tensorboards_hparams_have_the_settings_beside_the_figures_of_the_validation_pairs(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    run = new_run(tmp_path)
    log = StepLog(run, resume_step=0, attempt=1)
    log.write({"type": "train", "step": 1, "loss": 0.7})
    log.write({"type": "eval", "step": 1, "eval_loss": 0.6, "eval_rewards/margins": 0.1})
    log.settings({"beta": 0.1, "loss_type": ["sigmoid"], "optim": "adamw_torch", "full_finetuning": False, "seed": None})
    log.close()
    board = EventAccumulator(str(run.tensorboard)).Reload()
    contents = board.PluginTagToContent("hparams")
    started = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    assert set(started.hparams) == {"beta", "optim", "full_finetuning"}
    shown = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG]).metric_infos
    assert sorted(metric.name.tag for metric in shown) == ["eval/loss", "eval/rewards/margins"]
    assert sorted(board.Tags()["scalars"]) == ["eval/loss", "eval/rewards/margins", "train/loss"], "no chart is added"
