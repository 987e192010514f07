"""Generates a model's answers, for samples and after the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList, TextStreamer


@dataclass(frozen=True)
class Wish:
    """``most``: tokens of an answer; ``temperature``: 0 is greedy, else all tokens are drawn from by ``seed``."""

    most: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """``tokens``: with the one that ends it. ``finish``: stop (it ended), length (cut at the most) or stopped (on request)."""

    text: str
    tokens: int
    finish: str

    @property
    def is_cut(self) -> bool:
        return self.finish == "length"


def answers(model: Any, tokenizer: Any, prompts: Sequence[list[int]], most: int, *, with_adapter: bool) -> list[Answer]:
    """Greedy answers of at most ``most`` tokens; ``with_adapter`` false: with the adapter switched off, if the model has one."""
    with _adapter(model, on=with_adapter):
        return generate(model, tokenizer, prompts, Wish(most))


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    wish: Wish,
    *,
    told: Callable[[str], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> list[Answer]:
    """The answers to ``prompts``, token ids.

    ``told`` gets the text of one answer word by word; generation ends early once ``stopped`` is true. ``model`` is left as it
    was: its mode, its generation settings and the state of all random numbers.
    """
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    device, pad = next(causal.parameters()).device, _pad(tokenizer)
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(one)) + one for one in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=device)
    options: dict[str, Any] = {"streamer": _Words(tokenizer, told)} if told is not None else {}
    if stopped is not None:
        options["stopping_criteria"] = StoppingCriteriaList([_Stop(stopped)])
    with _as_for_generation(causal, tokenizer, wish) as config, torch.no_grad():
        found = causal.generate(input_ids=ids, attention_mask=mask, generation_config=config, **options)
    was_stopped = stopped is not None and stopped()
    return [_answer(one, config, tokenizer, was_stopped=was_stopped) for one in found[:, longest:].tolist()]


def _answer(ids: list[int], config: GenerationConfig, tokenizer: Any, *, was_stopped: bool) -> Answer:
    """``ids``: of the answer, padded after its end."""
    end = next((place for place, one in enumerate(ids, start=1) if one in config.eos_token_id), None)
    finish = "stop" if end is not None else "stopped" if was_stopped and len(ids) < config.max_new_tokens else "length"
    kept = ids if end is None else ids[:end]
    return Answer(tokenizer.decode(kept, skip_special_tokens=True).strip(), len(kept), finish)


class _Words(TextStreamer):
    """Streams the text of an answer word by word."""

    def __init__(self, tokenizer: Any, told: Callable[[str], None]):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._told = told

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self._told(text)


class _Stop(StoppingCriteria):
    def __init__(self, stopped: Callable[[], bool]):
        self._stopped = stopped

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self._stopped(), device=input_ids.device)


@contextmanager
def _as_for_generation(causal: Any, tokenizer: Any, wish: Wish) -> Iterator[GenerationConfig]:
    """Sets evaluation mode, without the model's own sampling settings."""
    before, was_training = causal.generation_config, causal.training
    of_model = getattr(before, "eos_token_id", None)
    ends = {tokenizer.eos_token_id, *(of_model if isinstance(of_model, list) else [of_model])} - {None}
    draws = {"do_sample": True, "temperature": wish.temperature, "top_k": 0, "top_p": 1.0} if wish.temperature else {}
    config = GenerationConfig(
        **{"do_sample": False, **draws},
        max_new_tokens=wish.most,
        use_cache=True,
        eos_token_id=sorted(ends),
        pad_token_id=_pad(tokenizer),
    )
    causal.generation_config = config
    causal.eval()
    devices = [next(causal.parameters()).device] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            if wish.temperature:
                torch.manual_seed(wish.seed)
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
