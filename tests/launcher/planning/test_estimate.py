"""Memory, work and time from sizes alone: the parts that can be worked out by hand, and what must be larger than what."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.planning.estimate import Estimate, estimate, fits, step_seconds
from launcher.planning.machines.gpus import Gpu, find_gpu
from launcher.planning.rows import is_packed
from launcher.planning.sizes.adapter import Adapter
from launcher.planning.sizes.machine import Machine
from launcher.planning.sizes.model_config import ModelConfig
from launcher.planning.tokens.work import Work

QWEN = Path(__file__).parents[3] / "configs/models/Qwen/Qwen3-0.6B/config.json"
CONFIG = ModelConfig.parse(json.loads(QWEN.read_text()))
WORK = Work(pairs=400, tokens=400_000, packed=300_000, longest=700, longest_pair=1000, exact=True)
CARD = Machine(gpu=find_gpu("RTX 4090"))


def experiment(launch: dict[str, Any] | None = None, **hyper: Any) -> Experiment:
    return Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": hyper, "launch": launch or {}})


def said(machine: Machine = CARD, work: Work = WORK, recompute: bool | None = None, **hyper: Any) -> Estimate:
    return estimate(experiment(**hyper), CONFIG, work, machine, recompute=recompute)


def part(found: Estimate, name: str) -> int:
    return sum(part.size for part in found.parts if part.name == name)


def test_an_adapter_on_a_gpu_keeps_16_bit_weights_and_trains_few():
    found = said()
    adapter = Adapter(Hyperparameters(), CONFIG).matrices
    assert adapter == 10_092_544
    assert part(found, "weights") == 2 * 596_049_920
    assert (part(found, "adapter"), part(found, "gradients"), part(found, "optimizer")) == (4 * adapter, 4 * adapter, 8 * adapter)
    assert part(found, "reference") == 0
    assert found.row == 8 * 1000, "a step in one row"


def test_every_evaluation_costs_a_forward_pass_over_the_validation_pairs_and_so_does_their_reference():
    def found(held_out: int, **hyper: Any) -> Estimate:
        fields = {"model_name": "m", "datasets_path": "d", "validation_filename": "v.csv", "hyperparameters": hyper}
        return estimate(Experiment.parse(fields), CONFIG, replace(WORK, held_out=held_out), CARD)

    without, some, more = found(0), found(40, save_steps=25), found(40, save_steps=10)
    assert [one.evaluations for one in (without, some, more)] == [0, 3, 6]
    forward = (some.flops - without.flops) / 4
    assert more.flops - without.flops == pytest.approx(7 * forward)
    assert forward == pytest.approx(2 * 596_049_920 * 300_000 / 10, rel=0.25), "a tenth of the pairs, most of it in the weights"
    assert found(40, eval_strategy="no").flops == without.flops


def test_full_fine_tuning_keeps_fp32_masters_and_everything_that_trains_them():
    found, every = said(full_finetuning=True), 596_049_920
    assert [part(found, name) for name in ("weights", "gradients", "optimizer")] == [4 * every, 4 * every, 8 * every]
    assert part(said(full_finetuning=True, load_in_16bit=True), "weights") == 2 * every


@pytest.mark.parametrize("setting", [{"sync_ref_model": True}, {"ld_alpha": 0.5}])
def test_a_reference_is_kept_only_where_it_moves_or_looks_at_pairs(setting: dict[str, Any]):
    assert part(said(full_finetuning=True), "reference") == 0
    assert part(said(full_finetuning=True, **setting), "reference") == 4 * 596_049_920
    if "ld_alpha" in setting:  # TRL syncs no reference of an adapter
        assert part(said(**setting), "reference") == 0  # the model without its adapter


def test_four_bits_are_for_linear_weights_and_the_rest_stays():
    linear = CONFIG.linear_weights
    expected = linear * (0.5 + 1 / 64 + 1 / 4096) + (596_049_920 - linear) * 2
    assert part(said(load_in_4bit=True), "weights") == int(expected)
    on_the_cpu = Machine(cuda=False)
    assert part(said(on_the_cpu, load_in_4bit=True), "weights") == 4 * 596_049_920


@pytest.mark.parametrize(("optim", "a_weight"), [("adamw_torch", 8), ("adamw_8bit", 2), ("sgd", 0), ("lion_32bit", 4)])
def test_optimizers_keep_what_they_keep(optim: str, a_weight: float):
    assert part(said(optim=optim, full_finetuning=True), "optimizer") == a_weight * 596_049_920


def test_an_optimizer_that_nobody_has_counted_is_taken_for_adamw_and_says_so():
    found = said(optim="apollo_adamw")
    assert part(found, "optimizer") == part(said(), "optimizer")
    assert found.notes == ("optim: apollo_adamw is counted as adamw_torch (8 bytes per trained weight)",)


def test_zero_divides_one_thing_more_with_every_stage():
    every = 596_049_920
    parts = {}
    for name in ("ddp", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload"):
        found = said(replace(CARD, world=4, parallelism=name), full_finetuning=True)
        parts[name] = (*(part(found, part_) for part_ in ("weights", "gradients", "optimizer")), found.host)
    assert parts == {
        "ddp": (4 * every, 8 * every, 8 * every, 0),
        "zero1": (2 * every, 2 * every, 4 * every, 0),
        "zero2": (2 * every, every // 2, 4 * every, 0),
        "zero3": (every // 2, every // 2, 4 * every, 0),
        "zero2_offload": (2 * every, every // 2, 0, 4 * every),
        "zero3_offload": (0, every // 2, 0, 4 * every + every // 2),
    }


def test_checkpointing_trades_memory_for_time():
    kept, again = said(recompute=False), said(recompute=True)
    assert part(again, "activations") < part(kept, "activations") / 10
    assert kept.flops < again.flops < 1.5 * kept.flops


def test_auto_checkpointing_is_on_only_where_it_does_not_fit_without():
    long = Work.at_most(4096, 400)
    small, large = Machine(gpu=Gpu("small", 12 << 30, None)), Machine(gpu=Gpu("large", 80 << 30, None))
    assert (said(small, long).recompute, said(large, long).recompute, said(Machine(cuda=False), long).recompute) == (
        True,
        False,
        False,
    )
    assert fits(said(small, long), 12 << 30, 0.9)


def test_rows_on_the_cpu_are_short_and_no_longer_than_a_step():
    on_the_cpu = Machine(cuda=False)
    short = Work(pairs=100, tokens=10_000, packed=8_000, longest=100, longest_pair=120)
    assert said(on_the_cpu, short, per_device_train_batch_size=8).row == 512
    assert said(on_the_cpu, short, per_device_train_batch_size=2).row == 240
    assert said(on_the_cpu, WORK).row == 1000


@pytest.mark.parametrize(
    "plain",
    [{"dpo_path": "plain"}, {"ld_alpha": 0.5}, {"loss_type": "aot"}, {"disable_dropout": False}],
)
def test_the_plain_path_pads_and_repeats_prompts(plain: dict[str, Any]):
    found = said(**plain)
    assert not is_packed(experiment(**plain).hyperparameters)
    assert found.row == 2 * 2 * 700
    assert found.tokens == 400_000
    assert "plain path: prompts are computed twice, and sequences are padded" in found.notes


def test_operations_are_those_of_the_passes_over_weights():
    """Frozen weights: forward and the gradient of the inputs, two operations each, and the reference's forward pass."""
    found = said()
    body, head = CONFIG.active_weights * 300_000, CONFIG.embedding * 200_000
    linear = 6 * body + 6 * head + 6 * 10_092_544 * 300_000
    attention = 4 * 2 * 28 * 2048 * 500 * 400_000
    assert found.flops == pytest.approx(linear + attention)
    assert found.seconds == pytest.approx(found.flops / (165.2e12 * 0.4))
    assert said(replace(CARD, world=2)).seconds == pytest.approx(found.flops / (165.2e12 * 0.4) / 2)


