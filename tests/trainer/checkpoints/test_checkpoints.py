from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.errors import HealthError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.trainer.forks import Forks
from trainer.processes.stop import StopRequest

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
FIGURES = ("loss", "eval_loss", "entropy", "num_tokens")


def checkpoint(folder: Path, step: int, *, adapter: bool) -> Path:
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    if adapter:
        (folder / "adapter_config.json").write_text("{}")
    return folder


def test_a_checkpoint_is_found_by_its_path_whatever_the_folder_is_called(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    from trainer.checkpoints.checkpoints import resume_point
    from trainer.checkpoints.remembered import step_of

    kept = checkpoint(tmp_path / "kept", 7, adapter=False)
    experiment = make_experiment(resume_from_checkpoint="kept", full_finetuning=True)
    assert resume_point(new_run(tmp_path, experiment, "full"), experiment, tmp_path) == kept
    assert step_of(kept) == 7


def test_early_stopping_goes_on_counting_where_the_checkpoint_left_off() -> None:
    from transformers import TrainerControl, TrainerState

    from trainer.checkpoints.best import Patience

    args = SimpleNamespace(load_best_model_at_end=True, metric_for_best_model="loss", eval_strategy="steps")
    for counted, ended in ((1, False), (2, True)):
        stored, patience, control = Patience(2), Patience(2), TrainerControl()
        stored.early_stopping_patience_counter = counted
        patience.on_train_begin(args, TrainerState(stateful_callbacks={"Patience": stored.state()}), control)
        assert (patience.early_stopping_patience_counter, control.should_training_stop) == (counted, ended)


def test_a_stop_at_the_end_of_an_epoch_is_saved_after_the_evaluation_and_within_one_before() -> None:
    import signal

    import torch
    from transformers import TrainerControl, TrainerState

    from trainer.checkpoints.checkpoints import StopCallback

    def asked(epoch: float) -> tuple[tuple[bool, bool], tuple[bool, bool]]:
        request = StopRequest()
        request.signal = signal.SIGTERM
        callback, state, control = StopCallback(request), TrainerState(epoch=epoch), TrainerControl()
        args = SimpleNamespace(device=torch.device("cpu"))
        callback.on_step_end(args, state, control)
        at_step = control.should_save, control.should_evaluate
        control.should_save = control.should_evaluate = True  # as transformers does for the strategy `epoch`
        callback.on_epoch_end(args, state, control)
        return at_step, (control.should_save, control.should_evaluate)

    assert asked(1.5) == ((True, False), (False, False))
    assert asked(2.0) == ((False, False), (True, True))


def test_only_the_rank_that_writes_clears_the_adapter_s_folder(tmp_path: Path) -> None:
    from launcher.runs.run_dir import ASIDE
    from trainer.checkpoints.checkpoints import save_verified

    (tmp_path / ASIDE).mkdir()
    other = SimpleNamespace(
        args=SimpleNamespace(should_save=False),
        model=SimpleNamespace(parameters=list),
        save_model=lambda folder: None,
        accelerator=SimpleNamespace(state=SimpleNamespace()),
    )
    assert save_verified(other, RunDir(tmp_path)) == {}
    assert (tmp_path / ASIDE).is_dir()


def test_weights_that_are_no_numbers_are_never_an_adapter(tmp_path: Path) -> None:
    import torch

    from trainer.checkpoints.checkpoints import save_verified

    model = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(model.weight, float("nan"))
    trainer = SimpleNamespace(
        args=SimpleNamespace(should_save=True),
        save_model=lambda folder: Path(folder).mkdir(),
        accelerator=SimpleNamespace(unwrap_model=lambda model: model),
        model=model,
    )
    with pytest.raises(HealthError, match="not finite"):
        save_verified(trainer, RunDir(tmp_path))
    assert not (tmp_path / "adapter").exists()


@pytest.mark.slow
def test_an_adapter_is_compared_without_the_attention_of_packed_rows(
    tmp_path: Path, make_experiment: Make, make_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compared batch is padded: on a GPU FlexAttention would compile kernels for a mask that no row has."""
    from trainer.checkpoints import checkpoints
    from trainer.step.choosing.choice import choose_path, take_path
    from trainer.step.forward.attention import SEGMENTS

    trainer, tokens, precision = make_trainer(tmp_path, make_experiment(), pairs=2)
    take_path(trainer, choose_path(trainer, "fast", tokens, "fast"), precision, "w", [("train.csv", tokens)], tmp_path)
    config, seen, logps = trainer.model.get_base_model().config, [], checkpoints.log_probs
    monkeypatch.setattr(checkpoints, "log_probs", lambda *args: seen.append(config._attn_implementation) or logps(*args))
    assert checkpoints.save_verified(trainer, RunDir(tmp_path))["largest_logp_difference"] == 0.0
    assert seen == ["sdpa", "sdpa"]
    assert config._attn_implementation == SEGMENTS


@pytest.mark.slow
@pytest.mark.parametrize("path", ["fast", "plain"])
def test_two_ranks_that_evaluate_first_train_what_one_rank_trains(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, forks: Forks, path: str
) -> None:
    from safetensors.torch import load_file

    experiment = make_experiment(
        dpo_path=path,
        max_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        per_device_eval_batch_size=42,
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    env |= {f"DPO_{name}_ROOT": str(tmp_path) for name in ("RUN", "DATA", "CACHE")}
    adapters, norms, figures = [], [], []
    for nproc in ("1", "2"):
        run = new_run(tmp_path, experiment, f"ranks-{nproc}")
        code = forks.end(forks.start(run.path, {**env, "DPO_NPROC": nproc}))
        log = run.rank_log(0).read_text()
        assert code == 0, log
        assert "find_unused_parameters" not in log
        adapters.append(load_file(run.adapter / "adapter_model.safetensors"))
        steps = [json.loads(line) for line in run.steps.read_text().splitlines()]
        norms.append([event["grad_norm"] for event in steps if event["type"] == "train"])
        figures.append([[e[name] for name in FIGURES if name in e] for e in steps[:-1]])
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    for one, two in zip(*figures, strict=True):
        assert one == pytest.approx(two, rel=1e-4)
    assert all((adapters[1][name] - tensor).abs().max() < 1e-4 for name, tensor in adapters[0].items())


@pytest.mark.slow
def test_two_ranks_train_one_adapter_and_both_load_the_best(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, forks: Forks
) -> None:
    experiment = make_experiment(
        max_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        save_strategy="steps",
        save_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=32,
        load_best_model_at_end=True,
    )
    run = new_run(tmp_path, experiment, "two")
    env = {**os.environ, "DPO_NPROC": "2", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    env |= {f"DPO_{name}_ROOT": str(tmp_path) for name in ("RUN", "DATA", "CACHE")}
    assert forks.end(forks.start(run.path, env)) == 0, run.rank_log(0).read_text()
    assert (run.adapter / "adapter_model.safetensors").is_file()
    steps = [json.loads(line) for line in run.steps.read_text().splitlines()]
    assert [event["step"] for event in steps if event["type"] == "train"] == [1, 2]
    assert "Could not locate the best model" not in run.rank_log(1).read_text()
