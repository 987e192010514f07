"""Estimate: memory, work and time of a run, from the model's sizes and the data's, without torch and without weights. Pure.

Memory is that of one rank at the highest point of a step. It follows what the trainer does: the dtypes of
``trainer.inputs.model``, the rows of ``trainer.step.packed``, TRL's fused head, the optimizer's states, ZeRO's divisions
(Rajbhandari et al., arXiv 1910.02054).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..experiment.hyperparameters import Hyperparameters
from ..experiment.schema import Experiment
from .activations import Numbers, head_bytes, kept_bytes, working_bytes
from .gpus import Gpu
from .model_config import ModelConfig

UTILISATION: Final = 0.4  # of a GPU's dense 16-bit speed, which a well-filled training step reaches
CONTEXT: Final = 600 << 20  # bytes: CUDA's own, its libraries' workspaces, compiled kernels
GAPS: Final = 0.05  # of what comes and goes in a step: blocks that the allocator cannot fill
PYTHON: Final = 900 << 20  # bytes: the interpreter with torch and transformers, where all of it is main memory
CPU_ROW: Final = 512  # tokens: trainer.step.packed.CPU_ROW
NF4: Final = 0.5 + 1 / 64 + 4 / 64 / 256  # bytes a weight: 4 bits, a block's scale in 8, a block of scales' in 32
PARALLELISMS: Final = ("ddp", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
# Bytes of an optimizer's state for a weight in fp32; the paged ones move theirs to main memory only when it is short.
_STATES: Final[Mapping[str, float]] = {
    "adamw_torch": 8, "adamw_torch_fused": 8, "adamw_anyprecision": 8, "paged_adamw_32bit": 8, "schedule_free_adamw": 8,
    "stable_adamw": 8, "schedule_free_radam": 8, "grokadamw": 12, "ademamix": 12, "paged_ademamix_32bit": 12,
    "adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "adamw_torch_8bit": 2, "adamw_torch_4bit": 1,
    "ademamix_8bit": 3, "paged_ademamix_8bit": 3, "lion_32bit": 4, "paged_lion_32bit": 4, "lion_8bit": 1, "paged_lion_8bit": 1,
    "adagrad": 4, "rmsprop": 4, "rmsprop_bnb": 4, "rmsprop_bnb_32bit": 4, "rmsprop_bnb_8bit": 1,
    "sgd": 0, "schedule_free_sgd": 4, "adafactor": 0.01, "lomo": 0, "adalomo": 0.01,
}  # fmt: skip
_AWAY: Final = "in main memory"


@dataclass(frozen=True)
class Work:
    """The training pairs of one epoch. ``exact``: counted by the tokenizer, else bounds from above."""

    pairs: int
    tokens: int  # as the plain path counts: every prompt twice
    packed: int  # every prompt once
    longest: int  # of a prompt with one answer
    longest_pair: int  # of a prompt with both
    exact: bool = False

    @classmethod
    def at_most(cls, longest: int, pairs: int) -> Work:
        """Where nothing is known but the longest sequence: every pair is two of them, and has no prompt."""
        return cls(pairs, 2 * longest * pairs, 2 * longest * pairs, longest, 2 * longest)

    @property
    def answers(self) -> int:
        """Tokens that the loss is about."""
        return max(0, 2 * self.packed - self.tokens)


@dataclass(frozen=True)
class Part:
    """Something that takes ``size`` bytes, and why."""

    name: str
    size: int
    why: str


@dataclass(frozen=True)
class Estimate:
    """What one rank holds, and what all of them compute. ``seconds`` is None where the device's speed is not known."""

    parts: tuple[Part, ...]
    host: int  # bytes a rank has in main memory beside its GPU, because they were moved there
    recompute: bool  # activations are computed again in the backward pass
    row: int  # tokens of the largest forward pass
    steps: int
    tokens: int  # trained on in all epochs; a prompt counts as often as it is computed
    exact: bool
    flops: float
    seconds: float | None
    notes: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def tensors(self) -> int:
        """Without what the runtime adds: what torch calls allocated."""
        return sum(part.size for part in self.parts if part.name != "runtime")


