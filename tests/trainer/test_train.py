from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError, HealthError, Stopped
from launcher.experiment.schema import Experiment
from launcher.packages import adding
from launcher.runs.fields import LOG, RECORD
from launcher.runs.run_dir import RunDir
from tests.trainer.trained import events, same_bits, train_in
from trainer.checkpoints.sound import listed
from trainer.logs import StepLog
from trainer.processes.stop import StopRequest

pytestmark = pytest.mark.slow

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]

TWELVE: dict[str, Any] = {
    "max_steps": 12,
    "save_strategy": "steps",
    "save_steps": 6,
    "lora_dropout": 0.1,  # random numbers in every step: a resume must restore the generators too
    "disable_dropout": False,
    "eval_strategy": "steps",
    "eval_steps": 6,
    "per_device_eval_batch_size": 42,
}


def contents(folder: Path) -> dict[str, bytes]:
    """Without the model card, which names the run and its times."""
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / "README.md"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory, make_experiment: Make) -> tuple[Path, RunDir, Experiment]:
    root = tmp_path_factory.mktemp("twelve")
    experiment = make_experiment(**TWELVE)
    run = RunDir.of(root, "out", "tiny", experiment.model_folder, "whole")
    run.create({run.experiment: experiment.model_dump_json()}, {"run": "whole"})
    train_in(root, run, experiment)
    return root, run, experiment


def test_every_line_and_entry_that_a_run_writes_is_documented(twelve: tuple[Path, RunDir, Experiment]) -> None:
    _, run, _ = twelve
    wrong = [
        (line["type"], name)
        for line in events(run)
        for name in line
        if (found := LOG.get(name.removeprefix("eval_"))) is None or line["type"] not in found.lines
    ]
    assert wrong == []
    assert run.read_record().keys() - RECORD.keys() == set()


def test_a_fresh_adapter_begins_at_the_loss_of_zero_margin(twelve: tuple[Path, RunDir, Experiment]) -> None:
    first = events(twelve[1], "train")[0]
    assert first["step"] == 1
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/margins"] == 0.0


