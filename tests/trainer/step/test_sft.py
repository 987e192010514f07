"""The SFT step computes what TRL's SFTTrainer computes, packed and padded, whatever micro-batches and ranks hold the answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from launcher.experiment.schema import Experiment
from tests.trainer.trained import weights
from trainer.processes.ranks.importing import quickly

MakeExperiment = Callable[..., Experiment]
MakeTrainer = Callable[..., Any]

# Two micro-batches of two a step, and a last step of three answers: 4, 4, 3.
SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": None,
    "learning_rate": 1e-2,
    "adam_epsilon": 1e-6,  # at 1e-8 a gradient that is all rounding makes a step of any size
    "lr_scheduler_type": "constant",
}
PAIRS = 11
NAMES = ("loss", "grad_norm", "mean_token_accuracy", "entropy")


def with_weights(model: torch.nn.Module) -> None:
    """A fresh adapter changes nothing: gives it weights."""
    own = torch.Generator().manual_seed(5)  # the global seed decides the order of the data
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3, generator=own)


def trained(make_experiment: MakeExperiment, make_trainer: MakeTrainer, root: Path, path: str, **hyper: Any) -> Any:
    """The trainer after an epoch on ``path``."""
    from trainer.step.choosing.choice import choose_path, take_path
    from trainer.step.sft import SFTTrainer

    experiment = make_experiment(experiment={"method": "sft"}, **{**SETTINGS, **hyper})
    trainer, tokens, precision = make_trainer(root, experiment, pairs=PAIRS, kind=SFTTrainer)
    choice = choose_path(trainer, path, tokens, None)
    assert choice.path == path, choice.sentence
    take_path(trainer, choice, precision, "w", [("train.csv", tokens), ("held out", tokens)], root / "cache")
    trainer.eval_dataset = tokens.dataset()
    with_weights(trainer.model)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory, make_experiment: MakeExperiment, make_trainer: MakeTrainer) -> Any:
    return trained(make_experiment, make_trainer, tmp_path_factory.mktemp("fast"), "fast")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, make_experiment: MakeExperiment, make_trainer: MakeTrainer) -> Any:
    return trained(make_experiment, make_trainer, tmp_path_factory.mktemp("plain"), "plain")


@pytest.fixture(scope="module")
def trls(tmp_path_factory: pytest.TempPathFactory, make_experiment: MakeExperiment) -> Any:
    """TRL's own trainer after an epoch over the same rows, as conversations of prompt and completion."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from launcher.data.pairs import read_pairs
    from launcher.data.tables.reading import Reading
    from trainer.inputs.models.adapter import lora_config, seed_adapter
    from trainer.inputs.models.model import choose_precision, load_model, load_tokenizer
    from trainer.inputs.tokens.template import messages_of

    experiment = make_experiment(experiment={"method": "sft"}, **SETTINGS)
    h, root = experiment.hyperparameters, tmp_path_factory.mktemp("trl")
    rows = read_pairs(experiment, Reading(root)).train[:PAIRS]
    data = Dataset.from_dict(
        {
            "prompt": [messages_of(pair) for pair in rows],
            "completion": [[{"role": "assistant", "content": pair.chosen}] for pair in rows],
        }
    )
    trainer = SFTTrainer(
        model=load_model(experiment, experiment.model_name, choose_precision(h, cuda=False, bf16=False), cuda=False),
        args=SFTConfig(
            output_dir=str(root),
            completion_only_loss=True,
            max_length=None,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            learning_rate=1e-2,
            adam_epsilon=1e-6,
            lr_scheduler_type="constant",
            num_train_epochs=1,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            seed=h.seed,
            disable_tqdm=True,
        ),
        train_dataset=data,
        processing_class=load_tokenizer(experiment, experiment.model_name),
        peft_config=lora_config(h),
    )
    seed_adapter(trainer.model, h.random_state, h.seed)
    with_weights(trainer.model)
    trainer.train()
    return trainer


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_losses_gradients_and_figures_are_those_of_trls_sft_trainer_over_uneven_micro_batches(
    path: str, trls: Any, request: pytest.FixtureRequest
) -> None:
    mine = request.getfixturevalue(path)
    ours, theirs = ([line for line in one.state.log_history if "loss" in line] for one in (mine, trls))
    assert len(ours) == len(theirs) == 3
    for our, their in zip(ours, theirs, strict=True):
        assert [our[name] for name in ("loss", "grad_norm")] == pytest.approx(
            [their[name] for name in ("loss", "grad_norm")], 1e-5
        )
        assert our["num_tokens"] == their["num_tokens"]
    # TRL takes the mean of its micro-batches' figures: equal only for equal lengths
    assert ours[0]["entropy"] == pytest.approx(theirs[0]["entropy"], rel=0.02)
    for name, expected in weights(trls).items():
        torch.testing.assert_close(weights(mine)[name], expected, rtol=1e-3, atol=1e-5)


