"""Joins a merged adapter and the adapter trained on top of it into one adapter for the plain base model.

Training on W + s1·B1·A1 gives an adapter B2·A2 that does not fit W alone. Both together are one LoRA of rank r1 + r2, exactly:
s1·B1·A1 + s2·B2·A2 = [s1·B1, s2·B2]·[A1; A2]. The weights that were trained on differ from that by what the merge has rounded.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from launcher.errors import LauncherError, Warned
from launcher.job.adapter_config import ADAPTER
from launcher.runs.whole import write_whole

from ..inputs.models.starting import Start
from .checkpoints import first_batch, log_probs

_WEIGHTS: Final = "adapter_model.safetensors"
_PREFIX: Final = "base_model.model."
_HALVES: Final = (".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B")
# Nats for each square root of an answer's tokens: rounding of the sums in fp32, of every merged weight in 16 bits.
_WITHIN: Final = {torch.float32: 1e-4, torch.float16: 0.1, torch.bfloat16: 0.1}


def join_adapters(folder: Path, start: Start, modules: list[str]) -> dict[str, Any]:
    """Rewrites the adapter in ``folder``, which needs base + ``start``, as one for the base alone.

    ``modules``: the names of all modules of the base. Returns what the run's record says of it.
    """
    config = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    new = _parts(load_file(folder / _WEIGHTS), config)
    old = _parts(tensors_of(start.folder), start.config.values)
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for name in sorted({*old, *new}):
        parts = [part for part in (old.get(name), new.get(name)) if part is not None]
        ends = parts[0][0]
        first, second = torch.cat([a for _, a, _ in parts]), torch.cat([b for _, _, b in parts], dim=1)
        ranks[name] = len(first)
        tensors |= {f"{_PREFIX}{name}{end}": half.float().contiguous() for end, half in zip(ends, (first, second), strict=True)}
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    write_whole(folder / ADAPTER, json.dumps(_config(config, ranks, modules), indent=2, sort_keys=True))
    return {"joined": {"ranks": sorted(set(ranks.values())), "modules": len(ranks)}}


def tensors_of(folder: Path) -> Mapping[str, Tensor]:
    """The tensors of the adapter in ``folder``, by PEFT's names."""
    if (folder / _WEIGHTS).is_file():
        return load_file(folder / _WEIGHTS)
    found: Mapping[str, Tensor] = torch.load(folder / "adapter_model.bin", map_location="cpu", weights_only=True)
    return found


def _parts(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, tuple[tuple[str, str], Tensor, Tensor]]:
    """Module -> (ends of the names, A, scaled B), float64; A has a row and B a column for each rank."""
    found = {}
    for ends in _HALVES:
        for key in (key for key in tensors if key.endswith(ends[0])):
            name = key.removesuffix(ends[0]).removeprefix(_PREFIX)
            a, b = (tensors[f"{_PREFIX}{name}{end}"].double() for end in ends)
            found[name] = ends, a, b * _scaling(name, len(a), config)
    return found


def _scaling(name: str, rank: int, config: Mapping[str, Any]) -> float:
    """As PEFT computes it (``LoraLayer.update_layer``)."""
    patterns = config.get("alpha_pattern") or {}
    alpha = float(patterns.get(get_pattern_key(patterns, name), config["lora_alpha"]))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _config(config: Mapping[str, Any], ranks: Mapping[str, int], modules: list[str]) -> dict[str, Any]:
    """``config`` for modules of these ``ranks``, whose scaling is 1."""
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {name: rank for name, rank in ranks.items() if rank != usual}
    kinds = {name.rpartition(".")[2] for name in ranks}
    is_whole = all(name in ranks for name in modules if name.rpartition(".")[2] in kinds)
    shape = {
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "use_rslora": False,
        "target_modules": sorted(kinds if is_whole else ranks),
        "exclude_modules": None,
        "layers_to_transform": None,
        "layers_pattern": None,
    }
    return {**config, **shape}


def compare_joined(trainer: Any, base: Any, folder: Path, *, is_quantized: bool) -> tuple[dict[str, Any], list[str]]:
    """(what the record says, notices): log-probabilities of the first pairs under ``base`` with the joined adapter in ``folder``,
    beside those of the trained model.

    Raises LauncherError if they differ by more than rounding.
    """
    trained = trainer.accelerator.unwrap_model(trainer.model)
    batch = first_batch(trainer)
    fast = getattr(trainer, "fast", None)
    with nullcontext() if fast is None else fast.packed.removed():
        before = log_probs(trainer, trained, batch)
    add_fused_lm_head(base)
    joined = PeftModel.from_pretrained(base, str(folder))
    after = log_probs(trainer, joined if is_quantized else joined.to(trainer.accelerator.device), batch)
    counts = batch["completion_mask"].sum(1).clamp(min=1)
    worst = float(((before - after).abs() / counts.sqrt()).max())
    within = None if is_quantized else _WITHIN[base.dtype]
    if within is not None and not worst <= within:
        what = f"on the base model it gives other log-probabilities than the trained model: off by {worst:.1e} per sqrt(token)"
        raise LauncherError(f"{folder}: the published adapter differs from the trained model: {what}")
    found = {"joined_logp_difference": worst}
    what = "the adapter includes the merged one and loads on the plain base model"
    sentence = f"{what}; its log-probabilities are within {worst:.1e} per sqrt(token) of the trained model's"
    return found, [Warned(f"{sentence}, because the merge was rounded to 4 or 8 bits") if is_quantized else sentence]
