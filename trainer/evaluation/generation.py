"""Greedy answers of a model, as they are generated for samples and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig


def answers(model: Any, tokenizer: Any, prompts: Sequence[list[int]], most: int, *, with_adapter: bool) -> list[str]:
    """Greedy answers of at most ``most`` tokens; ``with_adapter`` false: with the adapter switched off, if it has one.

    ``model`` is left as it was: its mode, its generation settings and the state of all random numbers.
    """
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    device, pad = next(causal.parameters()).device, _pad(tokenizer)
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(one)) + one for one in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=device)
    with _as_for_generation(causal, tokenizer, most) as config, _adapter(model, on=with_adapter), torch.no_grad():
        found = causal.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [text.strip() for text in tokenizer.batch_decode(found[:, longest:], skip_special_tokens=True)]


@contextmanager
def _as_for_generation(causal: Any, tokenizer: Any, most: int) -> Iterator[GenerationConfig]:
    """In evaluation mode, without the sampling settings that a model brings along."""
    before, was_training = causal.generation_config, causal.training
    of_model = getattr(before, "eos_token_id", None)
    ends = {tokenizer.eos_token_id, *(of_model if isinstance(of_model, list) else [of_model])} - {None}
    config = GenerationConfig(
        do_sample=False, max_new_tokens=most, use_cache=True, eos_token_id=sorted(ends), pad_token_id=_pad(tokenizer)
    )
    causal.generation_config = config
    causal.eval()
    devices = [next(causal.parameters()).device] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield config
    finally:
        causal.generation_config = before
        causal.train(was_training)


@contextmanager
def _adapter(model: Any, *, on: bool) -> Iterator[None]:
    if on or not isinstance(model, PeftModel):
        yield
        return
    with model.disable_adapter():
        yield


def _pad(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
