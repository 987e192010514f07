"""Pairs a second, model FLOPs utilisation, and peak memory against the planner's estimate."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from ..pairs import work_of
from .parts import Place
from .training import WARM, batch_of, experiment_of, model_of, trained
from .watch import Watch

Figures = dict[str, Any]


def speed(
    place: Place, model: str, *, compile: str = "off", shape: str = "short prompt", recompute: bool = False
) -> Iterator[Figures]:
    """This project's own training, as a run has it; ``compile`` as the setting of that name."""
    warm, batch = min(WARM, batch_of(place).steps), batch_of(place)
    settings = {"compile": compile, "use_gradient_checkpointing": recompute}
    experiment = experiment_of(place, model, shape, warm + batch.steps, **settings)
    watch = Watch(place.device, warm)
    trainer, said = trained(place, experiment, f"{model}-{compile}-{shape.replace(' ', '-')}", watch)
    pairs = trainer.fast.train.pairs if trainer.path == "fast" else tokens_of(place, experiment).pairs
    found = rates(experiment, trainer.model.config, pairs, watch.seconds, batch.pairs, is_packed=trainer.path == "fast")
    planned = estimated(experiment, trainer.model.config, pairs, place.device)
    recorded = len(trainer.fast.graphs) if trainer.fast is not None and trainer.fast.graphs is not None else None
    yield {
        **found,
        "path": trainer.path,
        "said": said.about("path", "compil", "graph", "checkpointing", "row", "warning", "reference"),
        "losses": losses(trainer),
        "seconds_to_first_step": watch.first_step,
        "peak_bytes": watch.peak,
        "planned_bytes": planned,
        "compiler": compiler(),
        "graphs": recorded,
        "sentence": sentence(found) + memory(watch.peak, planned) + short_of(trainer, compile, recorded),
    }


def short_of(trainer: Any, compile: str, recorded: int | None) -> str:
    """What was asked for and is not there; ``recorded``: shapes of rows that are CUDA graphs, None without graphs."""
    if trainer.path != "fast":
        return "; PLAIN PATH"
    if compile != "graphs":
        return ""
    return f"; {recorded} graphs" if recorded else "; NO GRAPHS"


def speed_of_trl(place: Place, model: str, *, variant: str) -> Iterator[Figures]:
    """Plain TRL on the same model and pairs: at its defaults it loads in fp32, recomputes activations and computes the
    reference in every step; tuned, none of that.
    """
    import torch
    from transformers import Qwen3ForCausalLM

    from ..dpo_step import clock_of
    from ..trainers import Training, make_trainer

    warm, batch = min(WARM, batch_of(place).steps), batch_of(place)
    experiment = experiment_of(place, model, "short prompt", warm + batch.steps)
    pairs = tokens_of(place, experiment).pairs
    half = place.device == "cuda" and variant != "trl"
    policy = Qwen3ForCausalLM.from_pretrained(model_of(place, model), dtype=torch.bfloat16 if half else torch.float32)
    folder = place.folder / variant.replace(" ", "-")
    training = Training(place.device, pairs, batch.per_device, batch.accumulation, warm + batch.steps, folder)
    trainer, reference = make_trainer(variant, training, policy, clock_of(place.device))
    watch = Watch(place.device, warm)
    trainer.add_callback(watch)
    trainer.train()
    found = rates(experiment, policy.config, pairs, watch.seconds, batch.pairs, is_packed=False)
    yield {
        **found,
        "losses": losses(trainer),
        "reference_seconds": reference,
        "peak_bytes": watch.peak,
        "sentence": sentence(found) + memory(watch.peak, None),
    }


def tokens_of(place: Place, experiment: Any) -> Any:
    """The pairs as a run sees them."""
    from launcher.data.pairs import read_pairs
    from launcher.data.tables.reading import Reading
    from trainer.inputs.models.model import load_tokenizer
    from trainer.inputs.tokens.tokens import tokenize

    texts = read_pairs(experiment, Reading(place.folder)).train
    tokenizer = load_tokenizer(experiment, experiment.model_name)
    return tokenize(texts, tokenizer, experiment.hyperparameters, source="training_data.csv", cache=place.folder / "cache")