def test_both_paths_have_the_same_figures_in_training_and_evaluation(fast: Any, plain: Any) -> None:
    lines = [[line for line in one.state.log_history if "loss" in line] for one in (fast, plain)]
    for one, other in zip(*lines, strict=True):
        assert [one[name] for name in NAMES] == pytest.approx([other[name] for name in NAMES], rel=1e-5)
    metrics = [one.evaluate() for one in (fast, plain)]
    names = ("eval_loss", "eval_entropy", "eval_mean_token_accuracy")
    assert [metrics[0][name] for name in names] == pytest.approx([metrics[1][name] for name in names], rel=1e-5)
    assert not any("rewards" in name or "logps" in name for name in (*lines[0][0], *metrics[0]))
    assert fast.pairs_trained == plain.pairs_trained == PAIRS


def test_a_loss_is_the_mean_over_all_tokens_of_the_answers(fast: Any) -> None:
    from trainer.step.choosing.comparison import packed_numbers

    pairs = fast.fast.train.pairs
    assert len(set(pairs.lengths[:, 1].tolist())) > 5, "answers of many lengths"
    found = packed_numbers(fast, fast.model, fast.fast.packed, pairs, fast.fast.budget, has_gradient=False)
    expected = -float(found.logps[:, 0].sum()) / int(pairs.lengths[:, 1].sum())
    assert fast.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_shares_of_two_ranks_count_the_tokens_of_the_whole_step(fast: Any) -> None:
    from trainer.step.batches.steps import Steps

    pairs = fast.fast.train.pairs
    ranks = [list(Steps(pairs, batch=4, seed=1, rank=rank, world=2, budget=None)) for rank in (0, 1)]
    for one, other in zip(*ranks, strict=True):
        both = [*one.pairs, *(other.pairs if other.is_work else ())]
        assert one.predicted == other.predicted == int(pairs.lengths[both, 1].sum())
        assert one.tokens == int(pairs.lengths[both].sum()), "every prompt once"


@pytest.mark.parametrize("budget", [1, 64, 10_000])
def test_a_row_of_pairs_without_rejected_answers_is_their_prompts_and_answers(budget: int) -> None:
    from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
    from trainer.step.batches.packing import pack

    pairs = TokenPairs.of([TokenPair([1, 2, 3], [4, 5], [], 2), TokenPair([], [6, 7, 8], [], 3), TokenPair([9], [10], [], 4)])
    rows = pack(pairs, budget)
    ids = {place: [] for place in range(3)}
    targets: dict[int, list[int]] = {place: [] for place in range(3)}
    for row in rows:
        assert row.length == len(row.input_ids)
        for number, (place, span) in enumerate(zip(row.pairs, row.spans, strict=True)):
            ids[place] = row.input_ids[span.begin : span.begin + span.shared + span.chosen].tolist()
            assert span.rejected == 0
            targets[place] = row.targets[row.answer == 2 * number].tolist()
    assert ids == {0: [1, 2, 3, 4], 1: [6, 7], 2: [9]}
    assert targets == {0: [4, 5], 1: [7, 8], 2: [10]}
    assert np.array_equal(np.concatenate([row.side.numpy() for row in rows]), np.zeros(5))


