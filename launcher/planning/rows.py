"""Rows: how many tokens a forward pass holds, and whether activations are kept or recomputed. Pure.

``launcher plan`` and the trainer decide this here with the same numbers, so the plan says what the run will do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from ..experiment.other_tools.trl_fields import why_not_fast
from ..experiment.schema import Experiment
from ..experiment.sections.hyperparameters import Hyperparameters
from .sizes.activations import (
    Attends,
    Numbers,
    Trains,
    cast_bytes,
    frozen_rows,
    head_bytes,
    kept_bytes,
    rebuilt_bytes,
    working_bytes,
)
from .sizes.adapter import trained
from .sizes.machine import Machine, numbers_of
from .sizes.model_config import ModelConfig
from .sizes.state import Part, state, update_bytes
from .tokens.work import Work

SHARE: Final = 0.8  # share of the memory beside the state; the rest is for fragmentation and the kernels' buffers
CONTEXT: Final = 600 << 20  # bytes: CUDA context, workspaces of its libraries, compiled kernels
GRAPHS: Final = 256 << 20  # bytes for the kernels of all recorded rows; a guess, not measured on a GPU
CPU_ROW: Final = 512  # tokens; longer rows exceed the caches, and were slower on two cores


@dataclass(frozen=True)
class Rows:
    """Forward and backward passes of one rank. ``room`` and ``needed`` in bytes; None if the GPU's memory is unknown.

    ``tokens``: of the longest pass. ``whole``: one pass holds the whole step. ``recompute``: gradient checkpointing is on.
    ``needed``: for the smallest possible pass without gradient checkpointing.
    """

    tokens: int
    whole: bool
    recompute: bool
    packed: bool
    by_memory: bool  # not by ``per_device_train_batch_size``
    adds: int  # bytes of the longest pass
    needed: int
    room: int | None

    @property
    def checkpointing(self) -> str:
        """Why gradient checkpointing is on or off."""
        what = "the longest pair" if self.by_memory else "a micro-batch"
        room = f"{_gib(self.room or 0)} GiB are free"
        return f"gradient checkpointing {_on(self.recompute)}: without it {what} needs about {_gib(self.needed)} GiB, {room}"

    @property
    def sentence(self) -> str:
        """Length of the rows, and how much of the free memory they use."""
        whole = ", a whole step" if self.whole else ""
        return f"rows of up to {self.tokens:,} tokens{whole}: about {_gib(self.adds)} of {_gib(self.room or 0)} GiB that are free"


def ceiling(memory: int, gpu_memory_utilization: float) -> int:
    """Bytes that a run may allocate on a GPU with ``memory`` bytes."""
    return int(memory * gpu_memory_utilization) - CONTEXT


def is_packed(h: Hyperparameters) -> bool:
    """Whether the trainer packs rows without padding, as far as known without the model."""
    needs_plain = why_not_fast({**h.trl, "optim": h.optim, "loss_type": h.loss_type}) is not None
    is_masked = h.attn_implementation in (None, "sdpa", "flex_attention")
    return h.dpo_path != "plain" and not needs_plain and is_masked


def is_by_memory(machine: Machine, *, packed: bool) -> bool:
    """Whether free memory determines the row length instead of ``per_device_train_batch_size``.

    Not under ZeRO: a rank that runs out of memory cannot halve its rows alone, because all ranks synchronise in each pass.
    """
    return packed and machine.cuda and not machine.stage


def idle_batch(experiment: Experiment) -> str | None:
    """A notice if rows are determined by memory, so that a given ``per_device_train_batch_size`` has no effect."""
    h, name = experiment.hyperparameters, "per_device_train_batch_size"
    is_set = getattr(h, name) != type(h).model_fields[name].default
    if not is_set or experiment.launch.global_batch_size is None:  # otherwise it is a factor of the global batch
        return None
    return f"{name} has no effect on the fast path on a GPU: a row is as long as the free memory allows"


def rows_by_pairs(longest_pair: int, per_device: int, *, short: bool) -> int:
    """Tokens of a row with at most ``per_device`` pairs. ``short``: for attention that long rows slow down."""
    room = per_device * longest_pair
    return max(longest_pair, min(CPU_ROW, room)) if short else room


def choose_rows(passes: Passes, free: int | None, recompute: bool | None = None) -> Rows:
    """The rows of a rank that may allocate ``free`` bytes before anything is on its GPU. None: unknown, or no GPU.

    ``recompute``: gradient checkpointing; None: as in the experiment. ``auto`` enables it only if the smallest pass does not
    fit without it, never to make rows longer, and never on the CPU.
    """
    stays = sum(part.size for part in state(passes.h, passes.config, passes.machine)[0])
    room = None if free is None else max(0, int(SHARE * (free - stays)))
    needed = passes.size(passes.least, False)
    wanted = passes.h.use_gradient_checkpointing if recompute is None else recompute
    on = (room is not None and needed > room) if wanted == "auto" else bool(wanted)
    row = passes.row(room, on)
    by_memory = is_by_memory(passes.machine, packed=passes.packed)
    return Rows(row, row >= passes.share, on, passes.packed, by_memory, passes.size(row, on), needed, room)


@dataclass(frozen=True)
class Passes:
    """The passes of one rank in a step. ``packed``: without padding, and with every prompt only once."""

    experiment: Experiment
    config: ModelConfig
    work: Work
    machine: Machine
    packed: bool

    @property
    def h(self) -> Hyperparameters:
        return self.experiment.hyperparameters

    @property
    def share(self) -> int:
        """Largest share of a step on one rank, in tokens."""
        pairs = -(-self.experiment.global_batch // self.machine.world)
        return self.work.longest_together(pairs) if self.packed else self.work.sequences * pairs * self.work.longest

    @property
    def least(self) -> int:
        """Tokens of the smallest possible pass: the longest pair, also in TRL's form for the comparison."""
        as_trl = self.work.sequences * self.work.longest
        return as_trl if is_by_memory(self.machine, packed=self.packed) else max(as_trl, self._by_pairs)

    def row(self, room: int | None, recompute: bool) -> int:
        """Tokens of the longest pass in ``room`` bytes: at least the longest pair, at most the share of a step."""
        if not is_by_memory(self.machine, packed=self.packed):
            return self._by_pairs
        longest = self.work.longest_pair
        if room is None or self.share <= longest:
            return longest
        if self.size(self.share, recompute) <= room:
            return self.share
        fits, beyond = longest, self.share
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            fits, beyond = (middle, beyond) if self.size(middle, recompute) <= room else (fits, middle)
        return fits

    @property
    def _by_pairs(self) -> int:
        """Tokens of the longest pass with ``per_device_train_batch_size`` pairs."""
        per_device = self.h.per_device_train_batch_size
        if not self.packed:
            return self.work.sequences * per_device * self.work.longest
        return min(self.share, rows_by_pairs(self.work.longest_pair, per_device, short=not self.machine.cuda))

    def size(self, row: int, recompute: bool) -> int:
        """Peak bytes that a pass of ``row`` tokens, or the update after it, adds."""
        return sum(part.size for part in self.parts(row, recompute))

    def parts(self, row: int, recompute: bool) -> list[Part]:
        """What a pass of ``row`` tokens holds at its peak, or the update after it if that is more."""
        config, numbers, trains = self.config, numbers_of(self.h, self.machine), self._trains
        read = self._places(row) if self._attends.segments else None
        kept = kept_bytes(config, row, numbers, trains, self._attends, recompute=recompute, read=read)
        if recompute and not trains.full:
            kept += cast_bytes(config, numbers, trains)  # made once per step, see trainer.step.forward.halves
        form = "packed" if self.packed else "padded"
        how = "gradient checkpointing" if recompute else "no gradient checkpointing"
        parts = [Part("activations", kept, f"{row:,} tokens in a {form} pass, {how}")]
        parts.append(max(self._moments(row, recompute, numbers, trains), key=lambda part: part.size))
        freed = parts  # by the time of the update
        if self._is_replayed(recompute=recompute):
            why = "CUDA graphs: their rows keep their memory, and evaluations need more beside it"
            parts.append(Part("graphs", GRAPHS + parts[-1].size, why))
            freed = parts[-1:]
        beyond = self._update - sum(part.size for part in freed)
        if beyond > 0:
            parts.append(Part("update", beyond, "temporary copies of the optimizer, beyond the activations (freed by then)"))
        return parts

    def _places(self, row: int) -> int:
        """Tokens of a pass whose logits are computed."""
        return row if not self.packed else -(-row * self.work.answers // max(1, self.work.packed))

    @cached_property
    def _trains(self) -> Trains:
        return trained(self.h, self.config)

    @cached_property
    def _update(self) -> int:
        return update_bytes(self.h, self.config, self.machine)

    def _moments(self, row: int, recompute: bool, numbers: Numbers, trains: Trains) -> Iterator[Part]:
        """What is added to the kept activations at each moment that may be the peak."""
        config, cuda = self.config, self.machine.cuda
        places = self._places(row)
        # A gradient from one pass alone needs no second one to add it to.
        trains_head = (trains.full or trains.head) and row < self.share
        is_frozen = self.packed and trains.frozen_head
        logits = head_bytes(config, places, numbers, cuda=cuda, trained=trains_head, frozen=is_frozen)
        chunks = (
            f"in chunks of {frozen_rows(places, config.vocab, cuda=cuda):,}" if is_frozen else "vocabulary in chunks of 32,768"
        )
        yield Part("logits", logits, f"{places:,} answer tokens, {chunks}")
        layer = working_bytes(config, row, numbers, trains, self._attends, recompute=recompute)
        yield Part("backward", layer, "gradients of one layer (larger than the logits, which are freed by then)")
        if rebuilt := rebuilt_bytes(numbers, trains):
            yield Part("DoRA", rebuilt, "the weight of one module with its adapter, for the lengths of its rows")
        if recompute and trains.full and (casts := cast_bytes(config, numbers, trains)):
            casts += head_bytes(config, places, numbers, cuda=cuda, trained=False)
            yield Part("forward", casts, "16-bit copies of the weights, and the logits; the backward pass begins without them")

    def _is_replayed(self, *, recompute: bool) -> bool:
        """Whether rows become CUDA graphs, see ``trainer.step.choosing.replayed``."""
        is_whole = not (self.h.load_in_4bit or self.h.load_in_8bit)
        wanted = self.h.compile == "graphs" and is_whole and not recompute
        return wanted and is_by_memory(self.machine, packed=self.packed)

    @property
    def _attends(self) -> Attends:
        work = self.work
        if not self.packed:
            scores = work.longest if self.h.attn_implementation == "eager" else 0
            return Attends(masked=work.longest, scores=scores)
        return Attends(segments=not self.machine.cuda)


def _on(wanted: bool) -> str:
    return "on" if wanted else "off"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
