"""Split: a model that vLLM serves from one GPU, or spreads over several of a machine (tensor parallelism). Pure.

A server takes the memory once, at its start. Not measured on a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..rows import CONTEXT
from ..sizes.model_config import ModelConfig
from ..sizes.state import Part
from .held import Held
from .use import Use

LENGTH: Final = 4096  # tokens of a request that a server is planned for
UTILISATION: Final = 0.9  # of a GPU's memory, vLLM's default
_BATCH: Final = 2048  # tokens that vLLM computes at once, at least
_ANSWERS: Final = 256  # whose next token is computed at once
_NUMBER: Final = 2  # bytes: vLLM computes in 16 bits
_GPUS: Final = (2, 4, 8)  # of a machine


def uneven(config: ModelConfig, gpus: int) -> str | None:
    """What of the model vLLM cannot divide among ``gpus``; None where it can.

    The conditions are those of vLLM's attention and MLP layers: heads and widths are divided, and keys of few heads are copied.
    """
    if config.heads % gpus:
        return f"{config.heads} attention heads"
    few, many = sorted((config.kv_heads, gpus))
    if many % few:
        return f"{config.kv_heads} heads of keys and values"
    width = next((one for one in (config.inner, config.expert_inner) if one % gpus), None)
    return None if width is None else f"a width of {width:,}"


def possible(config: ModelConfig) -> list[int]:
    """The numbers of GPUs among which vLLM can divide the model."""
    return [gpus for gpus in _GPUS if uneven(config, gpus) is None]


def serve(held: Held, gpus: int = 1, length: int | None = None) -> Use:
    """A server in 16 bits on ``gpus`` of a kind that takes requests of ``length`` tokens; the memory is that of each GPU."""
    gpu, config, tokens = held.machine.gpu, held.config, length or LENGTH
    copies = max(1, gpus // config.kv_heads)  # of the keys and values
    cache = 2 * config.layers * config.kv_heads * config.head_dim * _NUMBER * tokens * copies // gpus
    weights = _NUMBER * (config.parameters + held.adapters * held.matrices) // gpus
    inner = max(config.inner, config.experts_per_token * config.expert_inner + config.shared_inner)
    batch = _BATCH * _NUMBER * (3 * inner // gpus + 4 * config.hidden) + _ANSWERS * config.vocab * 4
    parts = (
        Part("weights", weights, ""),
        Part(f"{tokens:,} tokens", cache, ""),
        Part("a batch", batch, ""),
        Part("runtime", CONTEXT, ""),
    )
    there = None if gpu is None else int(gpu.memory * UTILISATION)
    device = held.device if gpus == 1 else f"each of {gpus} × {held.device}"
    found = Use("serve", parts, there, device, f"requests of at most {tokens:,} tokens in vLLM", None, why=None)
    return found if gpus > 1 or found.fits is not False else _with_hint(found, held, length)


def _with_hint(found: Use, held: Held, length: int | None) -> Use:
    enough = next((gpus for gpus in possible(held.config) if serve(held, gpus, length).fits), None)
    return replace(found, hint=None if enough is None else f"spread it over {enough} GPUs: --tensor-parallel-size {enough}")
