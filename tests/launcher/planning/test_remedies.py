"""What makes a run fit: the cheapest first, in words that can be typed; and the simplest way to share the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment
from launcher.planning.estimate import estimate
from launcher.planning.machines.gpus import Gpu
from launcher.planning.remedies import cheaper, simplest_that_fits
from launcher.planning.sizes.machine import Machine
from launcher.planning.sizes.model_config import ModelConfig
from launcher.planning.tokens.work import Work

GIB = 2**30
QWEN = Path(__file__).parents[3] / "configs/models/Qwen/Qwen3-0.6B/config.json"
CONFIG = ModelConfig.parse(json.loads(QWEN.read_text()))


def experiment(launch: dict[str, Any] | None = None, **hyper: Any) -> Experiment:
    return Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": hyper, "launch": launch or {}})


def changes(wanted: Experiment, gib: float, world: int = 1) -> list[tuple[str, bool]]:
    work = Work.at_most(wanted.hyperparameters.max_seq_length, 100)
    machine = Machine(world, gpu=Gpu("GPU", int(gib * GIB), None))
    return [(change.options, change.fits) for change in cheaper(wanted, CONFIG, work, machine, int(gib * GIB))]


def test_the_cheapest_single_changes_come_first():
    wanted = experiment(max_seq_length=2048, per_device_train_batch_size=8, use_gradient_checkpointing=False, dpo_path="plain")
    assert changes(wanted, 16) == [
        ("--set hyperparameters.use_gradient_checkpointing=true", True),
        ("--set hyperparameters.per_device_train_batch_size=1 --set launch.global_batch_size=32", True),
        ("--set hyperparameters.max_seq_length=256", True),
    ]


def test_a_smaller_micro_batch_is_no_help_where_memory_decides_the_rows():
    wanted = experiment(max_seq_length=2048, per_device_train_batch_size=8, use_gradient_checkpointing=False)
    assert changes(wanted, 8) == [
        ("--set hyperparameters.use_gradient_checkpointing=true", True),
        ("--set hyperparameters.max_seq_length=1024", True),
    ]


def test_the_changes_say_what_the_run_then_needs():
    wanted = experiment(max_seq_length=2048, use_gradient_checkpointing=False)
    work, card = Work.at_most(2048, 100), Machine(gpu=Gpu("GPU", 8 * GIB, None))
    first = cheaper(wanted, CONFIG, work, card, 8 * GIB)[0]
    again = experiment(max_seq_length=2048, use_gradient_checkpointing=True)
    assert first.total == estimate(again, CONFIG, work, card).total


def test_changes_are_combined_where_none_alone_is_enough():
    wanted = experiment(max_seq_length=4096, per_device_train_batch_size=16, use_gradient_checkpointing=False, dpo_path="plain")
    assert changes(wanted, 5) == [
        (
            "--set hyperparameters.use_gradient_checkpointing=true "
            "--set hyperparameters.per_device_train_batch_size=1 --set launch.global_batch_size=64",
            True,
        )
    ]


def test_where_nothing_helps_the_nearest_is_named():
    found = changes(experiment(full_finetuning=True), 0.5)
    assert len(found) == 1
    assert not found[0][1]


def test_a_smaller_micro_batch_divides_the_same_global_batch():
    """Of 24 pairs on 2 GPUs: 6, 4, 3, 2 or 1 a device, never 5."""
    wanted = experiment({"global_batch_size": 24}, per_device_train_batch_size=6, max_seq_length=4096, dpo_path="plain")
    smaller = "--set hyperparameters.per_device_train_batch_size={} --set launch.global_batch_size=24"
    for gib, size in ((12, 4), (6, 2)):
        assert changes(wanted, gib, world=2)[0] == (smaller.format(size), True)


@pytest.mark.parametrize(
    ("gib", "world", "name"),
    [
        (24, 1, "ddp"),
        (24, 8, "ddp"),
        (12, 8, "zero1"),
        (4.5, 8, "zero2"),
        (3, 8, "zero3"),
        (4.6, 1, "zero2_offload"),
        (4.4, 1, "zero3_offload"),
        (0.5, 8, "zero3_offload"),
    ],
)
def test_the_simplest_way_that_fits_is_taken(gib: float, world: int, name: str):
    wanted = experiment({"global_batch_size": 16}, full_finetuning=True, max_seq_length=512)
    found, why = simplest_that_fits(wanted, CONFIG, longest=512, world=world, gpu_bytes=int(gib * GIB))
    assert (found, why.startswith(f"parallelism: {name}, ")) == (name, True)
    assert ("may still not fit" in why) is (gib == 0.5)


def test_an_adapter_gains_nothing_from_spreading_its_optimizer():
    wanted = experiment({"global_batch_size": 16})
    for gib in (24, 4, 1.5, 0.5):
        name, _ = simplest_that_fits(wanted, CONFIG, longest=1024, world=8, gpu_bytes=int(gib * GIB))
        assert name != "zero1"


def test_quantised_weights_are_never_cut_in_pieces():
    wanted = experiment({"global_batch_size": 16}, load_in_4bit=True)
    assert not simplest_that_fits(wanted, CONFIG, longest=1024, world=8, gpu_bytes=GIB)[0].startswith("zero3")
