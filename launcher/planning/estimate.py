"""Estimate: memory, work and time of a run from the sizes of model and data, without torch and without weights. Pure.

Memory is the peak of one rank in a step. It follows what the trainer does: the dtypes of
``trainer.inputs.model``, the rows of ``trainer.step.packed``, TRL's fused head, the optimizer's states, ZeRO's divisions
(Rajbhandari et al., arXiv 1910.02054).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..experiment.hyperparameters import Hyperparameters
from ..experiment.schema import Experiment
from ..experiment.trl_fields import why_not_fast
from .activations import Numbers, head_bytes, kept_bytes, working_bytes
from .gpus import Gpu
from .model_config import ModelConfig

UTILISATION: Final = 0.4  # of a GPU's dense 16-bit speed, that a well-filled training step reaches
CONTEXT: Final = 600 << 20  # bytes: CUDA context, workspaces of its libraries, compiled kernels
GAPS: Final = 0.05  # of the memory that a step allocates and frees: fragmentation
PYTHON: Final = 900 << 20  # bytes: the interpreter with torch and transformers, on the CPU
CPU_ROW: Final = 512  # tokens: trainer.step.packed.CPU_ROW
NF4: Final = 0.5 + 1 / 64 + 4 / 64 / 256  # bytes a weight: 4 bits, a block's scale in 8, a block of scales' in 32
PARALLELISMS: Final = ("ddp", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
# Bytes of an optimizer's state for a weight in fp32; the paged ones move theirs to main memory only when GPU memory is short.
_STATES: Final[Mapping[str, float]] = {
    "adamw_torch": 8, "adamw_torch_fused": 8, "adamw_anyprecision": 8, "paged_adamw_32bit": 8, "schedule_free_adamw": 8,
    "stable_adamw": 8, "schedule_free_radam": 8, "grokadamw": 12, "ademamix": 12, "paged_ademamix_32bit": 12,
    "adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "adamw_torch_8bit": 2, "adamw_torch_4bit": 1,
    "ademamix_8bit": 3, "paged_ademamix_8bit": 3, "lion_32bit": 4, "paged_lion_32bit": 4, "lion_8bit": 1, "paged_lion_8bit": 1,
    "adagrad": 4, "rmsprop": 4, "rmsprop_bnb": 4, "rmsprop_bnb_32bit": 4, "rmsprop_bnb_8bit": 1,
    "sgd": 0, "schedule_free_sgd": 4, "adafactor": 0.01, "lomo": 0, "adalomo": 0.01,
}  # fmt: skip
_AWAY: Final = "offloaded to main memory"


@dataclass(frozen=True)
class Work:
    """The training pairs of one epoch. ``exact``: counted by the tokenizer, else bounds from above."""

    pairs: int
    tokens: int  # as the plain path counts: every prompt twice
    packed: int  # every prompt once
    longest: int  # of a prompt with one answer
    longest_pair: int  # of a prompt with both
    exact: bool = False
    held_out: int = 0  # validation pairs

    @classmethod
    def at_most(cls, longest: int, pairs: int) -> Work:
        """A bound from the longest sequence alone: every pair is two of them, without a prompt."""
        return cls(pairs, 2 * longest * pairs, 2 * longest * pairs, longest, 2 * longest)

    @property
    def answers(self) -> int:
        """Tokens of the answers, which the loss is computed on."""
        return max(0, 2 * self.packed - self.tokens)


@dataclass(frozen=True)
class Part:
    """What takes ``size`` bytes, and why."""

    name: str
    size: int
    why: str


@dataclass(frozen=True)
class Estimate:
    """Memory of one rank, computation of all. ``seconds`` is None where the speed of the device is unknown."""

    parts: tuple[Part, ...]
    host: int  # bytes that a rank offloads to main memory
    recompute: bool  # gradient checkpointing is on
    row: int  # tokens of the largest forward pass
    steps: int
    evaluations: int  # of the validation pairs
    tokens: int  # of all epochs; a prompt counts as often as it is computed
    exact: bool
    flops: float
    seconds: float | None
    notes: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def tensors(self) -> int:
        """Without the runtime: what torch counts as allocated."""
        return sum(part.size for part in self.parts if part.name != "runtime")


@dataclass(frozen=True)
class Machine:
    """What a run is planned for: ``world`` ranks on GPUs (``gpu``: which, None where unknown) or on the CPU."""

    world: int = 1
    parallelism: str = "ddp"
    cuda: bool = True
    gpu: Gpu | None = None

    @property
    def stage(self) -> int:
        """What is sharded over the ranks: 0 nothing, 1 optimizer state, 2 also gradients, 3 also weights."""
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
    """``recompute``: gradient checkpointing on or off; None: as the experiment sets it. ``auto`` turns it on only where the run
    does not fit otherwise, never on the CPU, and not where the GPU's memory is unknown.
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
    """Bytes of the trainer's numbers, as ``inputs.model.choose_precision`` and DeepSpeed's 16-bit mode choose them."""
    quantised = machine.cuda and (h.load_in_4bit or h.load_in_8bit)
    if (h.load_in_16bit is False and not quantised) or (not machine.cuda and h.load_in_16bit is None):
        return Numbers(4, 4)
    masters = h.full_finetuning and h.load_in_16bit is None and machine.cuda and not machine.stage
    return Numbers(4 if masters else 2, 2)


