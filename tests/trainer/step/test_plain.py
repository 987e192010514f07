"""On the plain path every pair weighs the same, whichever micro-batches and ranks hold the pairs of a step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.experiment.schema import Experiment
from tests.trainer.conftest import trainer_of
from tests.trainer.trained import with_margins
from trainer.processes.ranks.importing import quickly

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]
MakeTrainer = Callable[..., Any]

# After one step of SGD at rate 1 without clipping, a weight has lost its gradient.
ONE_STEP: dict[str, Any] = {
    "optim": "sgd",
    "learning_rate": 1.0,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "max_steps": 1,
    "beta": 0.3,
    "dpo_path": "plain",
}
PAIRS = 5


def gradient(trainer: Any) -> dict[str, torch.Tensor]:
    """What one step of the trainer takes from the adapter."""
    with_margins(trainer.model)
    before = weights(trainer)
    trainer.train()
    return {name: before[name] - after for name, after in weights(trainer).items()}


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    named = trainer.model.named_parameters()  # without DDP around it
    return {name: p.detach().clone() for name, p in named if p.requires_grad}


def mean_over_pairs(trainer: Any) -> dict[str, torch.Tensor]:
    """The mean of the gradients of TRL's loss of each pair by itself, in float64."""
    import trl

    with_margins(trainer.model)
    trainer.model.double().train()
    for pair in range(PAIRS):
        batch = trainer.data_collator([trainer.train_dataset[pair]])
        loss = trl.DPOTrainer.compute_loss(trainer, trainer.model, batch)
        assert isinstance(loss, torch.Tensor)
        (loss / PAIRS).backward()
    return {name: p.grad for name, p in trainer.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "losses",
    [
        {},
        {"loss_type": ["sigmoid", "hinge", "ipo"], "loss_weights": [0.7, 0.2, 0.5]},
        {"loss_type": "apo_zero", "use_weighting": True},
    ],
    ids=["sigmoid", "several losses", "weighted pairs"],
)
def test_the_lone_pair_of_a_last_micro_batch_weighs_as_much_as_the_others(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer, losses: dict[str, Any]
) -> None:
    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
    trainer, _, _ = make_trainer(tmp_path, make_experiment(**ONE_STEP, **split, **losses), pairs=PAIRS)
    found = gradient(trainer)
    one, _, _ = make_trainer(tmp_path / "one by one", make_experiment(**ONE_STEP, **split, **losses), pairs=PAIRS)
    for name, expected in mean_over_pairs(one).items():
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-4, atol=1e-6)


def test_figures_of_a_step_do_not_depend_on_its_micro_batches(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer
) -> None:
    lines = []
    for micro, accumulation in ((5, 1), (2, 3), (1, 5)):
        split = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": accumulation}
        trainer, _, _ = make_trainer(tmp_path / str(micro), make_experiment(**ONE_STEP, **split), pairs=PAIRS)
        with_margins(trainer.model)
        trainer.train()
        lines.append({name: value for name, value in trainer.state.log_history[0].items() if name != "step_time"})
    assert {"loss", "entropy", "logits/chosen", "logits/rejected", "mean_token_accuracy", "rewards/margins"} <= lines[0].keys()
    for other in lines[1:]:
        assert other == pytest.approx(lines[0], rel=1e-5, abs=1e-5)


