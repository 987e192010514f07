"""Text pairs -> token ids, cached by content, with the checks that need a tokenizer."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from launcher.data.tables.table import place_of
from launcher.data.text.pair import Pair
from launcher.errors import DataError, Mistake, Warned
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.health import Answers

from .changes import Changes
from .clock import Clock, today
from .frame import Frame
from .template import Template, Texts, template_options
from .texts import TextsOf
from .token_cache import read_ids, write_ids
from .token_pairs import PARTS, Grown, Ids, Numbers, TokenPairs

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

FORMAT = 2  # part of the cache's key: raise it when the ids of the same text change
BATCH = 256


@dataclass(frozen=True)
class Tokens:
    """All pairs of one file as ids, no sequence longer than ``max_seq_length``."""

    pairs: TokenPairs
    cut: int  # answers whose end was cut off
    notices: tuple[str, ...] = field(default=())
    day: str | None = None  # the day that the chat template has written, in ISO's form; None if it writes none
    answers: Answers | None = None  # of these pairs, for the health rules

    @property
    def total(self) -> int:
        """Tokens of one epoch on the plain path, which computes a prompt with each of its answers."""
        return int(self.pairs.padded_tokens.sum())

    @property
    def longest(self) -> int:
        return int(self.pairs.longest.max())

    def dataset(self, reference: Tensor | None = None) -> Dataset:
        """Columns ``prompt_ids``, ``chosen_ids``, ``rejected_ids``: lists of int, as TRL's collator takes them, over the ids
        that lie in memory already.

        With ``reference``, [n, 2], also ``ref_chosen_logps`` and ``ref_rejected_logps``: floats.
        """
        from datasets import Dataset
        from datasets.fingerprint import generate_random_fingerprint

        columns: dict[str, Any] = {f"{name}_ids": self.pairs.column(j) for j, name in enumerate(PARTS)}
        if reference is not None:
            columns |= {f"ref_{name}_logps": pa.array(reference[:, j].numpy()) for j, name in enumerate(PARTS[1:])}
        # Without a fingerprint of ours, all ids would be copied to hash them.
        return Dataset(pa.table(columns), fingerprint=generate_random_fingerprint())


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
    write, by default that of template_date or today. Raises ExperimentError if the template takes no system text or cannot be
    used, and DataError if it leaves nothing of an answer, where a prompt alone fills ``max_seq_length``, and where the
    template or cutting leaves a pair without a difference.
    """
    clock = Clock(day or (date.fromisoformat(hyper.template_date) if hyper.template_date else today()))
    template = Template(tokenizer, hyper, clock, system=system)
    changes = Changes(template, Frame.of(template), source)
    texts = TextsOf(pairs, template, changes, source)
    looked, lines = texts.looked(cache, _key(tokenizer))
    whole, lost = _cached(texts, looked.key, lines, template, cache)
    _check_lengths(whole, hyper.max_seq_length, source)
    lengths = whole.lengths.copy()
    lengths[:, 1:] = np.minimum(lengths[:, 1:], hyper.max_seq_length - lengths[:, :1])
    _check_difference(whole, lengths, hyper.max_seq_length, source)
    cut = int((lengths != whole.lengths).sum())
    merged = len(set(np.flatnonzero(lost).tolist()) - looked.differing)
    found = [
        *_lengths(cut, merged, whole, hyper, source),
        *looked.sentences,
        *changes.frame.notices(template, has_system=any(pair.has_system for pair in pairs)),
        *_settings(template, hyper),
    ]
    answers = _answers(whole, cut, repeated=looked.repeated)
    return Tokens(whole.cut(lengths), cut, tuple(found), clock.day.isoformat() if clock.was_read else None, answers)


def _answers(whole: TokenPairs, cut: int, *, repeated: int) -> Answers | None:
    """``whole``: the pairs before their answers are cut."""
    if not len(whole):
        return None
    lengths = whole.lengths[:, 1 : 1 + whole.answers]
    row = int(whole.lines[lengths.max(axis=1).argmax()])
    return Answers(lengths.size, cut, float(np.median(lengths)), int(lengths.max()), row, repeated, whole.answers)


