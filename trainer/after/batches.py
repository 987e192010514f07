"""Answers many prompts together: longest first, padded on the left, as many at once as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from launcher.errors import DataError, Mistake
from launcher.planning.weights.uses import MOST, ON_CPU, SHARE, UNKNOWN

from ..evaluation.generation import Answer, Wish, generate
from ..output import say
from .conversation import on, positions
from .loaded import Loaded

Batch = list[int]  # indices of prompts
Told = Callable[[Batch, dict[str, list[Answer]]], None]


def check_lengths(prompts: Sequence[list[int]], rows: Sequence[int], loaded: Loaded, source: str) -> None:
    """Raises DataError for every prompt of ``source`` that leaves no position for an answer."""
    limit = positions(loaded)
    mistakes = [
        Mistake(
            f"{source}:{row}",
            "the prompt leaves no room for an answer",
            f"fewer than {limit:,} tokens, which the model reads",
            f"{len(ids):,} tokens",
        )
        for row, ids in zip(rows, prompts, strict=True)
        if limit is not None and len(ids) >= limit
    ]
    if mistakes:
        raise DataError(mistakes)


def answered(loaded: Loaded, prompts: Sequence[list[int]], wish: Wish, sides: Sequence[str], told: Told) -> None:
    """Answers every prompt with every model. ``told`` receives the indices of a batch, and each model's answers in that order.

    If memory runs out the batch is halved. Raises torch's error if a single prompt does not fit.
    """
    size = batch_size(loaded, max(map(len, prompts), default=0) + wish.most)
    is_stateful = bool(getattr(loaded.causal, "_is_stateful", False))
    waiting = batches(prompts, size, one_length=is_stateful, room=_room(loaded, wish))[::-1]
    done = 0
    while waiting:
        batch = waiting.pop()
        ids = [prompts[place] for place in batch]
        try:
            found = {side: _side(loaded, ids, replace(wish, seed=wish.seed + done), side) for side in sides}
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            torch.cuda.empty_cache()
            half = (len(batch) + 1) // 2
            say(f"notice: {len(batch)} prompts at once do not fit into memory: {half} from here on")
            waiting = [one for whole in [*waiting, batch] for one in _split(whole, half)[::-1]]
            continue
        done += len(batch)
        told(batch, found)


def batches(prompts: Sequence[list[int]], size: int, *, one_length: bool, room: int | None) -> list[Batch]:
    """Indices in batches of ``size``, longest first. A prompt longer than ``room`` tokens is alone, because its answer must be
    shorter.

    ``one_length``: without padding, for models whose recurrent state would include it.
    """
    found: list[Batch] = []
    for place in sorted(range(len(prompts)), key=lambda place: -len(prompts[place])):
        length, first = len(prompts[place]), len(prompts[found[-1][0]]) if found else 0
        is_apart = (room is not None and first > room) or (one_length and length != first)
        if not found or len(found[-1]) == size or is_apart:
            found.append([])
        found[-1].append(place)
    return found


def _room(loaded: Loaded, wish: Wish) -> int | None:
    limit = positions(loaded)
    return None if limit is None else limit - wish.most


def batch_size(loaded: Loaded, tokens: int) -> int:
    """How many prompts are generated together. ``tokens``: per prompt including its answer."""
    if loaded.device.type != "cuda":
        return ON_CPU
    each = _cache_bytes(loaded) * tokens
    free, _ = torch.cuda.mem_get_info()
    return max(1, min(MOST, int(free * SHARE / each))) if each else UNKNOWN


def _cache_bytes(loaded: Loaded) -> int:
    """Bytes of keys and values per token in all layers; 0 if the configuration does not show it."""
    config: Any = loaded.causal.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
    layers, hidden = getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None)
    if not (heads and layers and hidden):
        return 0
    width = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    return int(2 * layers * heads * width * (4 if loaded.precision.weights == torch.float32 else 2))


def _side(loaded: Loaded, prompts: Sequence[list[int]], wish: Wish, side: str) -> list[Answer]:
    limit = positions(loaded)
    most = wish.most if limit is None else min(wish.most, limit - max(map(len, prompts)))
    with loaded.autocast(), on(loaded, side):
        return generate(loaded.model, loaded.tokenizer, prompts, replace(wish, most=most))


def _split(batch: Batch, size: int) -> list[Batch]:
    return [batch[begin : begin + size] for begin in range(0, len(batch), size)]