@dataclass(frozen=True)
class Machine:
    """What a run is planned for: ``world`` ranks, on GPUs (``gpu`` where it is known which) or on the CPU."""

    world: int = 1
    parallelism: str = "ddp"
    cuda: bool = True
    gpu: Gpu | None = None

    @property
    def stage(self) -> int:
        """What is spread over the ranks: 0 nothing, 1 the optimizer's state, 2 also gradients, 3 also weights."""
        return int(self.parallelism[4]) if self.parallelism.startswith("zero") else 0

    @property
    def offloads(self) -> bool:
        return self.parallelism.endswith("_offload")

    @property
    def bf16(self) -> bool:
        return self.gpu is None or self.gpu.bf16


def estimate(
    experiment: Experiment, config: ModelConfig, work: Work, machine: Machine, *, recompute: bool | None = None
) -> Estimate:
    """``recompute``: whether activations are computed again; None: as the experiment says, and where it says ``auto`` only
    if it does not fit otherwise (on the CPU never, and not where the GPU's memory is not known).
    """
    wanted = experiment.hyperparameters.use_gradient_checkpointing if recompute is None else recompute
    if wanted != "auto":
        return _estimate(experiment, config, work, machine, bool(wanted))
    kept = _estimate(experiment, config, work, machine, False)
    memory = machine.gpu.memory if machine.cuda and machine.gpu else None
    if memory is None or fits(kept, memory, experiment.hyperparameters.gpu_memory_utilization):
        return kept
    return _estimate(experiment, config, work, machine, True)


def fits(found: Estimate, memory: int, gpu_memory_utilization: float) -> bool:
    """Whether a device of ``memory`` bytes has room below the experiment's ceiling."""
    return found.total <= memory * gpu_memory_utilization


def numbers_of(h: Hyperparameters, machine: Machine) -> Numbers:
    """Bytes of the numbers that the trainer computes with: ``inputs.model.choose_precision``, and DeepSpeed's 16-bit mode."""
    quantised = machine.cuda and (h.load_in_4bit or h.load_in_8bit)
    if (h.load_in_16bit is False and not quantised) or (not machine.cuda and h.load_in_16bit is None):
        return Numbers(4, 4)
    masters = h.full_finetuning and h.load_in_16bit is None and machine.cuda and not machine.stage
    return Numbers(4 if masters else 2, 2)


def is_packed(h: Hyperparameters, config: ModelConfig, work: Work) -> bool:
    """Whether the trainer will take rows without padding, as far as that can be known without the model."""
    plain = ("use_weighting", "sync_ref_model", "use_liger_kernel", "activation_offloading", "torch_compile")
    if h.dpo_path == "plain" or any(h.trl.get(name) for name in plain) or h.trl.get("ld_alpha") is not None:
        return False
    batched = {"bco_pair", "aot", "aot_unpaired", "sft"}
    window = config.window is not None and config.window < work.longest
    return h.trl.get("disable_dropout", True) is True and not batched & set(h.loss_type) and not window


