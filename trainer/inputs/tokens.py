"""Text pairs -> token ids: chat template, tokenisation, the checks that need a tokenizer, cached by content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from launcher.data.pair import Pair
from launcher.data.table import place_of
from launcher.errors import DataError, Mistake, Warned
from launcher.experiment.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

FORMAT = 1  # part of the cache's key: raise it when the ids of the same text change
BATCH = 1024


@dataclass(frozen=True)
class TokenPair:
    """One pair as ids; ``prompt + chosen`` and ``prompt + rejected`` are what the model sees."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    line: int


@dataclass(frozen=True)
class Tokens:
    """All pairs of one file as ids, no sequence longer than ``max_seq_length``."""

    pairs: list[TokenPair]
    cut: int  # answers whose end was cut off
    notices: tuple[str, ...] = field(default=())

    @property
    def total(self) -> int:
        """Tokens of one epoch on the plain path, which computes every prompt twice."""
        return sum(2 * len(p.prompt) + len(p.chosen) + len(p.rejected) for p in self.pairs)

    @property
    def longest(self) -> int:
        return max(len(p.prompt) + max(len(p.chosen), len(p.rejected)) for p in self.pairs)

    def dataset(self, reference: Tensor | None = None) -> Dataset:
        """Columns ``prompt_ids``, ``chosen_ids``, ``rejected_ids``: lists of int, as TRL's collator takes them.

        With ``reference``, [n, 2], also ``ref_chosen_logps`` and ``ref_rejected_logps``: floats.
        """
        from datasets import Dataset

        columns: dict[str, list[Any]] = {
            "prompt_ids": [p.prompt for p in self.pairs],
            "chosen_ids": [p.chosen for p in self.pairs],
            "rejected_ids": [p.rejected for p in self.pairs],
        }
        if reference is not None:
            columns |= {"ref_chosen_logps": reference[:, 0].tolist(), "ref_rejected_logps": reference[:, 1].tolist()}
        return Dataset.from_dict(columns)


def tokenize(
    pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, hyper: Hyperparameters, *, source: str, cache: Path
) -> Tokens:
    """Token ids of every pair, from the cache where the same tokenizer has seen the same text before.

    ``source`` names the file in mistakes. Raises DataError where a prompt alone fills ``max_seq_length``, and where cutting
    leaves a pair without a difference.
    """
    rendered = [_render(pair, tokenizer, hyper) for pair in pairs]
    file = cache / "tokens" / f"{_key(rendered, tokenizer)}.parquet"
    ids = _read(file, pairs)
    if ids is None:
        ids = _encode(rendered, pairs, tokenizer)
        _write(file, ids)
    whole = [pair for pair, _ in ids]
    _check_lengths(whole, hyper.max_seq_length, source)
    kept = [_cut(pair, hyper.max_seq_length) for pair in whole]
    _check_difference(kept, whole, hyper.max_seq_length, source)
    cut = sum((a.chosen != b.chosen) + (a.rejected != b.rejected) for a, b in zip(kept, whole, strict=True))
    return Tokens(kept, cut, tuple(_notices(ids, cut, tokenizer, hyper, source)))


def _render(pair: Pair, tokenizer: PreTrainedTokenizerBase, hyper: Hyperparameters) -> tuple[str, str, str]:
    """Text of the prompt, of prompt + chosen, and of prompt + rejected, with all special tokens."""
    if tokenizer.chat_template is None:
        prompt = f"{pair.system}\n\n{pair.user}\n\n" if pair.system else f"{pair.user}\n\n"
        end = tokenizer.eos_token or ""
        return prompt, prompt + pair.chosen + end, prompt + pair.rejected + end
    messages = [{"role": "system", "content": pair.system}] if pair.system else []
    messages.append({"role": "user", "content": pair.user})
    options = template_options(hyper)
    begin = hyper.add_generation_prompt is not False
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=begin, **options)
    answers = [
        tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": text}], tokenize=False, **options)
        for text in (pair.chosen, pair.rejected)
    ]
    return str(prompt), str(answers[0]), str(answers[1])


def template_options(hyper: Hyperparameters) -> dict[str, Any]:
    """What the experiment passes to the chat template."""
    options = {"enable_thinking": hyper.enable_thinking, "thinking_mode": hyper.thinking_mode}
    return {name: value for name, value in options.items() if value is not None}


