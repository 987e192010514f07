"""Text pairs -> token ids, cached by content, with the checks that need a tokenizer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from launcher.data.pair import Pair
from launcher.data.table import place_of
from launcher.errors import DataError, Mistake, Warned
from launcher.experiment.hyperparameters import Hyperparameters

from .changes import Changes
from .clock import Clock, today
from .frame import Frame
from .template import Template, Texts, template_options

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
    day: str | None = None  # the day that the chat template has written, in ISO's form; None where it writes none

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
    pairs: Sequence[Pair],
    tokenizer: PreTrainedTokenizerBase,
    hyper: Hyperparameters,
    *,
    source: str,
    cache: Path,
    day: date | None = None,
    system: str | None = None,
) -> Tokens:
    """Token ids of every pair, from the cache where the same tokenizer has seen the same text before.

    ``source`` names the file in mistakes, ``system`` the place of the system text. ``day``: the one that a chat template may
    write, by default that of template_date or today. Raises ExperimentError where the template takes no system text or cannot be
    used, and DataError where it leaves nothing of an answer, where a prompt alone fills ``max_seq_length``, and where the
    template or cutting leaves a pair without a difference.
    """
    clock = Clock(day or (date.fromisoformat(hyper.template_date) if hyper.template_date else today()))
    template = Template(tokenizer, hyper, clock, system=system)
    texts = template.texts(pairs, source)
    changes = Changes(template, Frame.of(template), source)
    changes.look(pairs, texts)
    if changes.mistakes:
        raise DataError(changes.mistakes)
    ids = _cached(texts, pairs, template, cache)
    whole = [pair for pair, _ in ids]
    _check_lengths(whole, hyper.max_seq_length, source)
    kept = [_cut(pair, hyper.max_seq_length) for pair in whole]
    _check_difference(kept, whole, hyper.max_seq_length, source)
    cut = sum((a.chosen != b.chosen) + (a.rejected != b.rejected) for a, b in zip(kept, whole, strict=True))
    merged = sum(1 for number, (_, lost) in enumerate(ids) if lost and number not in changes.differing)
    found = [
        *_lengths(cut, merged, len(ids), hyper, source),
        *changes.sentences(len(pairs)),
        *changes.frame.notices(template, has_system=any(pair.system for pair in pairs)),
        *_settings(template, hyper),
    ]
    return Tokens(kept, cut, tuple(found), clock.day.isoformat() if clock.was_read else None)


def _cached(texts: Sequence[Texts], pairs: Sequence[Pair], template: Template, cache: Path) -> list[tuple[TokenPair, int]]:
    """``_encode``, from the cache where it has them, which it then has."""
    file = cache / "tokens" / f"{_key(texts, template.tokenizer)}.parquet"
    ids = _read(file, pairs)
    if ids is None:
        ids = _encode(texts, pairs, template)
        _write(file, ids)
    return ids


def _encode(texts: Sequence[Texts], pairs: Sequence[Pair], template: Template) -> list[tuple[TokenPair, int]]:
    """(ids, how many ids at the prompt's end are not shared with both answers) per pair.

    The answers begin where prompt and prompt + answer diverge, as in TRL: tokens may merge across the boundary.
    """
    # A chat template writes its own special tokens; plain text gets the tokenizer's (a BOS, say).
    columns = []
    for part in range(3):
        one = [three[part] for three in texts]
        columns.append(
            [
                ids
                for batch in _batches(one)
                for ids in template.tokenizer(batch, add_special_tokens=not template.is_chat)["input_ids"]
            ]
        )
    found = []
    for pair, begun, chosen, rejected in zip(pairs, *columns, strict=True):
        prompt = begun[:-1] if template.adds_eos else begun
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
            "the tokenizer makes the same tokens of both answers"
            if before.chosen == before.rejected
            else f"both answers are identical after the cut at max_seq_length ({limit} tokens)",
            expected="different answers",
            found=f"the same first {len(pair.chosen)} tokens (of {len(before.chosen)} and {len(before.rejected)})",
        )
        for pair, before in zip(kept, whole, strict=True)
        if pair.chosen == pair.rejected
    ]
    if mistakes:
        raise DataError(mistakes)


def _lengths(cut: int, merged: int, pairs: int, hyper: Hyperparameters, source: str) -> Iterator[str]:
    if cut:
        yield Warned(
            f"{source}: {cut:,} of {2 * pairs:,} answers are longer than max_seq_length ({hyper.max_seq_length}) and are cut; "
            "raise hyperparameters.max_seq_length to keep them whole"
        )
    if merged:
        yield f"{source}: in {merged:,} of {pairs:,} pairs the tokenizer merges the end of the prompt with the answer"


def _settings(template: Template, hyper: Hyperparameters) -> Iterator[str]:
    """What the settings of the template do, and which have no effect."""
    if not template.is_chat:
        yield Warned("the tokenizer has no chat template: prompts are plain text")
    given = [*template_options(hyper), *(["add_generation_prompt"] if hyper.add_generation_prompt is not None else [])]
    for name in given:
        if name not in template.variables:
            yield Warned(f"{name} has no effect: the chat template does not use it")
    clock = template.clock
    if not clock.was_read:
        if hyper.template_date is not None:
            yield Warned("template_date has no effect: the chat template writes no date")
        return
    day = clock.day.isoformat()
    if hyper.template_date is not None:
        yield f"the chat template writes the date: {day} (template_date)"
    else:
        yield (
            f"the chat template writes the date: {day}, the day of the run's first start, which its resumes keep; set "
            f"`template_date: {day}` under hyperparameters to give later runs the same tokens and the cached reference"
        )


def _key(rendered: Sequence[Texts], tokenizer: PreTrainedTokenizerBase) -> str:
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