@pytest.mark.parametrize(
    ("settings", "more"), [({"modules_to_save": ["lm_head"]}, 4), ({"target_modules": "all-linear"}, 0)], ids=["copy", "none"]
)
def test_the_logits_of_a_head_that_is_trained_are_computed_twice_and_it_has_a_gradient(settings: dict[str, Any], more: int):
    head = CONFIG.embedding * 200_000
    assert said(**settings).flops - said().flops == pytest.approx(more * head)


def test_steps_and_tokens_follow_the_epochs():
    assert (said().steps, said().tokens) == (50, 300_000)
    assert (said(max_steps=100).steps, said(max_steps=100).tokens) == (100, 600_000)


def test_the_time_of_a_step_is_what_a_step_adds_to_that_of_the_run():
    short, long = (said(max_steps=steps, use_gradient_checkpointing=True) for steps in (10, 30))
    settings = experiment(use_gradient_checkpointing=True)
    a_step = step_seconds(settings, CONFIG, WORK, CARD, recompute=True)
    assert 20 * a_step == pytest.approx(long.seconds - short.seconds)
    assert step_seconds(settings, CONFIG, WORK, Machine(cuda=False), recompute=True) is None


def test_the_speed_of_an_unknown_device_is_not_guessed():
    assert said(Machine(gpu=Gpu("new", 24 << 30, None))).seconds is None
    assert said(Machine(cuda=False)).seconds is None


def test_sft_computes_one_sequence_a_pair_and_no_reference():
    fields = {"model_name": "m", "datasets_path": "d", "validation_filename": "v.csv"}
    of_sft = Experiment.parse({**fields, "method": "sft", "hyperparameters": {"dpo_path": "plain"}})
    one = Work(400, 200_000, 200_000, 700, 700, True, answer_tokens=100_000)
    both = Work(400, 400_000, 300_000, 700, 1000, True)  # the same answers twice
    assert (one.sequences, one.answers, both.sequences) == (1, 100_000, 2)
    sft, dpo = estimate(of_sft, CONFIG, one, CARD), said(work=both, dpo_path="plain")
    assert (sft.row, dpo.row) == (2 * 700, 2 * 2 * 700)
    assert sft.notes == ("plain path: sequences are padded",)
    twice = estimate(of_sft, CONFIG, replace(one, held_out=400), CARD)
    forward = (twice.flops - sft.flops) / twice.evaluations  # without the reference's
    assert dpo.flops == pytest.approx(2 * sft.flops + 2 * forward), "and the reference's pass over both answers"
