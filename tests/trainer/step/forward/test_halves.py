"""16-bit copies of the adapter in the rows of a step: the numbers are those of autocast, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.experiment.schema import Experiment
from tests.trainer.trained import weights

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]
MakeTrainer = Callable[..., Any]


@pytest.fixture(scope="module")
def bf16(tmp_path_factory: pytest.TempPathFactory, make_experiment: Make, make_trainer: MakeTrainer) -> Callable[..., Any]:
    """A trainer on the fast path, in bf16, that computes four pairs a step in several rows."""
    from trainer.inputs.models.adapter import skip_input_casts
    from trainer.inputs.models.model import Precision
    from trainer.step.batches.packing import packed_lengths
    from trainer.step.packed import Fast, Packed, Scored

    def make(**hyper: Any) -> Any:
        experiment = make_experiment(logging_steps=1, max_grad_norm=0.01, **hyper)
        precision = Precision(torch.bfloat16, bf16=True, fp16=False)
        trainer, tokens, _ = make_trainer(tmp_path_factory.mktemp("halves"), experiment, precision, pairs=12)
        skip_input_casts(trainer.model)
        budget = int(packed_lengths(tokens.pairs).max()) + 60
        reference = torch.full((12, 2), -50.0, dtype=torch.float64)
        trainer.take_fast_path(Fast(Packed(trainer.model), budget, Scored(tokens.pairs, reference), None))
        trainer.origin = {"zero_stage": 0, "ranks": 1}
        return trainer

    return make


def without_copies(trainer: Any) -> Any:
    from trainer.step.forward.halves import Halves

    trainer._halves = Halves(trainer.model, None)
    return trainer


def test_steps_and_a_resume_are_bit_for_bit_those_of_autocast(bf16: Callable[..., Any]) -> None:
    plain = without_copies(bf16(save_strategy="steps", save_steps=2))
    plain.train()
    lean, resumed = bf16(), bf16()
    assert len(lean._halves) == 2 * 7 * 2, "two matrices for each of the seven linear layers of both decoder layers"
    lean.train()
    resumed.train(resume_from_checkpoint=str(Path(plain.args.output_dir) / "checkpoint-2"))
    for other in (lean, resumed):
        expected, found = ([entry for entry in t.state.log_history if "loss" in entry] for t in (plain, other))
        assert len(expected) == len(found) == 4, "a resumed run has the lines before it too"
        for name in ("loss", "grad_norm", "rewards/margins", "logps/chosen"):
            assert [entry[name] for entry in found] == [entry[name] for entry in expected]
        for name, weight in weights(plain).items():
            assert torch.equal(weights(other)[name], weight), name
    assert all(p.dtype == torch.float32 for p in weights(lean).values())


def test_gradients_of_several_rows_are_added_in_fp32_as_autocast_adds_them(bf16: Callable[..., Any]) -> None:
    lean, plain = bf16(), without_copies(bf16())
    gradients = []
    for trainer in (lean, plain):
        for name, p in trainer.model.named_parameters():
            if "lora_B" in name:
                p.data.copy_(torch.arange(p.numel()).view_as(p) % 7 * 0.01)
        share = next(iter(trainer.get_train_dataloader()))["share"]
        trainer.model.train()
        trainer._rows(trainer.model, share)
        gradients.append({name: p.grad for name, p in trainer.model.named_parameters() if p.requires_grad})
    assert len(gradients[0]) == 28
    for name, expected in gradients[1].items():
        assert expected.dtype == torch.float32
        assert not torch.equal(expected, expected.bfloat16().float()), "a sum of rows has more digits than a copy"
        assert torch.equal(gradients[0][name], expected), name


def test_the_weights_are_back_when_a_row_fails(bf16: Callable[..., Any]) -> None:
    trainer = bf16()
    before = dict(trainer.model.named_parameters())
    keys = list(trainer.model.state_dict())

    def fails() -> None:
        with trainer._halves.lent():
            lent = dict(trainer.model.named_parameters())
            assert {p.dtype for p in lent.values()} == {torch.bfloat16}
            assert list(trainer.model.state_dict()) == keys
            lent["base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight"].grad = torch.zeros(16, 32).bfloat16()
            raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        fails()
    after = dict(trainer.model.named_parameters())
    assert all(after[name] is p for name, p in before.items())
    assert all(copy.grad is None for copy in trainer._halves._copies), "a failed row leaves no gradient for the next one"


def test_only_an_adapter_over_16_bit_weights_under_autocast_has_copies(
    tmp_path: Path, bf16: Callable[..., Any], make_experiment: Make, make_trainer: MakeTrainer
) -> None:
    from trainer.step.forward.halves import Halves

    wide, _, _ = make_trainer(tmp_path, make_experiment(), pairs=4)
    assert len(Halves(wide.model, torch.bfloat16)) == 0, "fp32 weights"
    half = bf16()
    assert len(Halves(half.model, torch.float16)) == 0, "weights of another type"
    assert len(Halves(half.model, None)) == 0
    with Halves(half.model, None).lent() as collect:
        collect()