def test_figures_of_an_evaluation_do_not_depend_on_its_batches_nor_on_the_path(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer
) -> None:
    from trainer.step.choosing.choice import choose_path, take_path

    found = []
    for path, batch in (("plain", 1), ("plain", 3), ("plain", 8), ("fast", 8)):
        settings = {"per_device_eval_batch_size": batch, "beta": 0.3, "dataloader_drop_last": True}
        trainer, tokens, precision = make_trainer(tmp_path / f"{path}-{batch}", make_experiment(**settings), pairs=10)
        data = [("train.csv", tokens), ("held out", tokens)]
        take_path(trainer, choose_path(trainer, path, tokens, None), precision, "w", data, tmp_path / "cache")
        if batch == 3:
            with_margins(trainer.model, std=1e-6)
            almost = trainer.evaluate()
            assert 0 < abs(almost["eval_rewards/margins"]) < 1e-4
            assert almost["eval_rewards/accuracies"] == 0, "a margin that is rounding is no preference"
        with_margins(trainer.model)
        metrics = trainer.evaluate()
        apart = ("runtime", "per_second", "preparation_time", "num_tokens")
        apart += ("margins_std", "length_correlation")  # which TRL does not have
        found.append({name: value for name, value in metrics.items() if not name.endswith(apart)})
    assert {"eval_loss", "eval_entropy", "eval_logits/chosen", "eval_logits/rejected"} <= found[0].keys()
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_a_short_last_step_counts_its_own_pairs_and_the_loss_of_a_run_is_the_mean_over_its_steps(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer, path: str
) -> None:
    from trainer.step.choosing.choice import choose_path, take_path

    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": None, "logging_steps": 2}
    trainer, tokens, precision = make_trainer(tmp_path, make_experiment(**split), pairs=17)
    data = [("train.csv", tokens)]
    take_path(trainer, choose_path(trainer, path, tokens, None), precision, "w", data, tmp_path / "cache")
    trained = trainer.train()
    assert trainer.state.global_step == 3
    assert trainer.pairs_trained == 17, "of 24 that three whole steps would hold"
    assert trainer.train_loss == pytest.approx(trained.training_loss, rel=1e-6), "as in transformers"


@pytest.mark.parametrize("world", [2, 3])
def test_every_pair_of_an_epoch_is_an_own_one_of_one_rank(world: int) -> None:
    from types import SimpleNamespace

    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler

    from trainer.step.plain import PlainTrainer

    for pairs in range(1, 20):
        for micro in (1, 2, 3, 4):
            own: list[int] = []
            for rank in range(world):
                rounds = list(BatchSamplerShard(BatchSampler(range(pairs), micro, drop_last=False), world, rank))
                for number, places in enumerate(rounds):
                    state = SimpleNamespace(end_of_dataloader=number == len(rounds) - 1, remainder=pairs % (micro * world))
                    args = SimpleNamespace(world_size=world, process_index=rank)
                    trainer: Any = SimpleNamespace(args=args, accelerator=SimpleNamespace(gradient_state=state), sequences=2)
                    batch = {"input_ids": places * 2}
                    own += places[: PlainTrainer._own_pairs(trainer, batch)]
            assert sorted(own) == list(range(pairs)), f"{pairs} pairs, {micro} in a micro-batch"


def test_two_ranks_have_the_gradient_and_the_figures_of_one(tmp_path: Path, make_experiment: Make, port: int) -> None:
    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    experiment = make_experiment(**ONE_STEP, **split, per_device_eval_batch_size=2)
    torch.multiprocessing.spawn(of_rank, (tmp_path, experiment.model_dump_json(), port), nprocs=2)
    for pairs in SHORT:
        gradients, line, evaluated, _ = step_and_evaluation(tmp_path / "one", experiment, pairs)
        for rank in (0, 1):
            found, history, metrics, trained = torch.load(tmp_path / f"{pairs}-{rank}.pt")
            for name, value in gradients.items():
                torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
            for name in ("loss", "entropy", "logits/chosen", "rewards/margins", "num_tokens", "grad_norm"):
                assert history[name] == pytest.approx(line[name], rel=1e-5), name
            for name in ("loss", "entropy", "logits/rejected", "logps/chosen", "rewards/accuracies"):
                assert metrics[f"eval_{name}"] == pytest.approx(evaluated[f"eval_{name}"], rel=1e-4), name
            assert trained == pairs


SHORT = (5, 2)  # pairs: in their last micro-batches the second rank has one pair, or none


def of_rank(rank: int, root: Path, experiment: str, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    with quickly():
        import trainer.step.dpo  # noqa: F401
    for pairs in SHORT:
        found = step_and_evaluation(root / str(rank), Experiment.model_validate_json(experiment), pairs, rank=rank, world=2)
        torch.save(found, root / f"{pairs}-{rank}.pt")
    torch.distributed.destroy_process_group()


def step_and_evaluation(root: Path, experiment: Experiment, pairs: int, **place: int) -> tuple[Any, ...]:
    """(gradient, log line, figures of an evaluation of the same pairs, how many pairs were trained)."""
    trainer, _, _ = trainer_of(root / str(pairs), experiment, pairs=pairs, **place)
    found = gradient(trainer)
    trainer.eval_dataset = trainer.train_dataset
    return found, trainer.state.log_history[0], trainer.evaluate(), trainer.pairs_trained
