"""Nodes of an experiment file: values with their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from yaml.reader import Reader

from ...errors import Mistake
from ...redact import SECRET

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Source:
    """The text of nodes: a file, or an option of the command line."""

    name: str
    lines: tuple[str, ...]
    is_file: bool = True
    before: int = 0  # characters of the first line before the YAML: an option's KEY=

    @classmethod
    def of(cls, name: str, text: str) -> Source:
        return cls(name, tuple(LINE_BREAK.split(text)))


# Line breaks in YAML 1.1, as PyYAML counts them.
LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


@dataclass(frozen=True)
class Place:
    """``width`` characters of a source at ``line`` and ``column``, both counted from 1."""

    source: Source
    line: int
    column: int
    width: int = 1

    @property
    def label(self) -> str:
        """``file:line``, or the option's name."""
        return f"{self.source.name}:{self.line}" if self.source.is_file else self.source.name

    def mistake(self, what: str, expected: str | None = None, found: str | None = None, hint: str | None = None) -> Mistake:
        where = f"{self.label}:{self.column}" if self.source.is_file else self.label
        line = self.source.lines[self.line - 1] if self.line <= len(self.source.lines) else ""
        shown, column = _excerpt(_without_secrets(line), self.column)
        return Mistake(where, what, expected, found, hint, shown, column, min(self.width, len(shown) + 1 - column))


def _excerpt(line: str, column: int, most: int = 120) -> tuple[str, int]:
    """The part of a long line around ``column``, and the column in it. Control characters are replaced."""
    line = Reader.NON_PRINTABLE.sub("\ufffd", line)
    if len(line) <= most:
        return line, column
    start = max(0, column - 1 - most // 2)
    cut = line[start : start + most]
    return ("…" + cut, column - start + 1) if start else (cut, column)


_SECRET_VALUE = re.compile(rf"({SECRET.pattern.removeprefix('(?i)')}[\w-]*[\"']?\s*[:=]\s*)(.+)", re.IGNORECASE)
_ADDRESS = re.compile(r"(\bnotify[\"']?\s*[:=]\s*)(.*://.*)")  # a secret in place of its variable's name
_COUNTED = re.compile(r"secrets|tokens", re.IGNORECASE)  # exceptions: names of secrets, numbers of tokens


def _without_secrets(line: str) -> str:
    """The line with stars for the value of a key that looks like a secret: errors end up in logs."""
    line = _ADDRESS.sub(lambda m: m[1] + "*" * len(m[2]), line)
    return _SECRET_VALUE.sub(lambda m: m[0] if _COUNTED.search(m[1]) else m[1] + "*" * len(m[3]), line)


def place_at(source: Source, line: int, column: int, width: int = 1) -> Place:
    """From PyYAML's line and column, which start at 0."""
    return Place(source, line + 1, column + 1 + (source.before if line == 0 else 0), max(1, width))


def by_place(mistake: Mistake) -> tuple[str, int, int]:
    """Sort key of mistakes: file, line, column; 0 if missing."""
    file, *numbers = mistake.where.rsplit(":", 2)
    return (
        (file, int(numbers[0]), int(numbers[1]))
        if len(numbers) == 2 and all(map(str.isdigit, numbers))
        else (mistake.where, 0, 0)
    )


@dataclass(frozen=True)
class ScalarNode:
    place: Place
    value: Scalar
    plain: bool = True


@dataclass(frozen=True)
class ListNode:
    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Entry:
    key: Place
    node: Node


@dataclass(frozen=True)
class MappingNode:
    place: Place
    entries: Mapping[str, Entry]
    anchor: str | None = None

    def plus(self, name: str, entry: Entry) -> MappingNode:
        return MappingNode(self.place, {**self.entries, name: entry}, self.anchor)


@dataclass(frozen=True)
class BrokenNode:
    """Stands for a node whose mistake is already reported, so that the rest can be read."""

    place: Place


Node = ScalarNode | ListNode | MappingNode | BrokenNode


def data(node: Node) -> Any:
    """The node as plain dicts, lists and scalars, without broken nodes."""
    if isinstance(node, MappingNode):
        return {name: data(e.node) for name, e in node.entries.items() if not isinstance(e.node, BrokenNode)}
    if isinstance(node, ListNode):
        return [data(item) for item in node.items if not isinstance(item, BrokenNode)]
    return node.value if isinstance(node, ScalarNode) else None


def has_broken(node: Node) -> bool:
    if isinstance(node, MappingNode):
        return any(has_broken(entry.node) for entry in node.entries.values())
    if isinstance(node, ListNode):
        return any(has_broken(item) for item in node.items)
    return isinstance(node, BrokenNode)


def leaves(node: Node, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Place]]:
    """(path, place) of every scalar and every empty mapping or list."""
    if isinstance(node, MappingNode) and node.entries:
        for name, entry in node.entries.items():
            yield from leaves(entry.node, (*path, name))
    elif isinstance(node, ListNode) and node.items:
        for index, item in enumerate(node.items):
            yield from leaves(item, (*path, index))
    else:
        yield path, node.place
