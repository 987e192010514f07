"""Parses YAML into nodes, and reports every mistake at once.

PyYAML's composer stops at the first mistake, follows YAML 1.1 (``5e-6`` is text, ``no`` is false) and silently keeps the last
of two equal keys. This one works on PyYAML's events: scalars follow YAML 1.2's core schema, aliases share their anchor's node,
and nothing is expanded before its size is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.reader import Reader

from ...errors import Mistake, nearest
from .yaml_nodes import (
    LINE_BREAK,
    BrokenNode,
    Entry,
    ListNode,
    MappingNode,
    Node,
    Place,
    Scalar,
    ScalarNode,
    Source,
    by_place,
    has_broken,
    place_at,
)

MOST_NODES: Final = 10_000
MOST_DEPTH: Final = 50


def compose(text: str, source: Source) -> tuple[Node | None, list[Mistake]]:
    """The root node of ``text``, and its mistakes in order.

    The node is None for empty text, or if a mistake in syntax, size or depth ended the parsing.
    """
    composer = _Composer(source)
    node: Node | None = None
    try:
        node = composer.document(yaml.parse(text, Loader=_LOADER))
    except yaml.reader.ReaderError:
        composer.mistakes.append(_control_character(text, source))
    except yaml.MarkedYAMLError as error:
        composer.mistakes.append(_syntax(error, source))
    except _Stop:
        pass
    composer.report_undefined()
    return node, sorted(composer.mistakes, key=by_place)


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Stop(Exception):
    """Ends the parsing of a text that is too large or too deep. The mistake is already recorded."""


@dataclass
class _Composer:
    source: Source
    mistakes: list[Mistake] = field(default_factory=list)
    anchors: dict[str, tuple[Node, int]] = field(default_factory=dict)  # anchor -> (node, number of nodes when expanded)
    anchor_lines: dict[str, int] = field(default_factory=dict)
    undefined: list[tuple[str, Place]] = field(default_factory=list)
    size: int = 0  # nodes so far, with aliases expanded

    def document(self, events: Iterator[Any]) -> Node | None:
        self.events = events
        self._next()  # stream start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        node = self._node(self._next(), 1, None)
        self._next()  # document end
        more = self._next()
        if isinstance(more, yaml.DocumentStartEvent):
            # the mark is on the line of dashes or just before it
            self._wrong(self._at(more, 3), "second document in the file", hint="remove the line '---'")
        return node

    def report_undefined(self) -> None:
        """Reports undefined aliases at the end, when all anchors are known: one defined further down gets a special hint."""
        for name, place in self.undefined:
            hint = nearest(name, self.anchor_lines)
            if name in self.anchor_lines:
                hint = f"&{name} is defined below, in line {self.anchor_lines[name]}; move it above this line"
            self._wrong(place, f"alias *{name} has no anchor", f"&{name} above this line", hint=hint)

    def _next(self) -> Any:
        return next(self.events)

    def _wrong(self, place: Place, what: str, expected: str | None = None, hint: str | None = None) -> BrokenNode:
        self.mistakes.append(place.mistake(what, expected, hint=hint))
        return BrokenNode(place)

    def _at(self, event: Any, width: int | None = None) -> Place:
        start, end = event.start_mark, event.end_mark
        if width is None:
            width = end.column - start.column if end.line == start.line else 1
        return place_at(self.source, start.line, start.column, width)

    def _node(self, event: Any, depth: int, key: Place | None) -> Node:
        """``key``: the place of the key, for a block whose own first character belongs to its first key."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if depth > MOST_DEPTH:
            self._wrong(self._at(event, 1), f"nested more than {MOST_DEPTH} levels deep")
            raise _Stop
        before = self.size
        self._grow(1, self._at(event, 1))
        if event.anchor is not None:
            self.anchor_lines.setdefault(event.anchor, event.start_mark.line + 1)
            self.anchors[event.anchor] = (BrokenNode(self._at(event, 1)), 0)
        if isinstance(event, yaml.ScalarEvent):
            node: Node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, depth, key)
        else:
            node = self._mapping(event, depth, key)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.size - before)
        return node

    def _grow(self, nodes: int, place: Place) -> None:
        self.size += nodes
        if self.size > MOST_NODES:
            self._wrong(place, f"more than {MOST_NODES} values (aliases expanded)")
            raise _Stop

    def _alias(self, event: Any) -> Node:
        place = self._at(event)
        if event.anchor not in self.anchors:
            self.undefined.append((event.anchor, place))
            return BrokenNode(place)
        node, size = self.anchors[event.anchor]
        if size == 0:
            return self._wrong(place, f"alias *{event.anchor} is inside its own anchor")
        self._grow(size, place)
        return node

    def _collectionplace_at(self, event: Any, key: Place | None) -> Place:
        if event.anchor is not None:
            return self._at(event, len(event.anchor) + 1)
        return key if key is not None and not event.flow_style else self._at(event, 1)

    def _scalar(self, event: Any) -> Node:
        place = self._at(event)
        if event.tag not in (None, "!", _TEXT_TAG):
            return self._tagged(event)
        if event.anchor is not None or event.tag is not None:  # point at the value, not at its anchor or tag
            written = _PROPERTIES.match(self.source.lines[place.line - 1], place.column - 1)
            skip = len(written[0]) if written else 0
            place = Place(self.source, place.line, place.column + skip, max(1, place.width - skip))
        plain = not event.style and event.tag is None and event.implicit[0]
        return ScalarNode(place, _resolve(event.value) if plain else event.value, plain)

    def _tagged(self, event: Any) -> BrokenNode:
        tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
        return self._wrong(self._at(event, len(tag)), f"tag {tag} is not supported", "a value without a tag")

    def _list(self, event: Any, depth: int, key: Place | None) -> Node:
        items = []
        while not isinstance(item := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(item, depth + 1, None))
        place = self._collectionplace_at(event, key)
        return ListNode(place, tuple(items)) if event.tag is None else self._tagged(event)

    def _mapping(self, event: Any, depth: int, key: Place | None) -> Node:
        entries: dict[str, Entry] = {}
        merged: list[MappingNode] = []
        merge: Place | None = None
        while not isinstance(key_event := self._next(), yaml.MappingEndEvent):
            name, place = self._key(key_event, depth)
            node = self._node(self._next(), depth + 1, place)
            if name == "<<" and not key_event.style:
                if merge is not None:
                    hint = f"first defined in line {merge.line}; merge several with <<: [*first, *second]"
                    self._wrong(place, "duplicate key '<<'", hint=hint)
                merge = merge or place
                merged += self._merged(node, place)
                if has_broken(node):
                    entries["<<"] = Entry(place, BrokenNode(place))  # expected keys are missing
            elif name is not None and name in entries:
                self._wrong(place, f"duplicate key {name!r}", hint=f"first defined in line {entries[name].key.line}")
            elif name is not None:
                entries[name] = Entry(place, node)
        for mapping in merged:  # the mapping's own keys win, then earlier merged ones (YAML 1.1 merge)
            entries = {**mapping.entries, **entries}
        place = self._collectionplace_at(event, key)
        return MappingNode(place, entries, event.anchor) if event.tag is None else self._tagged(event)

    def _key(self, event: Any, depth: int) -> tuple[str | None, Place]:
        place = self._at(event)
        if isinstance(event, yaml.ScalarEvent):
            self._grow(1, place)
            return str(event.value), place
        node = self._node(event, depth + 1, None)
        if isinstance(node, ScalarNode):
            return str(node.value), place
        if not isinstance(node, BrokenNode):
            self._wrong(place, "a key must be text")
        return None, place

    def _merged(self, node: Node, key: Place) -> list[MappingNode]:
        if isinstance(node, BrokenNode):
            return []
        nodes: Sequence[Node] = node.items if isinstance(node, ListNode) else (node,)
        for wrong in nodes:
            if not isinstance(wrong, MappingNode | BrokenNode):
                self._wrong(key, "<< must merge a mapping", "an alias of a mapping, or a list of them")
        return [n for n in nodes if isinstance(n, MappingNode)]