def test_a_packed_run_that_goes_on_from_a_checkpoint_ends_in_the_same_bits(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    settings: dict[str, Any] = {
        "max_steps": 6,
        "logging_steps": 3,
        "save_strategy": "steps",
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 6,
    }
    experiment = make_experiment(**settings)
    whole = new_run(tmp_path, experiment, "whole")
    train_in(tmp_path, whole, experiment)
    experiment = make_experiment(**settings, resume_from_checkpoint=str(whole.path / "checkpoint-4"))
    rest = new_run(tmp_path, experiment, "rest")
    train_in(tmp_path, rest, experiment)
    assert [run.read_record()["dpo_path"]["path"] for run in (whole, rest)] == ["fast", "fast"]
    lines = [[{**event, "seconds": 0} for event in events(run, "train")] for run in (whole, rest)]
    assert [line["step"] for line in lines[1]] == [6]
    assert lines[0][-1:] == lines[1], "the line averages steps 4 to 6, of which the resumed run has trained two"
    assert same_bits(whole.adapter, rest.adapter)
    before = whole.read_record()["result"]["before"]
    assert before["eval_rewards/accuracies"] == 0, "a margin that is rounding is no preference"


def test_validation_pairs_are_evaluated_first_at_each_checkpoint_and_last_where_the_file_does_not_say_when(
    tmp_path: Path, few_pairs: Path, make_experiment: Make, new_run: NewRun
) -> None:
    steps = {"max_steps": 3, "eval_strategy": None}
    cases: dict[str, tuple[dict[str, Any], list[int]]] = {
        "at-steps": ({**steps, "save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True}, [0, 2, 3]),
        "without": ({**steps, "save_strategy": "no"}, [0, 3]),
    }
    for name, (settings, expected) in cases.items():
        experiment = make_experiment(experiment={"datasets_path": str(few_pairs)}, **settings)
        run = new_run(tmp_path, experiment, name)
        train_in(tmp_path, run, experiment)
        assert [event["step"] for event in events(run, "eval")] == expected
        summary = events(run, "summary")[0]
        assert {"before", "after"} <= summary.keys()
        lines = events(run, "train")
        for part, line in zip(("first", "last"), (lines[0], lines[-1]), strict=True):
            expected = {name: line[name] for name in summary["training"][part] if name != "steps"}
            assert summary["training"][part] == {"steps": [line["step"]] * 2, **expected}
            assert {"loss", "rewards/chosen", "logps/rejected"} <= expected.keys()


def test_every_line_of_the_log_has_the_names_that_people_look_for(twelve: tuple[Path, RunDir, Experiment]) -> None:
    _, run, _ = twelve
    wanted = {"step", "loss", "learning_rate", "epoch", "rewards/chosen", "rewards/rejected", "rewards/margins"}
    wanted |= {"rewards/accuracies", "logps/chosen", "logps/rejected", "grad_norm", "num_tokens", "seconds"}
    assert [event["step"] for event in events(run, "train")] == list(range(1, 13))
    assert all(wanted <= event.keys() for event in events(run, "train"))
    assert [event["step"] for event in events(run, "eval")] == [0, 6, 12]
    assert all({"eval_loss", "eval_rewards/margins", "eval_rewards/accuracies"} <= e.keys() for e in events(run, "eval"))
    assert events(run)[-1]["type"] == "summary"


def test_the_summary_has_the_mean_loss_of_all_steps_and_the_speed_of_the_pairs_that_were_trained(
    twelve: tuple[Path, RunDir, Experiment],
) -> None:
    _, run, _ = twelve
    summary = events(run, "summary")[0]
    losses = [event["loss"] for event in events(run, "train")]
    assert losses[-1] != pytest.approx(sum(losses) / 12, rel=1e-3), "the last loss is another number"
    assert summary["train_loss"] == pytest.approx(sum(losses) / 12, rel=1e-6)
    assert summary["pairs_per_second"] * summary["train_seconds"] == pytest.approx(12 * 4, rel=1e-2)


def test_tensorboard_shows_the_same_numbers_as_the_log(twelve: tuple[Path, RunDir, Experiment]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, run, _ = twelve
    board = EventAccumulator(str(run.tensorboard)).Reload()
    for tag, kind, name in [
        ("train/loss", "train", "loss"),
        ("train/rewards/margins", "train", "rewards/margins"),
        ("eval/rewards/accuracies", "eval", "eval_rewards/accuracies"),
    ]:
        drawn = [(scalar.step, scalar.value) for scalar in board.Scalars(tag)]
        logged = [(event["step"], pytest.approx(event[name], rel=1e-6)) for event in events(run, kind)]
        assert drawn == logged


def test_a_run_leaves_its_data_record_and_only_complete_checkpoints(twelve: tuple[Path, RunDir, Experiment]) -> None:
    _, run, _ = twelve
    record = run.read_record()
    assert [source["role"] for source in record["data"]][:2] == ["train", "validation"]
    assert all(len(source["sha256"]) == 64 for source in record["data"])
    assert record["packages"]["trl"].startswith("1.16")
    assert "dropout is on" in record["dpo_path"]["sentence"]
    layers = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert record["adapter"] == {"on": dict.fromkeys(layers, 2), "none_on": {"lm_head": 1}}
    assert record["result"]["verified"]["largest_logp_difference"] == 0.0
    before, after = (record["result"][name] for name in ("before", "after"))
    assert after["eval_rewards/margins"] > before["eval_rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert [path.name for path in run.checkpoints()] == ["checkpoint-6", "checkpoint-12"]
    assert len((run.data / "train.jsonl").read_text().splitlines()) == 420
    leftovers = [path.name for path in run.path.iterdir() if path.name.startswith(".")]
    assert leftovers == []
    modes = {path.stat().st_mode for folder in (run.adapter, *run.checkpoints()) for path in folder.glob("adapter*")}
    assert modes == {(run.adapter / "adapter_config.json").stat().st_mode}, "who may read a run may read its weights"


def test_the_adapter_carries_a_card_with_the_figures_that_the_record_has_and_no_path_of_this_machine(
    twelve: tuple[Path, RunDir, Experiment],
) -> None:
    root, run, experiment = twelve
    card = (run.adapter / "README.md").read_text(encoding="utf-8")
    result = run.read_record()["result"]
    before, accuracy = result["before"]["eval_rewards/accuracies"], result["learned"]["after"]["accuracy"]
    assert f"| accuracy | {before:.2f} | {accuracy['value']:.2f} | {accuracy['low']:.2f} to {accuracy['high']:.2f} |" in card
    assert "base_model:" not in card
    assert "The training took 12 steps of 4 pairs: 0.114 epochs of 420 pairs." in card
    assert not [path for path in (str(root), experiment.model_name, str(Path(experiment.model_name).parent)) if path in card]
    assert json.loads((run.adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == experiment.model_name


def test_six_steps_and_a_resume_of_six_give_the_adapter_of_twelve_bit_for_bit(
    twelve: tuple[Path, RunDir, Experiment], tmp_path: Path, new_run: NewRun
) -> None:
    _, whole, experiment = twelve
    run = new_run(tmp_path, experiment, "resumed")
    shutil.copytree(whole.path / "checkpoint-6", run.path / "checkpoint-6")
    shutil.copy(whole.steps, run.steps)  # lines up to step 12, as if the kill came after the last one
    train_in(tmp_path, run, experiment, attempt=2)

    assert contents(run.adapter) == contents(whole.adapter)
    assert [event["step"] for event in events(run, "train")] == list(range(1, 13))
    cut = [json.loads(line) for line in (run.logs / "dpo_train_steps.cut-2.jsonl").read_text().splitlines()]
    assert [event["step"] for event in cut] == [7, 8, 9, 10, 11, 12, 12, 12]
    resumed_summary, summary = events(run, "summary")[0], events(whole, "summary")[0]
    assert resumed_summary["before"] == summary["before"]
    assert resumed_summary["train_loss"] == pytest.approx(summary["train_loss"], abs=1e-9), "the mean over all twelve steps"
    for resumed, straight in zip(events(run, "train"), events(whole, "train"), strict=True):
        assert (resumed["loss"], resumed["num_tokens"]) == (straight["loss"], straight["num_tokens"])


def test_equal_runs_leave_equal_folders_whatever_the_order_of_the_hashes_in_their_processes(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    modules = ["v_proj", "q_proj", "down_proj", "k_proj", "up_proj", "o_proj", "gate_proj"]
    experiment = make_experiment(max_steps=1, save_strategy="steps", target_modules=modules)
    runs = [new_run(tmp_path, experiment, name) for name in ("here", "there")]
    train_in(tmp_path, runs[0], experiment)
    env = {**os.environ, "PYTHONHASHSEED": "7", "CUDA_VISIBLE_DEVICES": ""}
    env |= {f"DPO_{name}_ROOT": str(tmp_path) for name in ("RUN", "DATA")} | {"DPO_CACHE_ROOT": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-m", "trainer", str(runs[1].path)], env=env, timeout=600, check=True)
    here, there = (contents(run.adapter) for run in runs)
    assert here == there
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= here.keys()
    assert json.loads(here["adapter_config.json"])["target_modules"] == sorted(modules)
    configs = [run.path / "checkpoint-1" / "adapter_config.json" for run in runs]
    assert [config.read_bytes() for config in configs] == [here["adapter_config.json"]] * 2


def test_a_resume_from_the_last_step_trains_nothing_and_gives_the_same_adapter(
    twelve: tuple[Path, RunDir, Experiment], tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    _, whole, _ = twelve
    shutil.copytree(whole.path / "checkpoint-12", tmp_path / "finished")
    experiment = make_experiment(**TWELVE, resume_from_checkpoint="finished")
    run = new_run(tmp_path, experiment, "again")
    train_in(tmp_path, run, experiment)
    assert events(run, "train") == []
    assert events(run, "summary")[0]["step"] == 12
    assert same_bits(run.adapter, whole.adapter)


@pytest.mark.parametrize(("pairs", "held_out", "wanted"), [(19, None, False), (20, None, True), (4, [], True)])
def test_layers_are_compiled_for_the_pass_without_gradients_that_ends_a_run(
    make_experiment: Make, monkeypatch: pytest.MonkeyPatch, pairs: int, held_out: Any, wanted: bool
) -> None:
    """Else its graph would be made, and could fail, after the last step."""
    from types import SimpleNamespace

    import trainer.train as module

    seen: list[Any] = []
    monkeypatch.setattr(module, "choose_layers", lambda *given: (seen.append(given[4]), None))
    rank = SimpleNamespace(experiment=make_experiment(), device=SimpleNamespace(world=1), first=False)
    inputs = SimpleNamespace(checkpoint=None, tokens=SimpleNamespace(pairs=[0] * pairs), held_out=held_out)
    trainer = SimpleNamespace(args=SimpleNamespace(per_device_train_batch_size=4), has_reference=True)
    module._layers(rank, inputs, trainer, None)
    assert [work.has_evaluations for work in seen] == [wanted]


def test_a_stop_before_the_model_is_loaded_is_heeded_at_once(tmp_path: Path, make_experiment: Make, new_run: NewRun) -> None:
    experiment = make_experiment()
    run = new_run(tmp_path, experiment, "early")
    stop = StopRequest()
    stop.signal = signal.SIGTERM
    with pytest.raises(Stopped, match="nothing to resume"):
        train_in(tmp_path, run, experiment, stop=stop)
    assert not run.steps.exists()


def test_the_last_step_is_saved_too_where_only_the_best_is_and_an_unknown_metric_is_named_before_training(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    settings = {"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 42}
    settings |= {"max_steps": 2, "learning_rate": 0.0, "report_to": "none"}  # the second step is no better than the first
    experiment = make_experiment(**settings, metric_for_best_model="loss")
    run = new_run(tmp_path, experiment, "best-only")
    train_in(tmp_path, run, experiment)
    assert [path.name for path in run.checkpoints()] == ["checkpoint-1", "checkpoint-2"]
    assert list(run.tensorboard.iterdir()) == []

    experiment = make_experiment(**settings, metric_for_best_model="rewards/accuracy")
    run = new_run(tmp_path, experiment, "unknown")
    with pytest.raises(ExperimentError, match="did you mean 'rewards/accuracies'"):
        train_in(tmp_path, run, experiment)
    assert events(run, "train") == []


def test_a_signal_ends_the_step_writes_a_checkpoint_and_the_resume_loses_nothing(
    twelve: tuple[Path, RunDir, Experiment], tmp_path: Path, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole, experiment = twelve
    run = new_run(tmp_path, experiment, "stopped")
    monkeypatch.setattr(StepLog, "write", _signalled(StepLog.write, step=3))
    stop = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop.listen()
    try:
        with pytest.raises(Stopped, match=r"stopped at step (\d+) of 12: resumes from checkpoint-\1"):
            train_in(tmp_path, run, experiment, stop=stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not run.adapter.exists()
    (checkpoint,) = run.checkpoints()
    assert checkpoint.name in ("checkpoint-3", "checkpoint-4")
    train_in(tmp_path, run, experiment, attempt=2)
    assert same_bits(run.adapter, whole.adapter)


def _signalled(write: Callable[..., None], step: int) -> Callable[..., None]:
    """``write`` of the log, and a request to stop with the line of this step."""

    def write_and_ask(self: StepLog, event: Mapping[str, Any]) -> None:
        write(self, event)
        if (event["type"], event["step"]) == ("train", step):
            os.kill(os.getpid(), signal.SIGTERM)

    return write_and_ask


def test_the_adapter_is_the_best_checkpoint_and_patience_ends_the_run(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    experiment = make_experiment(
        max_steps=40,
        learning_rate=3.0,  # so large that the model gets worse soon after it got better
        save_strategy="steps",
        save_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=42,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        early_stopping_patience=2,
    )
    run = new_run(tmp_path, experiment, "best")
    train_in(tmp_path, run, experiment)
    losses = {event["step"]: event["eval_loss"] for event in events(run, "eval") if event["step"] > 0}
    best = min(losses, key=lambda step: losses[step])
    assert len(losses) == best + 2, "two evaluations without progress end the run"
    summary = events(run, "summary")[0]
    assert summary["best_step"] == best
    assert summary["after"]["eval_loss"] == losses[best]
    assert same_bits(run.adapter, run.path / f"checkpoint-{best}")
    assert not same_bits(run.adapter, run.checkpoints()[-1])

    run.path.rename(tmp_path / "moved")  # as into a container, where the folder has another name
    settings = {**experiment.hyperparameters.model_dump(exclude={"trl"}), **experiment.hyperparameters.trl}
    again = make_experiment(**{**settings, "resume_from_checkpoint": "moved"})
    resumed = new_run(tmp_path, again, "from-there")
    train_in(tmp_path, resumed, again)
    assert events(resumed, "train") == [], "patience had ended it"
    assert same_bits(resumed.adapter, tmp_path / "moved" / "adapter")


def test_without_the_best_checkpoint_the_last_weights_have_their_own_figures(
    twelve: tuple[Path, RunDir, Experiment], tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    _, whole, _ = twelve
    kept = tmp_path / "kept"
    shutil.copytree(whole.path / "checkpoint-12", kept)
    state = json.loads((kept / "trainer_state.json").read_text())
    state |= {"best_global_step": 6, "best_metric": 0.0, "best_model_checkpoint": str(tmp_path / "gone")}
    (kept / "trainer_state.json").write_text(json.dumps(state))
    made_of = json.loads((kept / "origin.json").read_text()) | {"files": listed(kept)}
    (kept / "origin.json").write_text(json.dumps(made_of))
    experiment = make_experiment(**TWELVE, load_best_model_at_end=True, resume_from_checkpoint="kept")
    run = new_run(tmp_path, experiment, "without")
    train_in(tmp_path, run, experiment)
    assert same_bits(run.adapter, kept)
    assert events(run, "summary")[0]["after"]["eval_loss"] == events(whole, "eval")[-1]["eval_loss"]
    assert events(run, "summary")[0]["best_step"] is None


def test_full_finetuning_saves_weights_that_were_read_back(tmp_path: Path, make_experiment: Make, new_run: NewRun) -> None:
    experiment = make_experiment(full_finetuning=True, max_steps=2)
    run = new_run(tmp_path, experiment, "full")
    train_in(tmp_path, run, experiment)
    assert (run.adapter / "model.safetensors").exists()
    assert not (run.adapter / "adapter_model.safetensors").exists()
    assert run.read_record()["result"]["verified"]["compared"] == "weights"
    assert events(run, "train")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    saved, base = (json.loads((folder / "config.json").read_text()) for folder in (run.adapter, Path(experiment.model_name)))
    assert saved["use_cache"] == base["use_cache"], "what helps the training must not slow down those who use the model"


def test_the_reference_of_full_finetuning_comes_from_model_cache_dir(
    tmp_path: Path, tiny_model: Path, make_experiment: Make, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub, commit = tmp_path / "hub" / "models--someone--tiny", "0" * 40
    shutil.copytree(tiny_model, hub / "snapshots" / commit)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(commit)
    experiment = make_experiment(
        experiment={"model_name": "someone/tiny"}, full_finetuning=True, max_steps=1, model_cache_dir=str(tmp_path / "hub")
    )
    run = new_run(tmp_path, experiment, "cached")
    train_in(tmp_path, run, experiment)
    assert (run.adapter / "model.safetensors").exists()


def test_an_optimizer_whose_package_is_missing_is_named_before_the_weights_are_loaded(
    tmp_path: Path, tiny_model: Path, make_experiment: Make, new_run: NewRun
) -> None:
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    experiment = make_experiment(experiment={"model_name": str(tmp_path / "model")}, optim="paged_adamw_32bit")
    with pytest.raises(ExperimentError, match=rf"hyperparameters.optim: needs a package(.|\n)*{re.escape(adding('cuda'))}"):
        train_in(tmp_path, new_run(tmp_path, experiment, "optim"), experiment)


def test_weights_that_are_no_numbers_are_never_a_checkpoint(tmp_path: Path, make_experiment: Make, new_run: NewRun) -> None:
    experiment = make_experiment(
        learning_rate=1e30, max_grad_norm=0.0, max_steps=8, logging_steps=8, save_strategy="steps", save_steps=4
    )
    run = new_run(tmp_path, experiment, "nan-between")
    with pytest.raises(HealthError, match="not finite"):
        train_in(tmp_path, run, experiment)
    assert run.checkpoints() == []


def test_a_loss_that_is_not_a_number_stops_the_run_and_leaves_no_adapter(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    experiment = make_experiment(learning_rate=1e30, max_grad_norm=0.0, max_steps=6)
    run = new_run(tmp_path, experiment, "nan")
    with pytest.raises(HealthError, match="at step"):
        train_in(tmp_path, run, experiment)
    assert not run.adapter.exists()


def test_gradient_accumulation_changes_the_split_and_not_the_mathematics(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    losses = []
    for name, size, accumulation in (("one", 8, 1), ("four", 2, 4)):
        experiment = make_experiment(per_device_train_batch_size=size, gradient_accumulation_steps=accumulation, max_steps=3)
        run = new_run(tmp_path, experiment, name)
        train_in(tmp_path, run, experiment)
        losses.append([event["loss"] for event in events(run, "train")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class AskedDuringAnEvaluation(StopRequest):
    """A request that comes when the line of a step was written, after which the step's evaluation begins."""

    def __init__(self, run: RunDir, step: int):
        self._run, self._step = run, step

    @property
    def signal(self) -> signal.Signals | None:
        is_there = self._run.steps.exists() and any(event["step"] == self._step for event in events(self._run, "train"))
        return signal.SIGTERM if is_there else None


def test_an_evaluation_that_a_stop_cuts_short_is_the_first_thing_that_the_resumed_run_does(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    steps = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    experiment = make_experiment(**steps, load_best_model_at_end=True, metric_for_best_model="loss")
    whole, cut = (new_run(tmp_path, experiment, name) for name in ("whole", "cut"))
    train_in(tmp_path, whole, experiment)
    with pytest.raises(Stopped, match="stopped at step 2 of 4: resumes from checkpoint-2"):
        train_in(tmp_path, cut, experiment, stop=AskedDuringAnEvaluation(cut, 2))
    assert [event["step"] for event in events(cut, "eval")] == [0]
    train_in(tmp_path, cut, experiment, attempt=2)
    figures = [[(event["step"], event["eval_loss"]) for event in events(run, "eval")] for run in (cut, whole)]
    assert figures[0] == figures[1]
    assert [step for step, _ in figures[0]] == [0, 2, 4]
    assert same_bits(cut.adapter, whole.adapter)
