"""Uses: memory and time of each use of trained weights, by the sizes of the model and the speed of the GPU. Pure.

The least time is what the GPU's memory or its matrix products allow, the most adds what Python and the start of kernels take.
No GPU has measured either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..estimate import PYTHON, UTILISATION
from ..rows import CONTEXT, is_packed, rows_by_pairs
from ..sizes import flops
from ..sizes.activations import head_bytes
from ..sizes.machine import numbers_of
from ..sizes.state import Part
from ..tokens.work import Work
from .held import Held
from .use import Use

READ: Final = 2048  # tokens of a conversation that chat is planned for
BYTES: Final = 4  # of a token, about
ON_CPU: Final = 8  # prompts that are answered together: more take no less time a prompt there
MOST: Final = 64  # on a GPU
UNKNOWN: Final = 8  # on a GPU of unknown memory, or for a model that does not tell its sizes
SHARE: Final = 0.6  # of the free GPU memory, for the keys and values of a batch
_REACHED: Final = 0.5  # of a GPU's bandwidth, at least
_LAYER: Final = 1e-3  # seconds of a layer's forward pass in Python and in the start of its kernels, at most
_DISK: Final = (2e9, 2e8)  # bytes a second


@dataclass(frozen=True)
class Prompts:
    """``count`` prompts of ``tokens`` tokens in all; ``longest``: of one."""

    count: int
    tokens: int
    longest: int

    @classmethod
    def of(cls, lengths: list[int]) -> Prompts:
        """By the bytes of each."""
        return cls(len(lengths), sum(lengths) // BYTES, max(lengths, default=0) // BYTES)


def chat(held: Held, max_tokens: int, sides: int) -> Use:
    """A conversation of READ tokens and an answer, on each of ``sides`` models."""
    one = Prompts(1, READ, READ)
    seconds = _generation(held, one, max_tokens, 1)
    work = f"an answer of {max_tokens:,} tokens" + (" by each model" if sides > 1 else "")
    return _use(held, "chat", _generating(held, one, max_tokens, 1), work, seconds)


def generate(held: Held, prompts: Prompts, max_tokens: int, sides: int) -> Use:
    """Answers of at most ``max_tokens`` tokens to ``prompts`` by each of ``sides`` models, one after the other."""
    batch = _batch(held, prompts, max_tokens)
    seconds = _generation(held, prompts, max_tokens, batch)
    seconds = None if seconds is None else (seconds[0] * sides, seconds[1] * sides)
    count = f"{prompts.count:,} prompt{'' if prompts.count == 1 else 's'}"
    work = f"{count}, if all answers have {max_tokens:,} tokens; {batch:,} at once"
    return _use(held, "generate", _generating(held, prompts, max_tokens, batch), work, seconds)


def score(held: Held, work: Work) -> Use:
    """The log-probabilities of the answers in ``work`` (``held_out`` counts nothing), by the weights and by their reference."""
    h, config, machine = held.h, held.config, held.machine
    packed = is_packed(h)
    row = rows_by_pairs(work.longest_pair, h.per_device_train_batch_size, short=not machine.cuda)
    if not packed:
        row = 2 * h.per_device_train_batch_size * work.longest
    tokens = work.packed if packed else work.tokens
    row = min(row, max(1, tokens))
    numbers = numbers_of(h, machine)
    frozen = packed and held.adapters > 0  # whole weights are loaded as they are trained, and keep TRL's head
    logits = head_bytes(config, row, numbers, cuda=machine.cuda, trained=False, frozen=frozen)
    parts = (
        Part("weights", held.masters, ""),
        Part(f"{row:,} tokens", _forward_bytes(held, row) + logits, ""),
        held.runtime,
    )
    seconds = None
    if machine.cuda and machine.gpu is not None and machine.gpu.flops:
        count = 2 * sum(flops.forward(config, work, packed)) + 2.0 * held.matrices * tokens
        busy, passes = count / (machine.gpu.flops * UTILISATION), 2 * -(-tokens // row)
        seconds = (busy / (1 if work.exact else BYTES), busy + passes * config.layers * _LAYER)
    bound = "" if work.exact else f", 1 to {BYTES} bytes per token"
    pairs = f"{work.pairs:,} pair{'' if work.pairs == 1 else 's'}"
    return _use(held, "score", parts, f"{pairs} under the weights and the reference{bound}", seconds)


def merge(held: Held, size: int | None, *, compare: bool) -> Use:
    """The files of base and adapter as one model. ``size``: bytes of a written weight, None: 16 bits; ``compare``: with both."""
    config, written = held.config, held.config.parameters * (size or 2)
    seconds = tuple((held.stored + written) / speed for speed in _DISK)
    work = f"reads {_gb(held.stored)}, writes {_gb(written)} at 0.2 to 2 GB/s"
    if not compare:
        # One tensor at a time: a table as it is stored, or a module's weight with its change in fp32.
        largest = max(one.inputs * one.outputs for one in config.linears)
        parts = (
            Part("tensors", max(held.stored * config.embedding // config.parameters, 12 * largest), ""),
            Part("runtime", PYTHON, ""),
        )
        return Use("merge", parts, held.main, "the CPU", work, (seconds[0], seconds[1]))
    name, needed, on_gpu = _comparison(held)
    parts = Part(f"comparison in {name}", needed, ""), Part("runtime", CONTEXT if on_gpu else PYTHON, "")
    there, device = (held.there, held.device) if on_gpu else (held.main, "the CPU")
    hint = "merge without comparing: --no-compare"
    return Use("merge", parts, there, device, f"{work}, plus the comparison", (seconds[0], seconds[1]), hint=hint)


def _comparison(held: Held) -> tuple[str, int, bool]:
    """(precision, bytes, whether on the GPU): the first that a quarter more than the weights fits into, as the trainer does."""
    rooms = [*([(held.there, True)] if held.machine.cuda else []), (held.main, False)]
    for name, size in (("fp32", 4), ("16 bits", 2)):
        needed = held.config.parameters * size * 5 // 4
        for there, on_gpu in rooms:
            if there is None or needed <= there:
                return name, needed, on_gpu
    return name, needed, False


def _use(held: Held, name: str, parts: tuple[Part, ...], work: str, seconds: tuple[float, float] | None) -> Use:
    why = ": the GPU's speed is unknown" if held.machine.cuda else " on a CPU"
    return Use(name, parts, held.there, held.device, work, seconds, why)


def _generating(held: Held, prompts: Prompts, max_tokens: int, batch: int) -> tuple[Part, ...]:
    tokens = batch * (prompts.longest + max_tokens)
    return Part("weights", held.weights, ""), Part(f"{tokens:,} tokens", held.cache * tokens, ""), held.runtime


def _batch(held: Held, prompts: Prompts, max_tokens: int) -> int:
    """How many prompts are answered together, as the trainer does by the memory that is free then."""
    if not held.machine.cuda:
        return min(ON_CPU, prompts.count)
    if held.there is None:
        return min(UNKNOWN, prompts.count)
    free = held.there - held.weights - held.runtime.size
    return max(1, min(MOST, prompts.count, int(free * SHARE / (held.cache * (prompts.longest + max_tokens)))))


def _generation(held: Held, prompts: Prompts, max_tokens: int, batch: int) -> tuple[float, float] | None:
    """Each token of a batch reads the weights once, and the keys and values so far (half of the answer, on average)."""
    gpu, config = held.machine.gpu, held.config
    if not held.machine.cuda or gpu is None or gpu.bandwidth is None or gpu.flops is None:
        return None
    steps = -(-prompts.count // batch) * max_tokens
    used = (
        held.weights
        * (config.active_weights + config.embedding)
        / (config.linear_weights + config.expert_weights + config.embedding)
    )
    kept = held.cache * (prompts.tokens + prompts.count * max_tokens / 2) * max_tokens
    reading = 2.0 * config.active_weights * prompts.tokens / (gpu.flops * UTILISATION)
    least = reading + (steps * used + kept) / gpu.bandwidth
    most = reading + (steps * held.weights + kept) / (_REACHED * gpu.bandwidth) + steps * config.layers * _LAYER
    return least, most


def _forward_bytes(held: Held, tokens: int) -> int:
    """Bytes of a layer's forward pass whose activations nobody keeps: of its MLP or its attention, and of the residual stream."""
    config, numbers = held.config, numbers_of(held.h, held.machine)
    inner = max(config.inner, config.experts_per_token * config.expert_inner + config.shared_inner)
    widest = max(3 * inner, 2 * (config.queries + config.keys))
    return tokens * (widest * numbers.compute + 2 * config.hidden * numbers.stream)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2g} GB" if size >= 1e8 else f"{size / 1e6:.2g} MB"