def is_packed(h: Hyperparameters, config: ModelConfig, work: Work) -> bool:
    """Whether the trainer packs rows without padding, as far as that is known without the model."""
    needs_plain = why_not_fast({**h.trl, "optim": h.optim, "loss_type": h.loss_type}) is not None
    window = config.window is not None and config.window < work.longest
    return h.dpo_path != "plain" and not needs_plain and not window


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
        come.append(Part("update", update - held, "temporary copies of the optimizer, beyond the activations (freed by then)"))
        held = update
    runtime, why = (CONTEXT + int(GAPS * held), "CUDA context and fragmentation") if machine.cuda else _ON_CPU
    steps = experiment.steps(work.pairs, machine.world)
    passes = steps / max(1, -(-work.pairs // experiment.global_batch))  # an epoch's last step may be smaller
    evaluations = experiment.evaluations(work.pairs, machine.world) if work.held_out else 0
    flops = _flops(h, config, work, packed, recompute, passes) + _evaluating(config, work, packed, evaluations)
    speed = machine.gpu.flops if machine.gpu is not None and machine.cuda else None
    return Estimate(
        parts=(*parts, *come, Part("runtime", runtime, why)),
        host=host,
        recompute=recompute,
        row=row,
        steps=steps,
        evaluations=evaluations,
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
    """(the parts that stay from step to step, bytes of them that are offloaded to main memory)."""
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
        parts.append(Part("reference", share(weights, 3, moved=False), "a second copy of the model, computed in every step"))
    if not h.full_finetuning:
        parts.append(Part("adapter", share(trained * own, 3, moved=False), f"{trained:,} weights, {own} bytes each"))
    buckets = stage == 0 and sharing > 1
    parts.append(
        Part(
            "gradients",
            share(trained * own * (2 if buckets else 1), 2, moved=False),
            f"{own} bytes per trained weight" + (", and the same again in DDP's buckets" if buckets else ""),
        )
    )
    why = h.optim + (", plus ZeRO's fp32 copies of weights and gradients" if stage else "")
    parts.append(Part("optimizer", share(_optimizer_bytes(h, machine, trained, own), 1, moved=machine.offloads), why))
    if stage == 3:
        together = (2 * config.largest_layer + config.embedding) * numbers.compute
        parts.append(Part("gathered", together, "two layers and the embedding, gathered where they are used"))
    elif stage:
        parts.append(Part("buckets", int(min(2e8, trained)) * numbers.compute, "communication between the ranks"))
    return parts, sum(away)


def _optimizer_bytes(h: Hyperparameters, machine: Machine, trained: int, own: int) -> float:
    """``own``: bytes of a trained weight; ZeRO keeps weights and gradients in fp32 once more."""
    if "8bit" in h.optim and not machine.cuda:
        states = 8.0 * trained  # trainer.inputs.arguments: adamw_torch
    else:
        states = _STATES.get(h.optim, 8.0) * trained * (own / 4 if not machine.stage else 1)
    return states + (8 * trained if machine.stage else 0)


def _weights_why(h: Hyperparameters, numbers: Numbers, machine: Machine) -> str:
    how = "4-bit" if h.load_in_4bit else "8-bit" if h.load_in_8bit else {2: "16-bit", 4: "fp32"}[numbers.stream]
    if not machine.cuda:
        how = {2: "16-bit", 4: "fp32"}[numbers.stream]
    shared = f", sharded over {machine.world}" if machine.stage == 3 and machine.world > 1 else ""
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
    """What a forward and backward pass of ``row`` tokens holds at its peak; ``is_alone``: it is the only one of a step."""
    numbers = numbers_of(h, machine)
    targets = None if h.full_finetuning else frozenset(linear.name for linear in config.targets(h.target_modules))
    masked = 0 if packed else work.longest
    # On a CPU by segments: all but the chosen answers, about half of the answers' tokens.
    copied = 0.0 if machine.cuda or not packed else 1 - work.answers / 2 / max(1, work.packed)
    kept = kept_bytes(config, row, numbers, targets=targets, r=h.r, masked=masked, copied=copied, recompute=recompute)
    places = row if not packed else -(-row * work.answers // max(1, work.packed))
    head = head_bytes(config, places, numbers, cuda=machine.cuda, trained=h.full_finetuning and not is_alone)
    layer = working_bytes(config, row, numbers, targets=targets, r=h.r, masked=masked, copied=copied, recompute=recompute)
    form = "packed" if packed else "padded"
    how = "gradient checkpointing" if recompute else "no gradient checkpointing"
    parts = [Part("activations", kept, f"{row:,} tokens in a {form} pass, {how}")]
    if head >= layer:
        return [*parts, Part("logits", head, f"{places:,} answer tokens, vocabulary in chunks of 32,768")]
    return [*parts, Part("backward", layer, "gradients of one layer (larger than the logits, which are freed by then)")]


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
    full = h.full_finetuning
    body, head, attention = forward = _forward(config, work, packed)
    adapter = 0.0 if full else 6.0 * trained_weights(h, config) * tokens
    again = 1 if recompute else 0
    step = (3 if full else 2) * body + again * body + (4 if full else 3) * head + adapter + (3 + again) * attention
    return step * passes + sum(forward) * (passes if moves_reference(h) else 1)


def _evaluating(config: ModelConfig, work: Work, packed: bool, evaluations: int) -> float:
    """Additions and multiplications of the evaluations, and of the reference's pass before them, by the mean training pair."""
    passes = evaluations + 1 if evaluations else 0
    return sum(_forward(config, work, packed)) * work.held_out / max(1, work.pairs) * passes


def _forward(config: ModelConfig, work: Work, packed: bool) -> tuple[float, float, float]:
    """Additions and multiplications of a forward pass over all pairs: in the layers' weights, the head, and attention."""
    length = work.tokens / max(1, 2 * work.pairs)
    attention = 2.0 * config.layers * config.queries * length * work.tokens  # causal: half of 4 · width · length a token
    return (
        2.0 * config.active_weights * (work.packed if packed else work.tokens),
        2.0 * config.embedding * work.answers,
        attention,
    )


def _notes(h: Hyperparameters, config: ModelConfig, packed: bool) -> list[str]:
    notes = []
    if not config.is_known:
        notes.append(f"{config.family}: unknown architecture, counted as a Llama of these sizes")
    if h.optim not in _STATES:
        notes.append(f"optim: {h.optim} is counted as adamw_torch (8 bytes per trained weight)")
    if not packed:
        notes.append("plain path: prompts are computed twice, and sequences are padded")
    return notes