def _cached(
    texts: Iterable[Texts], key: str, lines: Sequence[int], template: Template, cache: Path
) -> tuple[TokenPairs, Numbers]:
    """``encode``, from the cache where it has them under ``key``, which it then has."""
    file = cache / "tokens" / f"{key}.parquet"
    found = read_ids(file, lines)
    if found is None:
        found = encode(texts, lines, template)
        write_ids(file, *found)
    return found


def encode(texts: Iterable[Texts], lines: Sequence[int], template: Template) -> tuple[TokenPairs, Numbers]:
    """(ids; [n]: how many ids at the prompt's end are not shared with both answers).

    The answers begin where prompt and prompt + answer diverge, as in TRL: tokens may merge across the boundary.
    """
    grown, lost = Grown(), array("q")
    rest = iter(texts)
    while some := list(islice(rest, BATCH)):
        columns = [[one for one in column if one is not None] for column in zip(*some, strict=True)]
        # A chat template writes its own special tokens; plain text gets the tokenizer's (a BOS, say).
        ids = [template.tokenizer(one, add_special_tokens=not template.is_chat)["input_ids"] for one in columns if one]
        for begun, *both in zip(*ids, strict=True):
            prompt, *answers = (np.array(one, np.int32) for one in (begun, *both))
            if template.adds_eos:
                prompt = prompt[:-1]
            shared = min(_common(prompt, answer) for answer in answers)
            parts = [answer[shared:] for answer in answers]
            grown.add(prompt[:shared], *parts, *[np.empty(0, np.int32)] * (2 - len(parts)))
            lost.append(len(prompt) - shared)
    return grown.pairs(lines), np.array(lost, np.int64)


def _common(a: Ids, b: Ids) -> int:
    size = min(len(a), len(b))
    differs = np.flatnonzero(a[:size] != b[:size])
    return int(differs[0]) if len(differs) else size


def _check_lengths(pairs: TokenPairs, limit: int, source: str) -> None:
    prompts = pairs.lengths[:, 0]
    mistakes = [
        Mistake(
            place_of(source, int(pairs.lines[place])),
            "the prompt leaves no room for an answer",
            expected=f"a prompt shorter than max_seq_length ({limit} tokens)",
            found=f"{prompts[place]} tokens",
            hint="raise hyperparameters.max_seq_length or shorten the prompt",
        )
        for place in np.flatnonzero(prompts >= limit)
    ]
    if mistakes:
        raise DataError(mistakes)


def _check_difference(whole: TokenPairs, kept: Numbers, limit: int, source: str) -> None:
    """``kept``: [n, 3], the ids of each part that are trained on."""
    mistakes = []
    (_, chosen, rejected), (_, first, second) = whole.ids, whole.begins.T
    for place in np.flatnonzero(kept[:, 1] == kept[:, 2]):
        count = int(kept[place, 1])
        one, other = chosen[first[place] :][:count], rejected[second[place] :][:count]
        if not np.array_equal(one, other):
            continue
        before = whole[int(place)]
        mistakes.append(
            Mistake(
                place_of(source, before.line),
                "the tokenizer makes the same tokens of both answers"
                if before.chosen == before.rejected
                else f"both answers are identical after the cut at max_seq_length ({limit} tokens)",
                expected="different answers",
                found=f"the same first {count} tokens (of {len(before.chosen)} and {len(before.rejected)})",
            )
        )
    if mistakes:
        raise DataError(mistakes)


def _lengths(cut: int, merged: int, pairs: TokenPairs, hyper: Hyperparameters, source: str) -> Iterator[str]:
    if cut:
        yield Warned(
            f"{source}: {cut:,} of {pairs.answers * len(pairs):,} answers are longer than max_seq_length "
            f"({hyper.max_seq_length}) and are cut; "
            "raise hyperparameters.max_seq_length to keep them whole"
        )
    if merged:
        yield f"{source}: in {merged:,} of {len(pairs):,} pairs the tokenizer merges the end of the prompt with the answer"


def _settings(template: Template, hyper: Hyperparameters) -> Iterator[str]:
    """Notices about the template's settings, and which have no effect."""
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


def _key(tokenizer: PreTrainedTokenizerBase) -> str:
    """The cache key of the tokenizer: everything that a text's ids depend on."""
    digest = hashlib.sha256(f"{FORMAT} {type(tokenizer).__name__}".encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    digest.update(vocabulary.encode())
    digest.update(json.dumps([tokenizer.special_tokens_map, tokenizer.chat_template is None], default=str).encode())
    return digest.hexdigest()