def _encode(
    rendered: Sequence[tuple[str, str, str]], pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[TokenPair, int]]:
    """(ids, how many ids at the prompt's end are not shared with both answers) per pair.

    The answers begin where prompt and prompt + answer diverge, as in TRL: tokens may merge across the boundary.
    """
    # A chat template writes its own special tokens; plain text gets the tokenizer's (a BOS, say).
    special = tokenizer.chat_template is None
    columns = []
    for part in range(3):
        texts = [r[part] for r in rendered]
        columns.append([ids for batch in _batches(texts) for ids in tokenizer(batch, add_special_tokens=special)["input_ids"]])
    found = []
    for pair, prompt, chosen, rejected in zip(pairs, *columns, strict=True):
        shared = min(_common(prompt, chosen), _common(prompt, rejected))
        ids = TokenPair(prompt[:shared], chosen[shared:], rejected[shared:], pair.line)
        found.append((ids, len(prompt) - shared))
    return found


def _batches(texts: list[str]) -> Iterable[list[str]]:
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


def _common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _cut(pair: TokenPair, limit: int) -> TokenPair:
    room = limit - len(pair.prompt)
    return TokenPair(pair.prompt, pair.chosen[:room], pair.rejected[:room], pair.line)


def _check_lengths(pairs: list[TokenPair], limit: int, source: str) -> None:
    mistakes = [
        Mistake(
            place_of(source, pair.line),
            "the prompt leaves no room for an answer",
            expected=f"a prompt shorter than max_seq_length ({limit} tokens)",
            found=f"{len(pair.prompt)} tokens",
            hint="raise hyperparameters.max_seq_length or shorten the prompt",
        )
        for pair in pairs
        if len(pair.prompt) >= limit
    ]
    if mistakes:
        raise DataError(mistakes)


def _check_difference(kept: list[TokenPair], whole: list[TokenPair], limit: int, source: str) -> None:
    mistakes = [
        Mistake(
            place_of(source, pair.line),
            f"both answers are identical after the cut at max_seq_length ({limit} tokens)",
            expected="different answers",
            found=f"the same first {len(pair.chosen)} tokens (of {len(before.chosen)} and {len(before.rejected)})",
        )
        for pair, before in zip(kept, whole, strict=True)
        if pair.chosen == pair.rejected
    ]
    if mistakes:
        raise DataError(mistakes)


def _notices(
    ids: list[tuple[TokenPair, int]], cut: int, tokenizer: PreTrainedTokenizerBase, hyper: Hyperparameters, source: str
) -> Iterable[str]:
    if cut:
        yield Warned(
            f"{source}: {cut:,} of {2 * len(ids):,} answers are longer than max_seq_length ({hyper.max_seq_length}) and are cut; "
            "raise hyperparameters.max_seq_length to keep them whole"
        )
    merged = sum(1 for _, lost in ids if lost)
    if merged:
        yield f"{source}: in {merged:,} of {len(ids):,} pairs the tokenizer merges the end of the prompt with the answer"
    if tokenizer.chat_template is None:
        yield Warned("the tokenizer has no chat template: prompts are plain text")
    for name in template_options(hyper):
        if name not in (tokenizer.chat_template or ""):
            yield Warned(f"{name} has no effect: the chat template does not use it")


def _key(rendered: Sequence[tuple[str, str, str]], tokenizer: PreTrainedTokenizerBase) -> str:
    digest = hashlib.sha256(f"{FORMAT} {type(tokenizer).__name__}".encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    digest.update(vocabulary.encode())
    digest.update(json.dumps([tokenizer.special_tokens_map, tokenizer.chat_template is None], default=str).encode())
    for texts in rendered:
        for text in texts:
            digest.update(f"{len(text)}:".encode() + text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _write(file: Path, ids: list[tuple[TokenPair, int]]) -> None:
    columns = {
        "prompt": [p.prompt for p, _ in ids],
        "chosen": [p.chosen for p, _ in ids],
        "rejected": [p.rejected for p, _ in ids],
        "lost": [lost for _, lost in ids],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.urandom(4).hex()}")  # every rank may write it
    pq.write_table(pa.table(columns), aside)
    aside.replace(file)


def _read(file: Path, pairs: Sequence[Pair]) -> list[tuple[TokenPair, int]] | None:
    """The cached ids, or None where there are none or the file is damaged."""
    try:
        table = pq.read_table(file)
        rows = table.to_pylist()
        found = [
            (TokenPair(r["prompt"], r["chosen"], r["rejected"], p.line), r["lost"]) for r, p in zip(rows, pairs, strict=True)
        ]
    except (OSError, pa.ArrowException, KeyError, ValueError):  # Arrow raises OSError for damage, too
        return None
    return found
