from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.checkpoints.log_line import keep_line, take_line
from trainer.step.loss.figures import Averages

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
ALONE: Any = SimpleNamespace(reduce=lambda value, reduction: value)


@pytest.mark.slow
def test_the_first_line_after_a_resume_averages_the_steps_before_the_checkpoint_too_bit_for_bit(
    tmp_path: Path, few_pairs: Path, make_experiment: Make, new_run: NewRun
) -> None:
    from tests.trainer.trained import events, same_bits, train_in

    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "dpo_path": "plain"}
    steps = {"save_strategy": "steps", "save_steps": 2, "logging_steps": 3, "max_steps": 4}

    def run_of(name: str, **more: Any) -> RunDir:
        experiment = make_experiment(experiment={"datasets_path": str(few_pairs)}, **steps, **split, **more)
        run = new_run(tmp_path, experiment, name)
        train_in(tmp_path, run, experiment)
        return run

    whole = run_of("whole")
    rest = run_of("rest", resume_from_checkpoint=str(whole.path / "checkpoint-2"))
    assert same_bits(whole.adapter, rest.adapter)
    lines = [[{**line, "seconds": 0} for line in events(run, "train")] for run in (whole, rest)]
    assert [line["step"] for line in lines[0]] == [3]
    assert lines[0] == lines[1]
    losses = [events(run, "summary")[0]["train_loss"] for run in (whole, rest)]
    assert losses[0] == losses[1]


def of_rank(rank: int, world: int, path: str = "plain") -> Any:
    """Of a trainer at step 5, whose last line was at step 3, what a line is made of."""
    averages = Averages(torch.device("cpu"))
    return SimpleNamespace(
        path=path,
        args=SimpleNamespace(should_save=True, process_index=rank, world_size=world),
        state=SimpleNamespace(global_step=5, log_history=[{"loss": 0.7, "step": 3}]),
        line_sums=averages.state,
        take_line_sums=lambda every: [averages.take(state) for state in every],
        averages=averages,
        _tr_loss=torch.tensor(0.0),
        _globalstep_last_logged=5,
        _losses_before=9.0,
        _total_loss_scalar=0.0,
    )


def test_another_number_of_ranks_continues_the_line_and_another_path_is_warned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = [of_rank(0, 2), of_rank(1, 2)]
    for rank, margin in zip(ranks, (1.0, 4.0), strict=True):
        rank.averages.add({"rewards/margins": margin}, rank.args.process_index + 1, torch.ones(2, 1))
        rank._tr_loss += margin
        rank._losses_before, rank._total_loss_scalar, rank._globalstep_last_logged = 1.0, 2.0, 3
    every = [{"own_loss": rank._tr_loss, **rank.line_sums()} for rank in ranks]
    monkeypatch.setattr("trainer.checkpoints.log_line.gather_object", lambda mine: every)  # what rank 1 sends
    keep_line(ranks[0], tmp_path)

    alone = of_rank(0, 1)
    assert take_line(alone, tmp_path) == []
    assert alone.averages.means(ALONE) == {"rewards/margins": 3.0}, "over the pairs of both"
    assert (float(alone._tr_loss), alone._globalstep_last_logged) == (2.5, 3)
    assert (alone._losses_before, alone._total_loss_scalar) == (0.0, 3.0)
    third = of_rank(2, 3)
    assert take_line(third, tmp_path) == []
    assert third.averages.means(ALONE) == {}, "the first rank has them"
    assert float(third._tr_loss) == 2.5
    (said,) = take_line(of_rank(0, 1, path="fast"), tmp_path / "checkpoint-5")
    assert said == "the next line of the log averages the steps from 6, not from 4: checkpoint-5 has no sums of the fast path"
