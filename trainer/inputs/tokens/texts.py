"""The texts of all pairs: rendered and checked once, in chunks if the pairs are too large for memory; the result is
cached, so that the same pairs are not rendered again.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from launcher.data.tables.streamed import Streamed
from launcher.data.text.pair import Pair
from launcher.errors import DataError, Mistake, Warned
from launcher.runs.whole import write_whole

from . import changes, frame, template
from .changes import Changes
from .template import Template, Texts

CHUNK: Final = 4096  # pairs whose texts are in memory at once


@dataclass(frozen=True)
class Looked:
    """``key``: the hash of all texts. ``repeated``: how many pairs have the texts of an earlier one. ``differing``: the numbers
    of pairs whose text with an answer does not begin with the prompt. ``sentences``: what the template changes. ``read_clock``:
    whether it writes the date.
    """

    key: str
    repeated: int
    differing: frozenset[int]
    sentences: tuple[str, ...]
    read_clock: bool


class TextsOf:
    """The texts of ``pairs`` by ``template``: in memory where the pairs are, else made again for each pass.

    ``source`` names the file in mistakes, ``changes`` takes note of what it sees.
    """

    def __init__(self, pairs: Sequence[Pair], template: Template, changes: Changes, source: str):
        self._pairs, self._template, self._changes, self._source = pairs, template, changes, source
        self._kept: list[Texts] | None = None

    def __iter__(self) -> Iterator[Texts]:
        for _, texts in self._chunks():
            yield from texts

    def looked(self, cache: Path, key: str) -> tuple[Looked, array[int]]:
        """The check's result, and the line of each pair; from the cache if possible.

        ``key``: of the tokenizer. Raises what ``Template.texts`` raises, and DataError for pairs that cannot be trained on.
        """
        digest, lines = hashlib.sha256(), array("q")
        for pair in self._pairs:
            digest.update(repr(pair).encode("utf-8", "surrogatepass"))
            lines.append(pair.line)
        file = cache / "looked" / f"{self._named(digest.hexdigest(), key)}.json"
        found = _read(file)
        if found is None:
            found = self._look(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(_written(found)))
        self._template.clock.was_read |= found.read_clock
        return found, lines

    def _named(self, pairs: str, key: str) -> str:
        """The cache key: everything that the texts, and the sentences about them, depend on."""
        made = self._template
        about = (pairs, key, self._source, made.is_chat and made.tokenizer.get_chat_template(), made.options, made.begins_answer)
        return hashlib.sha256(repr((*about, made.clock.day, _code())).encode("utf-8", "surrogatepass")).hexdigest()

    def _look(self, key: str) -> Looked:
        digest, there, first = hashlib.sha256(key.encode()), set[int](), 0
        for pairs, texts in self._chunks():
            self._changes.look(pairs, texts, first)
            first += len(texts)
            for three in texts:
                there.add(hash(three))
                for text in three:
                    digest.update(b"none" if text is None else f"{len(text)}:".encode() + text.encode("utf-8", "surrogatepass"))
        if self._changes.mistakes:
            raise DataError(self._changes.mistakes)
        sentences = tuple(self._changes.sentences(first))
        differing = frozenset(self._changes.differing)
        return Looked(digest.hexdigest(), first - len(there), differing, sentences, self._template.clock.was_read)

    def _chunks(self) -> Iterator[tuple[Sequence[Pair], Sequence[Texts]]]:
        """Raises DataError at the end for all pairs that the template refuses."""
        if not isinstance(self._pairs, Streamed):
            self._kept = self._kept if self._kept is not None else self._template.texts(self._pairs, self._source)
            yield self._pairs, self._kept
            return
        mistakes: list[Mistake] = []
        for start in range(0, len(self._pairs), CHUNK):
            some = self._pairs[start : start + CHUNK]
            try:
                yield some, self._template.texts(some, self._source)
            except DataError as error:
                mistakes += error.mistakes
        if mistakes:
            raise DataError(mistakes)


@lru_cache(maxsize=1)
def _code() -> str:
    """The hash of the code that renders and checks: results of another version are not used."""
    files = [Path(str(module.__file__)) for module in (changes, frame, template)]
    versions = " ".join(version(name) for name in ("transformers", "jinja2"))
    return hashlib.sha256(b"".join([versions.encode(), *(file.read_bytes() for file in files)])).hexdigest()


def _written(found: Looked) -> Mapping[str, Any]:
    sentences = [[sentence, isinstance(sentence, Warned)] for sentence in found.sentences]
    return {**vars(found), "differing": sorted(found.differing), "sentences": sentences}


def _read(file: Path) -> Looked | None:
    """None if the file is missing or damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        sentences = tuple(Warned(text) if is_warning else str(text) for text, is_warning in found["sentences"])
        return Looked(**{**found, "differing": frozenset(found["differing"]), "sentences": sentences})
    except (OSError, ValueError, KeyError, TypeError):
        return None
