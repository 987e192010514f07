"""Whether activations are kept for the backward pass or computed again: by the memory that the weights have left."""

from __future__ import annotations

from typing import Any, Final

import torch

SHARE: Final = 0.8  # of the free memory: the rest is for the head's tiles, the allocator's gaps and the kernels' own room
STATE: Final = 16  # bytes a trained weight: the gradient and AdamW's two moments in float32, and the update's own copy


def free_bytes(gpu_memory_utilization: float) -> int:
    """Of this rank's GPU, below the ceiling that the experiment sets."""
    free, total = torch.cuda.mem_get_info()
    ours = torch.cuda.memory_reserved()
    return min(free, int(total * gpu_memory_utilization) - ours)


def activation_bytes(config: Any, tokens: int, bytes_per_number: int) -> int | None:
    """Bytes that a decoder keeps of ``tokens`` for the backward pass; None where the configuration does not say its sizes.

    A layer keeps, for each token, inputs and outputs of its norms, projections, attention and gated MLP, as Korthikanti et al.
    count them (arXiv 2205.05198, section 4.1, without the attention's scores, which no kernel used here keeps), and as much
    again for what adapters and casts add.
    """
    text = config.get_text_config()
    sizes = [
        getattr(text, name, None) for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    ]
    if not all(isinstance(size, int) for size in sizes):
        return None
    hidden, inner, layers, heads = sizes
    head_dim = getattr(text, "head_dim", None) or hidden // heads
    queries, keys = heads * head_dim, (getattr(text, "num_key_value_heads", None) or heads) * head_dim
    numbers = 8 * hidden + 2 * (queries + 2 * keys) + 4 * inner
    return 2 * numbers * layers * tokens * bytes_per_number


def must_recompute(config: Any, *, tokens: int, bytes_per_number: int, trained: int, free: int) -> tuple[bool, str]:
    """(whether a micro-batch of ``tokens`` with ``trained`` weights does not fit into ``free`` bytes otherwise, the sentence)."""
    activations = activation_bytes(config, tokens, bytes_per_number)
    if activations is None:
        return True, "gradient checkpointing on: the model's configuration does not say how much it would keep"
    needed, room = activations + STATE * trained, SHARE * free
    verdict = "on" if needed > room else "off"
    return needed > room, (
        f"gradient checkpointing {verdict}: a micro-batch needs about {needed / 2**30:.1f} GiB without it, "
        f"and {room / 2**30:.1f} GiB are to spare"
    )
