"""How long rows are: as the free memory allows on a GPU, and what never depends on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment
from launcher.planning.rows import CONTEXT, GRAPHS, Passes, Rows, ceiling, choose_rows, idle_batch
from launcher.planning.sizes.activations import FROZEN_ROWS, TILE, frozen_rows
from launcher.planning.sizes.machine import Machine
from launcher.planning.sizes.model_config import ModelConfig
from launcher.planning.sizes.state import state
from launcher.planning.tokens.work import Work

GIB = 2**30
QWEN = Path(__file__).parents[3] / "configs/models/Qwen/Qwen3-0.6B/config.json"
CONFIG = ModelConfig.parse(json.loads(QWEN.read_text()))
# 400 pairs of prompt 200 and two answers of 200 tokens.
WORK = Work(pairs=400, tokens=320_000, packed=240_000, longest=400, longest_pair=600, exact=True, longest_pairs=(600,) * 8)


def experiment(launch: dict[str, Any] | None = None, **hyper: Any) -> Experiment:
    return Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": hyper, "launch": launch or {}})


def passes(machine: Machine | None = None, work: Work = WORK, launch: dict[str, Any] | None = None, **hyper: Any) -> Passes:
    return Passes(experiment(launch, **hyper), CONFIG, work, machine or Machine(), hyper.get("dpo_path") != "plain")


def rows(gib: float, *, recompute: bool | None = None, **others: Any) -> Rows:
    return choose_rows(passes(**others), ceiling(int(gib * GIB), 0.9), recompute)


def test_a_default_step_of_eight_pairs_is_one_row_on_a_card_of_24_gib():
    found = rows(24)
    assert (found.tokens, found.whole, found.recompute) == (8 * 600, True, False)
    assert found.sentence == "rows of up to 4,800 tokens, a whole step: about 8.0 of 15.8 GiB that are free"


def test_a_row_takes_four_fifths_of_what_the_state_leaves_free():
    found, free = rows(12), int(12 * GIB * 0.9) - CONTEXT
    stays = sum(part.size for part in state(experiment().hyperparameters, CONFIG, Machine())[0])
    assert found.room == int(0.8 * (free - stays))
    assert 600 < found.tokens < 8 * 600
    one = passes()
    assert one.size(found.tokens, False) <= found.room < one.size(found.tokens + 1, False)
    assert not found.whole


def test_a_row_holds_the_longest_pair_even_where_nothing_fits():
    found = rows(1.5)
    assert (found.tokens, found.recompute) == (600, True)
    assert choose_rows(passes(), None).tokens == 600, "an unknown memory"


def test_the_share_of_a_step_is_that_of_its_longest_pairs():
    uneven = replace(WORK, longest_pairs=(600, 500, 400, 300, 200, 100, 100, 100))
    assert rows(80, work=uneven).tokens == 2300
    assert rows(80, work=uneven, machine=Machine(4)).tokens == 1100, "two of the eight on each of four GPUs"
    assert rows(80, work=replace(uneven, longest_pairs=(600, 500))).tokens == 600 + 7 * 500, (
        "a bound for those that are not known"
    )
    assert rows(80, work=replace(WORK, pairs=3)).tokens == 1800, "a step holds no more pairs than the data"


def test_gradient_checkpointing_is_never_turned_on_to_make_rows_longer():
    short = rows(6)
    assert not short.recompute
    assert short.tokens < 8 * 600 == rows(6, recompute=True).tokens
    assert short.checkpointing.startswith("gradient checkpointing off: without it the longest pair needs about ")


def test_gradient_checkpointing_is_on_where_the_longest_pair_does_not_fit_without():
    found = rows(3.5)
    assert found.recompute
    assert found.needed > (found.room or 0) >= found.adds
    assert found.tokens == 8 * 600, "and then memory holds a whole step"
    assert not rows(3.5, use_gradient_checkpointing=False).recompute


def test_micro_batches_decide_on_a_cpu_under_zero_and_on_the_plain_path():
    """Under ZeRO a rank that runs out of memory alone cannot halve its rows."""
    for batch in (1, 2, 3):
        hyper = {"per_device_train_batch_size": batch, "launch": {"global_batch_size": 24}}
        assert rows(80, **hyper).tokens == 24 * 600
        assert rows(80, machine=Machine(2, "zero2"), **hyper).tokens == batch * 600
        assert rows(80, dpo_path="plain", **hyper).tokens == batch * 2 * 400
    zero = rows(8, machine=Machine(2, "zero2"), per_device_train_batch_size=8, launch={"global_batch_size": 16})
    assert (zero.tokens, zero.recompute) == (8 * 600, True), "the micro-batch does not fit without, though the longest pair does"
    assert choose_rows(passes(Machine(cuda=False)), None).tokens == 600
    small = Work(pairs=100, tokens=10_000, packed=8_000, longest=100, longest_pair=120)
    assert choose_rows(passes(Machine(cuda=False), small), None).tokens == 2 * 120
    assert choose_rows(passes(Machine(cuda=False), small, per_device_train_batch_size=8), None).tokens == 512


@pytest.mark.parametrize(
    ("batch", "total", "is_idle"), [(4, 16, True), (2, 16, False), (4, None, False)], ids=["set", "default", "a factor"]
)
def test_a_micro_batch_that_changes_nothing_is_said(batch: int, total: int | None, is_idle: bool):
    said = idle_batch(experiment({"global_batch_size": total} if total else {}, per_device_train_batch_size=batch))
    sentence = "per_device_train_batch_size has no effect on the fast path on a GPU: a row is as long as the free memory allows"
    assert said == (sentence if is_idle else None)


def test_cuda_graphs_keep_the_memory_of_their_rows_and_evaluations_need_theirs_beside_it():
    plain, graphed = (passes(compile=how) for how in ("layers", "graphs"))
    parts = {part.name: part.size for part in graphed.parts(2400, False)}
    peak = max(parts.get(name, 0) for name in ("logits", "backward"))
    assert graphed.size(2400, False) - plain.size(2400, False) == parts["graphs"] == GRAPHS + peak
    assert graphed.size(2400, True) == plain.size(2400, True), "not with gradient checkpointing"
    for other in ({"load_in_4bit": True}, {"machine": Machine(2, "zero2")}, {"machine": Machine(cuda=False)}):
        assert "graphs" not in {part.name for part in passes(compile="graphs", **other).parts(2400, False)}, other
    assert rows(24, compile="graphs").tokens < rows(24).tokens or rows(24).whole


@pytest.mark.parametrize("words", [32_000, 128_256, 151_936, 262_144])
@pytest.mark.parametrize("places", [1, 100, 1_700, 4_096, 20_000])
def test_a_head_that_is_not_trained_holds_no_more_logits_than_trls(words: int, places: int):
    rows = frozen_rows(places, words, cuda=True)
    assert 1 <= rows <= places
    assert rows * words <= max(min(places, TILE[0]) * TILE[1], FROZEN_ROWS * words)
    assert frozen_rows(places, words, cuda=False) == min(places, max(128, 2**22 // words)), "they stay in a CPU's caches"