_TEXT_TAG = "tag:yaml.org,2002:str"
_PROPERTIES = re.compile(r"([&!]\S*\s+)+")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,99})|0o[0-7]{1,99}|0x[0-9a-fA-F]{1,99}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(sign + "inf") for sign in ("", "-", "+") for word in (".inf", ".Inf", ".INF")},
    **{word: float("nan") for word in (".nan", ".NaN", ".NAN")},
}


def _resolve(text: str) -> Scalar:
    """A plain scalar by YAML 1.2's core schema (10.3.2), except that 007 stays text: as an id it differs from 7."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and not re.fullmatch(r"[-+]?[0-9]+", text):
        return float(text)
    return text


def _control_character(text: str, source: Source) -> Mistake:
    found = Reader.NON_PRINTABLE.search(text)
    before = text[: found.start()] if found else ""
    lines = LINE_BREAK.split(before)
    what = f"the character U+{ord(found[0]):04X} is not allowed in YAML" if found else "not readable as YAML"
    return place_at(source, len(lines) - 1, len(lines[-1])).mistake(what)


_UNCLOSED = {
    "quoted scalar": "this quote is not closed",
    "flow sequence": "this list is not closed, or a comma is missing",
    "flow mapping": "this mapping is not closed, or a comma is missing",
}
_INDENT = (
    "did not find expected key",
    "expected <block end>",
    "did not find expected '-' indicator",
    "could not find expected ':'",
)


def _syntax(error: yaml.MarkedYAMLError, source: Source) -> Mistake:
    """A syntax mistake in plain words, or in PyYAML's words if there are none."""
    mark = error.problem_mark or error.context_mark
    problem, context = error.problem or "is not YAML", error.context or ""
    if mark is None:
        return place_at(source, 0, 0).mistake(problem)
    place = place_at(source, mark.line, mark.column)
    line = source.lines[mark.line] if mark.line < len(source.lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        tabs = sum(1 for other in source.lines if "\t" in other[: len(other) - len(other.lstrip())])
        hint = "replace the tab with spaces" if tabs == 1 else f"{tabs} lines begin with a tab; replace the tabs with spaces"
        return place_at(source, mark.line, indent.index("\t")).mistake("a tab in the indentation", hint=hint)
    for name, words in _UNCLOSED.items():
        if name in context and error.context_mark is not None:
            start = error.context_mark
            return place_at(source, start.line, start.column).mistake(words)
    if "node content" in problem:
        last = max((n for n, other in enumerate(source.lines) if other.strip()), default=0)
        if mark.line >= last and not line[place.column - 1 :].strip():
            end = Place(source, last + 1, max(1, len(source.lines[last].rstrip())))
            return end.mistake("the text ends inside an unclosed list or mapping")
        return place.mistake("missing value")
    if "mapping values are not allowed" in problem:
        return place.mistake("second ':' in this line", hint="quote the text, or correct the indentation")
    if "cannot start any token" in problem:
        character = line[place.column - 1 : place.column]
        return place.mistake(f"a value cannot begin with {character!r}", hint="quote the value")
    if any(words in problem for words in _INDENT):
        return place.mistake("the indentation does not match the lines above", hint="correct it, or add a missing ':' above")
    return place.mistake(f"{problem} {context}".strip())