def rates(experiment: Any, config: Any, pairs: Any, seconds: list[float], batch: int, *, is_packed: bool) -> Figures:
    """Of the steps' median."""
    step = statistics.median(seconds)
    work = work_of(pairs)
    flops = model_flops(experiment, config, work, is_packed=is_packed) / len(pairs) * batch / step
    gpu, peak = card()
    return {
        "gpu": gpu,
        "pairs_per_second": batch / step,
        "tokens_per_second": (work.packed if is_packed else work.tokens) / len(pairs) * batch / step,
        "tflops_per_second": flops / 1e12,
        "mfu": flops / peak if peak else None,
        "step_seconds": seconds,
    }


def model_flops(experiment: Any, config: Any, work: Any, *, is_packed: bool) -> float:
    """Additions and multiplications that one epoch's training steps need, as the planner counts them.

    A frozen weight needs 4 a token (2 forward, 2 for the gradient of its input), a trained one 6; the head only at the answers'
    tokens; attention three times its forward pass. A prompt counts once where rows are packed, else twice. Padding, what is
    computed again in the backward pass, and a reference in the step do not count. Over the step's time and the GPU's dense 16-bit
    peak this is the model FLOPs utilisation (MFU) of Chowdhery et al., "PaLM" (arXiv 2204.02311, appendix B).
    """
    from launcher.planning.sizes import flops
    from launcher.planning.sizes.adapter import Adapter
    from launcher.planning.sizes.model_config import ModelConfig

    h, sizes = experiment.hyperparameters, ModelConfig.parse(config.to_dict())
    one, two = (flops.training(h, sizes, work, is_packed, False, passes) for passes in (1, 2))
    has_again = not (is_packed and Adapter(h, sizes).has_frozen_head)
    again = 2.0 * sizes.embedding * work.answers if has_again else 0.0  # the head's tiles, a second time
    return two - one - again  # without the reference's own pass


def card() -> tuple[str, float | None]:
    """(the GPU's name, its dense 16-bit FLOP/s; None where they are unknown)."""
    import torch

    from launcher.planning.machines.gpus import gpu_there

    if not torch.cuda.is_available():
        return "none", None
    found = torch.cuda.get_device_properties(0)
    return found.name, gpu_there(found.name, found.total_memory).flops


def estimated(experiment: Any, config: Any, pairs: Any, device: str) -> int:
    """Bytes of tensors that ``launcher plan`` expects, from counted tokens."""
    import torch

    from launcher.planning.estimate import estimate
    from launcher.planning.machines.gpus import gpu_there
    from launcher.planning.sizes.machine import Machine
    from launcher.planning.sizes.model_config import ModelConfig

    gpu = None
    if device == "cuda":
        there = torch.cuda.get_device_properties(0)
        gpu = gpu_there(there.name, there.total_memory)
    machine = Machine(cuda=device == "cuda", gpu=gpu)
    return int(
        estimate(experiment, ModelConfig.parse(config.to_dict()), work_of(pairs, experiment.global_batch), machine).tensors
    )


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def compiler() -> Figures:
    """What torch.compile did in this process: graphs, breaks and recompilations."""
    import torch

    counters = torch._dynamo.utils.counters
    return {name: dict(counters[name]) for name in ("stats", "graph_break", "recompiles", "inductor") if counters.get(name)}


def sentence(found: Figures) -> str:
    mfu = f"MFU {found['mfu']:.1%}" if found["mfu"] is not None else f"MFU unknown (no peak for {found['gpu']})"
    return f"{found['pairs_per_second']:.1f} pairs/s, {found['tokens_per_second']:,.0f} tokens/s, {mfu}"


def memory(peak: int | None, planned: int | None) -> str:
    if peak is None:
        return ""
    said = f", peak {peak / 2**30:.2f} GiB"
    return said if planned is None else f"{said} (planned {planned / 2**30:.2f}, {planned / peak - 1:+.0%})"