def _estimate(experiment: Experiment, config: ModelConfig, work: Work, machine: Machine, recompute: bool) -> Estimate:
    h = experiment.hyperparameters
    packed = is_packed(h, config, work)
    share = -(-experiment.global_batch // machine.world)
    row = _row(h, work, share, packed, machine)
    rows = -(-share * (work.packed if packed else work.tokens) // max(1, work.pairs) // row)
    notes = list(_notes(h, config, packed))
    parts, host = _state(h, config, machine)
    come = _coming(h, config, work, machine, row, packed, recompute, is_alone=rows <= 1)
    update = _update(h, config, machine)
    held = sum(part.size for part in come)
    if update > held:
        come.append(Part("update", update - held, "the optimizer's own copies, beyond the activations, which are gone by then"))
        held = update
    runtime, why = (CONTEXT + int(GAPS * held), "CUDA's context and the allocator's gaps") if machine.cuda else _ON_CPU
    steps = experiment.steps(work.pairs, machine.world)
    passes = steps / max(1, -(-work.pairs // experiment.global_batch))  # an epoch's last step may be smaller
    flops = _flops(h, config, work, packed, recompute, passes)
    speed = machine.gpu.flops if machine.gpu is not None and machine.cuda else None
    return Estimate(
        parts=(*parts, *come, Part("runtime", runtime, why)),
        host=host,
        recompute=recompute,
        row=row,
        steps=steps,
        tokens=round(passes * (work.packed if packed else work.tokens)),
        exact=work.exact,
        flops=flops,
        seconds=flops / (speed * UTILISATION * machine.world) if speed else None,
        notes=tuple(notes),
    )


_ON_CPU: Final = (PYTHON, "Python with torch and transformers")


def _row(h: Hyperparameters, work: Work, share: int, packed: bool, machine: Machine) -> int:
    """Tokens of the largest forward pass: ``trainer.step.packed.row_budget``, or a padded micro-batch of pairs."""
    if not packed:
        return 2 * h.per_device_train_batch_size * work.longest
    room = h.per_device_train_batch_size * work.longest_pair
    budget = room if machine.cuda else max(work.longest_pair, min(CPU_ROW, room))
    return min(budget, max(work.longest_pair, -(-share * work.packed // max(1, work.pairs))))


def _state(h: Hyperparameters, config: ModelConfig, machine: Machine) -> tuple[list[Part], int]:
    """(what stays from step to step, what of it lies in main memory)."""
    numbers, trained = numbers_of(h, machine), trained_weights(h, config)
    sharing, stage = machine.world, machine.stage
    own = numbers.stream if h.full_finetuning or stage else 4  # an adapter's weights are fp32
    weights = _base_bytes(h, config, numbers, machine)
    away: list[int] = []

    def share(size: float, needed: int, *, moved: bool) -> int:
        mine = int(size / sharing) if stage >= needed else int(size)
        if moved:
            away.append(mine)
        return 0 if moved else mine

    parts = [Part("weights", share(weights, 3, moved=machine.offloads and stage == 3), _weights_why(h, numbers, machine))]
    if h.full_finetuning and moves_reference(h):
        parts.append(Part("reference", share(weights, 3, moved=False), "a second model: the reference moves, or looks at pairs"))
    if not h.full_finetuning:
        parts.append(Part("adapter", share(trained * own, 3, moved=False), f"{trained:,} weights, {own} bytes each"))
    buckets = stage == 0 and sharing > 1
    parts.append(
        Part(
            "gradients",
            share(trained * own * (2 if buckets else 1), 2, moved=False),
            f"{own} bytes a trained weight" + (", and as much in buckets for the other ranks" if buckets else ""),
        )
    )
    states = _STATES.get(h.optim, 8.0) * trained * (own / 4 if not stage else 1)
    if "8bit" in h.optim and not machine.cuda:
        states = 8 * trained  # trainer.inputs.arguments: adamw_torch
    copies = 8 * trained if stage else 0
    parts.append(
        Part(
            "optimizer",
            share(states + copies, 1, moved=machine.offloads),
            f"{h.optim}" + (", with ZeRO's copies of weights and gradients in fp32" if copies else ""),
        )
    )
    if stage == 3:
        together = (2 * config.largest_layer + config.embedding) * numbers.compute
        parts.append(Part("gathered", together, "two layers and the embedding, brought together where they are needed"))
    elif stage:
        parts.append(Part("buckets", int(min(2e8, trained)) * numbers.compute, "what the ranks send each other at once"))
    return parts, sum(away)


def _weights_why(h: Hyperparameters, numbers: Numbers, machine: Machine) -> str:
    how = "4-bit" if h.load_in_4bit else "8-bit" if h.load_in_8bit else {2: "16-bit", 4: "fp32"}[numbers.stream]
    if not machine.cuda:
        how = {2: "16-bit", 4: "fp32"}[numbers.stream]
    shared = f", spread over {machine.world}" if machine.stage == 3 and machine.world > 1 else ""
    return how + shared + (f", {_AWAY}" if machine.stage == 3 and machine.offloads else "")


def _base_bytes(h: Hyperparameters, config: ModelConfig, numbers: Numbers, machine: Machine) -> float:
    if not machine.cuda or not (h.load_in_4bit or h.load_in_8bit):
        return float(config.parameters * numbers.stream)
    quantised = config.linear_weights
    return quantised * (NF4 if h.load_in_4bit else 1.0) + (config.parameters - quantised) * numbers.stream


def trained_weights(h: Hyperparameters, config: ModelConfig) -> int:
    return config.parameters if h.full_finetuning else config.adapter_weights(h.r, h.target_modules)


def moves_reference(h: Hyperparameters) -> bool:
    """Whether the reference is computed in every step: else its numbers are computed once and cached."""
    return bool(h.trl.get("sync_ref_model")) or h.trl.get("ld_alpha") is not None


def _coming(
    h: Hyperparameters,
    config: ModelConfig,
    work: Work,
    machine: Machine,
    row: int,
    packed: bool,
    recompute: bool,
    *,
    is_alone: bool,
) -> list[Part]:
    """What a forward and backward pass of ``row`` tokens holds at its highest point; ``is_alone``: it is a step's only one."""
    numbers = numbers_of(h, machine)
    targets = None if h.full_finetuning else frozenset(linear.name for linear in config.targets(h.target_modules))
    masked = 0 if packed and machine.cuda else row if packed else work.longest
    kept = kept_bytes(config, row, numbers, targets=targets, r=h.r, masked=masked, recompute=recompute)
    places = row if not packed else -(-row * work.answers // max(1, work.packed))
    head = head_bytes(config, places, numbers, cuda=machine.cuda, trained=h.full_finetuning and not is_alone)
    layer = working_bytes(config, row, numbers, targets=targets, r=h.r, masked=masked, recompute=recompute)
    form = "packed" if packed else "padded"
    how = "a layer's input each, and one layer computed again" if recompute else "kept for the backward pass"
    parts = [Part("activations", kept, f"{row:,} tokens in a {form} pass, {how}")]
    if head >= layer:
        return [*parts, Part("logits", head, f"{places:,} places in tiles of 32,768 words")]
    return [*parts, Part("backward", layer, "one layer's gradients (more than the logits, which are gone by then)")]


def _update(h: Hyperparameters, config: ModelConfig, machine: Machine) -> int:
    """Bytes of the optimizer's temporary copies: of all trained weights on a GPU (foreach), of one tensor on the CPU."""
    trained = trained_weights(h, config)
    if machine.stage or h.optim.endswith("_fused") or ("bit" in h.optim and machine.cuda):
        return 0
    return 4 * trained if machine.cuda else 4 * min(trained, config.embedding if h.full_finetuning else trained // 10)


def _flops(h: Hyperparameters, config: ModelConfig, work: Work, packed: bool, recompute: bool, passes: float) -> float:
    """Additions and multiplications of ``passes`` epochs and of the reference's one.

    Forward is 2 a weight and token. Backward is 2 for the gradients of the inputs and, where weights are trained, 2 for theirs
    (Kaplan et al., arXiv 2001.08361, section 2.1). The head computes its tiles again in the backward pass.
    """
    tokens = work.packed if packed else work.tokens
    answers = work.answers
    full = h.full_finetuning
    body, head = 2.0 * config.active_weights * tokens, 2.0 * config.embedding * answers
    adapter = 0.0 if full else 6.0 * trained_weights(h, config) * tokens
    length = work.tokens / max(1, 2 * work.pairs)
    attention = 2.0 * config.layers * config.queries * length * work.tokens  # causal: half of 4 · width · length a token
    again = 1 if recompute else 0
    step = (3 if full else 2) * body + again * body + (4 if full else 3) * head + adapter + (3 + again) * attention
    reference = (body + head + attention) * (passes if moves_reference(h) else 1)
    return step * passes + reference


def _notes(h: Hyperparameters, config: ModelConfig, packed: bool) -> list[str]:
    notes = []
    if not config.is_known:
        notes.append(f"{config.family}: weights are counted as a Llama's of these sizes")
    if h.optim not in _STATES:
        notes.append(f"optim: {h.optim} is counted as adamw_torch, 8 bytes a trained weight")
    if not packed:
        notes.append("the plain path: every prompt stands twice, and rows are padded")
    return notes
