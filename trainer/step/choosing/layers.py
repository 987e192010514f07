"""Decides whether decoder layers are compiled: if it saves time, and if compiled layers compute the same as eager ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import torch
from accelerate.utils import gather_object

from launcher.errors import ExperimentError, Mistake, Warned

from ...checkpoints.remembered import GRAPHED
from ...inputs.tokens.token_pairs import TokenPairs
from ...inputs.tokens.tokens import Tokens
from ...processes.ranks.sharding import stage as zero_stage
from ..batches.blocks import BLOCK
from ..batches.buckets import Buckets
from ..batches.packing import packed_lengths
from ..compiling.compiled import CompiledLayers, cpp_compiler, decoder_layers, reason
from ..dpo import DPOTrainer
from ..forward.attention import attention
from ..memory import as_in_training
from ..packed import Packed
from ..rows import autocast_type
from .choice import Choice, as_reference
from .comparison import COMPARED, Difference, Numbers, difference, packed_numbers
from .replayed import choose_graphs

# The estimate of ``auto``. On a GPU launches were counted (in the tests of launches and of compiled layers); the others are
# careful guesses: a launch costs between 5 us (bare) and 44 us (in a profile of a H200) of the host's time. On a CPU, where
# compiled layers read and write memory less often, both were measured in seconds of one core.
COMPILING: Final = {"cuda": 120.0, "cpu": 40.0}  # seconds, for all graphs of a model
PER_LAUNCH: Final = 15e-6  # seconds
SAVED: Final = {False: 100, True: 170}  # launches a layer and row; with gradient checkpointing
PER_NUMBER: Final = 3e-9  # seconds, for each number that a matrix of a layer takes or gives; 2e-9 to 6e-9 were measured


@dataclass(frozen=True)
class Work:
    """How much a run computes, for the estimate."""

    steps: int
    has_evaluations: bool  # packed rows per step


def choose_layers(
    trainer: DPOTrainer, choice: Choice, wanted: str, tokens: Tokens, work: Work, remembered: bool | str | None
) -> tuple[Choice, str | None]:
    """(``choice`` with compiled layers if ``wanted`` (auto, layers, graphs or off) and the model allow it, a sentence).

    ``graphs`` adds CUDA graphs; ``auto`` does not, as they are not measured on a GPU yet. ``remembered``: whether the run of
    the checkpoint had compiled layers (``GRAPHED``: and graphs); None without a checkpoint. Raises ExperimentError if it had,
    and compiling fails now: a run never mixes the two.
    """
    must = wanted in ("layers", "graphs")
    budget = min(gather_object([choice.budget]))
    reasons = gather_object([_why_eager(trainer, replace(choice, budget=budget), wanted, tokens, work, remembered)])
    why = next((one for one in reasons if one is not None), None)  # one way for all ranks
    if why is not None:
        return choice, _eager(why, must) if why else None
    pairs = tokens.pairs[:COMPARED]
    compiled, found, numbers = _tried(trainer, choice, pairs, work.has_evaluations)
    if compiled is not None:
        found = "as in the run of the checkpoint" if remembered else found
        if wanted != "graphs" and not (wanted == "auto" and remembered == GRAPHED):
            return compiled, f"compiled layers: {found}"
        compiled, why = choose_graphs(trainer, compiled, pairs, numbers[0])
        if why is None:
            return compiled, f"compiled layers and CUDA graphs: {found}"
        if must:
            return compiled, Warned(f"compiled layers without CUDA graphs: {why}")
        raise _differs("had CUDA graphs, which are not possible here", "layers", wanted, why)
    if remembered and wanted == "auto":
        raise _differs("had compiled its layers, and they cannot be compiled here", "off", wanted, found)
    return choice, _eager(found, must)


def _differs(what: str, other: str, wanted: str, why: str) -> ExperimentError:
    wish = f"a machine like that run's, or {other}: then the result is not bit for bit that of an uninterrupted run"
    return ExperimentError(Mistake("hyperparameters.compile", f"the checkpoint's run {what}", wish, wanted, why))


def _eager(why: str, must: bool) -> str:
    """A warning if compiled layers were requested."""
    sentence = f"eager layers: {why}"
    return Warned(sentence) if must else sentence


def _why_eager(
    trainer: DPOTrainer, choice: Choice, wanted: str, tokens: Tokens, work: Work, remembered: bool | str | None
) -> str | None:
    """Why the layers stay eager: "" if nobody asked, None if they are compiled."""
    must = wanted in ("layers", "graphs")
    if wanted == "off":
        return "compile is off"
    if choice.packed is None:
        return "the plain path is TRL's own" if must else ""
    is_free, is_cpu = not must and not remembered, trainer.accelerator.device.type != "cuda"
    if is_free and is_cpu and (remembered is False or _unprofitable(trainer, choice, tokens, work)):
        return ""
    if why := _impossible(trainer):
        return why
    if not is_free:
        return None
    if remembered is False:
        return "as in the run of the checkpoint"
    if getattr(trainer.model.config, "quantization_config", None) is not None:
        # The compiler would merge both dequantisations of a layer's weights and keep the result in between.
        return "4- and 8-bit weights: a compiled graph would keep their 16-bit copies for the backward pass"
    return _unprofitable(trainer, choice, tokens, work)


def _impossible(trainer: DPOTrainer) -> str | None:
    if zero_stage(trainer) == 3:
        return "the weights are sharded (ZeRO 3)"
    if not decoder_layers(trainer.model):
        return f"{trainer.model.config.model_type} has no list of decoder layers"
    device = trainer.accelerator.device
    if device.type == "cuda" and attention(device) != "flex_attention":
        return "Triton or a C compiler is missing"
    if device.type == "cpu" and cpp_compiler() is None:
        return "a C++ compiler (g++ or clang++) is missing"
    return None


def _unprofitable(trainer: DPOTrainer, choice: Choice, tokens: Tokens, work: Work) -> str | None:
    """The reason if compiling takes longer than it saves."""
    assert choice.packed is not None, "layers are compiled on the fast path"
    args = trainer.args
    step = args.per_device_train_batch_size * args.gradient_accumulation_steps * float(packed_lengths(tokens.pairs).mean())
    layers, device = choice.packed.whole_layers, "cuda" if trainer.accelerator.device.type == "cuda" else "cpu"
    if device == "cuda":
        rows = max(1, math.ceil(step / choice.budget))
        saved = rows * len(layers) * SAVED[bool(args.activation_checkpointing)] * PER_LAUNCH
    else:
        saved = step * sum(map(_numbers_of_matrices, layers)) * PER_NUMBER / torch.get_num_threads()
    saved, compiling = work.steps * saved, COMPILING[device]
    if saved > compiling:
        return None
    return f"compiling would take about {_minutes(compiling)} and save about {_minutes(saved)}"


def _numbers_of_matrices(layer: torch.nn.Module) -> int:
    """Values per token that the layer's matrices read and write, without an adapter's."""
    return sum(sum(w.shape) for name, w in layer.named_parameters() if w.ndim == 2 and "lora_" not in name)


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def _tried(
    trainer: DPOTrainer, choice: Choice, pairs: TokenPairs, has_evaluations: bool
) -> tuple[Choice | None, str, list[Numbers]]:
    """(``choice`` with compiled layers if they equal eager ones, how close they are or why not, what they compute).

    Each pair gets its own row, whatever the budget and lengths, so that a resumed run shows the compiler the same rows first.
    """
    assert choice.packed is not None, "layers are compiled on the fast path"
    eager = replace(choice, budget=1)
    expected = _numbers(trainer, eager, pairs, has_evaluations)
    choice.packed.remove()
    layers = CompiledLayers(choice.packed.whole_layers, deterministic=trainer.args.full_determinism)
    packed = Packed(trainer.model, choice.packed.kind, layers)
    packed.buckets = Buckets(0, (2 * BLOCK,))  # the table of a single block would be a graph of its own
    compiled = replace(choice, packed=packed, is_compiled=True)
    off: list[str] = []
    found: list[Numbers] = []
    differences: list[Difference] = []
    try:
        found = _numbers(trainer, replace(compiled, budget=1), pairs, has_evaluations)
        half = autocast_type(trainer.args) is not None or trainer.model.dtype != torch.float32
        differences = [difference(trainer, pairs, before, now) for before, now in zip(expected, found, strict=True)]
        off = [f"compiled layers give other results: {one.off}" for one in differences if one.beyond(half=half)]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        trainer.model.zero_grad()
        off = [f"compiling failed: {reason(error)}"]
    verdicts = [one for some in gather_object([off]) for one in some]  # one way for all ranks
    if not verdicts:
        packed.buckets = choice.packed.buckets
        return compiled, f"same loss and gradient as eager layers on the first pairs ({differences[0]})", found
    layers.remove()
    packed.remove()
    choice.packed.place()
    return None, verdicts[0], found


def _numbers(trainer: DPOTrainer, choice: Choice, pairs: TokenPairs, has_evaluations: bool) -> list[Numbers]:
    """What the rows of ``pairs`` give in each mode that the run uses: training, reference, evaluation."""
    assert choice.packed is not None, "layers are compiled on the fast path"
    half = None if zero_stage(trainer) else autocast_type(trainer.args)
    as_in_training(trainer)  # gradient checkpointing has a different graph
    rows = (choice.packed, pairs, choice.budget)
    numbers = [packed_numbers(trainer, trainer.model, *rows, half=half)]
    if trainer.has_reference:
        with as_reference(trainer) as called:
            numbers.append(packed_numbers(trainer, called, *rows, has_gradient=False))
    if has_evaluations:
        numbers.append(packed_numbers(trainer, trainer.model, *rows, has_gradient=False))
    return numbers
