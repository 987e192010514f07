"""The learning rate of a run that resumes from a checkpoint of a longer or shorter one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]

SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "cosine": {},
    "cosine_with_restarts": {"num_cycles": 2},
    "polynomial": {},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 2},
}


def made(name: str, steps: int, warmup: float) -> tuple[Any, Any]:
    import torch
    from transformers import get_scheduler

    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": weights[:1]}, {"params": weights[1:], "weight_decay": 0.0}], lr=5e-4)
    specific = dict(SCHEDULES[name])
    return optimizer, get_scheduler(name, optimizer, int(warmup * steps), steps, scheduler_specific_kwargs=specific)


def rates(optimizer: Any, scheduler: Any, count: int) -> list[float]:
    """The rates of the next ``count`` steps, of both groups."""
    found = []
    for _ in range(count):
        found += [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("length", [12, 8, 5])
def test_from_its_first_step_a_resumed_run_has_the_rates_of_an_uninterrupted_run_of_its_length(name: str, length: int) -> None:
    from trainer.checkpoints.schedule import follow

    optimizer, scheduler = made(name, 8, 0.5)
    rates(optimizer, scheduler, 4)
    saved = optimizer.state_dict(), scheduler.state_dict()
    whole = made(name, length, 0.5)
    rates(*whole, 4)
    resumed = made(name, length, 0.5)
    for part, state in zip(resumed, saved, strict=True):
        part.load_state_dict(state)
    follow(resumed[1], resumed[0])
    assert resumed[1].get_last_lr() == whole[1].get_last_lr()
    assert rates(*resumed, length - 4) == rates(*whole, length - 4)


def test_a_schedule_that_reacts_to_the_loss_keeps_the_rate_of_the_checkpoint() -> None:
    import torch
    from transformers import get_scheduler

    from trainer.checkpoints.schedule import follow

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=5e-4)
    scheduler = get_scheduler("reduce_lr_on_plateau", optimizer, 0, 8)
    optimizer.param_groups[0]["lr"] = 1e-4
    follow(scheduler, optimizer)
    assert optimizer.param_groups[0]["lr"] == 1e-4


@pytest.mark.slow
def test_a_finished_run_that_is_made_longer_trains_its_next_step_as_an_uninterrupted_one(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    from tests.trainer.trained import events, train_in

    settings: dict[str, Any] = {"lr_scheduler_type": "cosine", "warmup_ratio": 0.25, "save_strategy": "steps"}
    runs = []
    for name, more in {
        "short": {"max_steps": 2},
        "longer": {"max_steps": None, "num_train_epochs": 4 / 105, "resume_from_checkpoint": True},
        "whole": {"max_steps": 4},
    }.items():
        experiment = make_experiment(**settings, **more)
        runs.append(new_run(tmp_path, experiment, name))
        train_in(tmp_path, runs[-1], experiment)
    short, longer, whole = ([event["learning_rate"] for event in events(run, "train")] for run in runs)
    assert len(short) == 2
    assert longer == whole[2:]
    assert longer == pytest.approx([7.5e-4, 2.5e-4]), "one and two thirds of a cosine from 1e-3 to 0 after one step of warm-up"