@pytest.mark.slow
def test_two_ranks_have_the_losses_gradients_and_figures_of_one(
    tmp_path: Path, make_experiment: MakeExperiment, port: int
) -> None:
    pairs = 7  # in the last step one rank has two answers, the other one
    experiment = make_experiment(experiment={"method": "sft"}, **SETTINGS)
    torch.multiprocessing.spawn(of_rank, (tmp_path, experiment.model_dump_json(), pairs, port), nprocs=2)
    alone = epoch(tmp_path / "one", experiment, pairs, "fast")
    for path in ("fast", "plain"):
        for rank in (0, 1):
            found = torch.load(tmp_path / f"{path}-{rank}.pt")
            for mine, other in zip(found["lines"], alone["lines"], strict=True):
                assert mine == pytest.approx(other, rel=1e-4), path
            assert found["evaluated"] == pytest.approx(alone["evaluated"], rel=1e-4)
            assert found["trained"] == pairs
            for name, value in alone["weights"].items():
                torch.testing.assert_close(found["weights"][name], value, rtol=1e-3, atol=1e-5)


def of_rank(rank: int, root: Path, experiment: str, pairs: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    with quickly():
        import trainer.step.sft  # noqa: F401
    for path in ("fast", "plain"):
        found = epoch(root / str(rank), Experiment.model_validate_json(experiment), pairs, path, rank=rank, world=2)
        torch.save(found, root / f"{path}-{rank}.pt")
    torch.distributed.destroy_process_group()


def epoch(root: Path, experiment: Experiment, pairs: int, path: str, **place: int) -> dict[str, Any]:
    """What an epoch leaves: log lines, an evaluation of the same answers, weights, and how many pairs were trained."""
    from tests.trainer.conftest import trainer_of
    from trainer.step.choosing.choice import choose_path, take_path
    from trainer.step.sft import SFTTrainer

    # Two ranks of one micro-batch of two, or one rank with two of them.
    world = place.get("world", 1)
    h = experiment.hyperparameters.model_copy(update={"gradient_accumulation_steps": 2})
    experiment = experiment.model_copy(
        update={"hyperparameters": h, "launch": experiment.launch.model_copy(update={"global_batch_size": 4})}
    )
    trainer, tokens, precision = trainer_of(root / path, experiment, pairs=pairs, kind=SFTTrainer, **place)
    assert trainer.args.gradient_accumulation_steps == 2 // world
    choice = choose_path(trainer, path, tokens, None)
    take_path(trainer, choice, precision, "w", [("train.csv", tokens), ("held out", tokens)], root / "cache")
    trainer.eval_dataset = tokens.dataset()
    with_weights(trainer.model)
    trainer.train()
    lines = [{name: line[name] for name in (*NAMES, "num_tokens")} for line in trainer.state.log_history if "loss" in line]
    metrics = trainer.evaluate()
    evaluated = [metrics[f"eval_{name}"] for name in ("loss", "entropy", "mean_token_accuracy")]
    return {"lines": lines, "evaluated": evaluated, "weights": weights(trainer), "trained": trainer.pairs_trained}


def test_dropout_of_an_adapter_takes_the_plain_path(
    tmp_path: Path, make_experiment: MakeExperiment, make_trainer: MakeTrainer
) -> None:
    from trainer.step.choosing.choice import choose_path
    from trainer.step.sft import SFTTrainer

    experiment = make_experiment(experiment={"method": "sft"}, lora_dropout=0.1)
    trainer, tokens, _ = make_trainer(tmp_path, experiment, pairs=4, kind=SFTTrainer)
    sentence = choose_path(trainer, "auto", tokens, None).sentence
    assert sentence.startswith("plain path: dropout is on (disable_dropout: false")
    assert sentence.endswith("rows draw other masks, and cannot be compared")
