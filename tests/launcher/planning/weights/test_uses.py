"""Memory and time of each use of trained weights, by hand for a model of known sizes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from launcher.errors import MemoryShortage
from launcher.experiment.schema import Experiment
from launcher.planning.machines.gpus import Gpu
from launcher.planning.sizes.machine import Machine
from launcher.planning.sizes.model_config import ModelConfig
from launcher.planning.sizes.state import Part
from launcher.planning.tokens.work import Work
from launcher.planning.weights import uses
from launcher.planning.weights.held import Held
from launcher.planning.weights.use import Use, span

# Two layers: q 64x64, k and v 64x32, o 64x64, gate and up 64x128, down 128x64; a table of 1,000 words, tied.
CONFIG = ModelConfig("llama", hidden=64, inner=128, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=1000, tied=True)
LAYERS = 2 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128)
TABLE = 1000 * 64
NORMS = 2 * 2 * 64 + 64
PARAMETERS = LAYERS + TABLE + NORMS
# Rank 2 on all seven modules of both layers.
MATRICES = 2 * 2 * (128 + 2 * 96 + 128 + 3 * 192)
CARD = Gpu("card", 4 << 30, flops=1e12, bandwidth=1e9)
CONTEXT, PYTHON = 600 << 20, 900 << 20


def held(gpu: Gpu | None = None, *, full: bool = False, adapters: int = 1, main: int | None = 8 << 30) -> Held:
    settings = {"r": 2, "full_finetuning": full, "gpu_memory_utilization": 0.5}
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": settings})
    found = Held(experiment, CONFIG, Machine(cuda=False), main, main, 0 if full else adapters, 2 * PARAMETERS)
    return found if gpu is None else found.on(gpu)


def sizes(use: Use) -> dict[str, int]:
    return {part.name: part.size for part in use.parts}


def test_the_shapes_are_those_of_the_model():
    assert (CONFIG.parameters, CONFIG.linear_weights, CONFIG.embedding) == (PARAMETERS, LAYERS, TABLE)


def test_a_conversation_keeps_weights_adapter_and_the_keys_and_values_of_its_tokens():
    found = uses.chat(held(), 512, 2)
    assert sizes(found) == {
        "weights": 4 * PARAMETERS + 4 * MATRICES,
        "2,560 tokens": 2 * 2 * 2 * 16 * 4 * 2560,
        "runtime": PYTHON,
    }
    assert (found.there, found.device, found.fits) == (8 << 30, "the CPU", True)
    assert found.time == "no time estimate on a CPU (an answer of 512 tokens by each model)"
    with_start = uses.chat(held(adapters=2), 512, 1)
    assert sizes(with_start)["weights"] == 4 * PARAMETERS + 8 * MATRICES, "the adapter that the run started from, too"


def test_on_a_gpu_each_token_of_a_batch_reads_the_weights_and_the_keys_and_values_so_far():
    found = uses.generate(held(CARD), uses.Prompts(100, 100 * 20, 30), 10, 2)
    weights, cache = 2 * PARAMETERS + 4 * MATRICES, 2 * 2 * 2 * 16 * 2
    assert sizes(found) == {"weights": weights, "2,560 tokens": cache * 64 * (30 + 10), "runtime": CONTEXT}
    assert found.there == 2 << 30, "what gpu_memory_utilization allows"
    reading = 2 * LAYERS * 2000 / 0.4e12
    kept = cache * (20 + 5) * 100 * 10
    steps = 2 * 10  # two batches: 64 and 36 prompts
    assert found.seconds is not None
    least, most = found.seconds
    assert least == pytest.approx(2 * (reading + (steps * weights + kept) / 1e9)), "for both models"
    assert most == pytest.approx(2 * (reading + (steps * weights + kept) / 0.5e9 + steps * 2 * 1e-3))
    assert found.work == "100 prompts, if all answers have 10 tokens; 64 at once"


def test_a_batch_is_as_large_as_the_free_memory_allows():
    free = 20 * (2 * 2 * 2 * 16 * 2) * 40  # keys and values of 20 prompts
    tight = held(replace(CARD, memory=2 * (CONTEXT + 2 * PARAMETERS + 4 * MATRICES + free) + 2))
    assert "; 12 at once" in uses.generate(tight, uses.Prompts(100, 2000, 30), 10, 1).work, "in 0.6 of it"
    assert "; 8 at once" in uses.generate(held(), uses.Prompts(100, 2000, 30), 10, 1).work
    assert "1 prompt, if all answers have 10 tokens; 1 at once" in uses.generate(held(), uses.Prompts(1, 20, 20), 10, 1).work


def test_a_gpu_of_unknown_speed_has_memory_and_no_time():
    found = uses.generate(held(replace(CARD, flops=None, bandwidth=None)), uses.Prompts(2, 4, 2), 10, 1)
    assert found.time == "no time estimate: the GPU's speed is unknown (2 prompts, if all answers have 10 tokens; 2 at once)"
    assert found.fits is True


def test_of_many_experts_one_token_reads_few_at_the_least_and_all_at_the_most():
    sparse = replace(CONFIG, experts=8, experts_per_token=2, expert_inner=128, sparse_layers=2, family="qwen3_moe")
    here = replace(held(CARD), config=sparse)
    least, most = uses.generate(here, uses.Prompts(1, 0, 0), 1, 1).seconds or (0, 0)
    assert sparse.active_weights < sparse.linear_weights + sparse.expert_weights
    assert least < 0.8 * here.weights / 1e9
    assert most > here.weights / 0.5e9


def test_scores_are_two_forward_passes_over_all_tokens():
    work = Work(100, tokens=6000, packed=4000, longest=40, longest_pair=60)
    found = uses.score(held(CARD), work)
    row = 2 * 60  # per_device_train_batch_size pairs
    answers = 2 * 4000 - 6000
    attention = 2 * 2 * 64 * (6000 / 200) * 6000
    passes = 2 * (2 * LAYERS * 4000 + 2 * TABLE * answers + attention) + 2 * MATRICES * 4000
    assert found.seconds is not None
    least, most = found.seconds
    assert least == pytest.approx(passes / 0.4e12 / 4), "a token may have four bytes"
    assert most == pytest.approx(passes / 0.4e12 + 2 * 34 * 2 * 1e-3), "34 rows, and two models"
    assert sizes(found)["weights"] == 2 * PARAMETERS + 4 * MATRICES
    assert sizes(found)[f"{row} tokens"] > row * (3 * 128 * 2 + 2 * 64 * 2)
    assert found.work == "100 pairs under the weights and the reference, 1 to 4 bytes per token"
    exact = uses.score(held(CARD), replace(work, exact=True))
    assert exact.seconds is not None
    assert exact.seconds[0] == pytest.approx(4 * least)


def test_the_head_of_an_adapter_is_scored_in_tiles_of_its_own_and_that_of_whole_weights_in_trls():
    work = Work(100, tokens=6000, packed=4000, longest=40, longest_pair=60)
    row = 2 * 60
    outside = row * (3 * 128 * 2 + 2 * 64 * 2) + row * 64 * (4 + 2)  # a layer, and what the head is given and may give back
    assert sizes(uses.score(held(CARD), work))[f"{row} tokens"] == outside + row * 1000 * 2
    whole = sizes(uses.score(held(CARD, full=True), work))[f"{row} tokens"]
    assert whole > outside + row * 32768 * 2


def test_whole_weights_are_scored_with_their_reference_beside_them():
    work = Work(100, tokens=6000, packed=4000, longest=40, longest_pair=60)
    assert sizes(uses.score(held(full=True), work))["weights"] == 2 * 4 * PARAMETERS
    assert sizes(uses.chat(held(full=True), 10, 1))["weights"] == 4 * PARAMETERS


def test_a_merge_reads_and_writes_every_weight_and_its_comparison_loads_the_model():
    found = uses.merge(held(), None, compare=False)
    moved = 2 * PARAMETERS + 2 * PARAMETERS
    assert found.seconds == (pytest.approx(moved / 2e9), pytest.approx(moved / 2e8))
    assert sizes(found) == {"tensors": max(2 * TABLE, 12 * 64 * 128), "runtime": PYTHON}
    wide = uses.merge(held(), 4, compare=True)
    assert wide.seconds == (pytest.approx(6 * PARAMETERS / 2e9), pytest.approx(6 * PARAMETERS / 2e8))
    assert sizes(wide) == {"comparison in fp32": 5 * PARAMETERS, "runtime": PYTHON}
    assert wide.time.endswith(" at 0.2 to 2 GB/s, plus the comparison")


def test_the_comparison_takes_the_first_precision_and_device_that_it_fits_into():
    needed = 5 * PARAMETERS
    assert uses.merge(held(CARD), None, compare=True).device == "card"
    on_main = uses.merge(held(replace(CARD, memory=needed)), None, compare=True)
    assert (on_main.device, sizes(on_main)["comparison in fp32"]) == ("the CPU", needed)
    halved = uses.merge(held(main=needed - 1), None, compare=True)
    assert sizes(halved)["comparison in 16 bits"] == PARAMETERS * 2 * 5 // 4


def test_what_cannot_fit_is_refused_with_what_would_help():
    small = uses.merge(held(main=1000), None, compare=True)
    assert small.fits is False
    with pytest.raises(MemoryShortage, match=r"^not enough memory: 0\.88 GiB \(comparison in 16 bits .*\n.*hint: .*--no-compare"):
        small.check()
    with pytest.raises(MemoryShortage, match=re.escape("runtime 0.0 MiB) of 0.0 MiB on the CPU") + "$"):
        Use("chat", (Part("runtime", 3, ""),), 2, "the CPU", "w", None).check()
    Use("chat", (Part("runtime", 3, ""),), None, "the CPU", "w", None).check()
    Use("chat", (Part("runtime", 3, ""),), 3, "the CPU", "w", None).check()


@pytest.mark.parametrize(("times", "said"), [((0.1, 0.9), "about 1 s"), ((12, 65), "12 s to 1 min 5 s")])
def test_a_time_is_a_range(times: tuple[float, float], said: str):
    assert span(*times) == said
