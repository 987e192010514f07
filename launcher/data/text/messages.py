"""Reads a list of chat messages from a cell, whatever its keys and roles are called, into the form of chat templates."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ...experiment.sections.columns import ColumnMapping
from ..tables.surrogates import HALF, half_in, may_have_halves
from .chat import Messages, function_of

CALL: Final = "function_call"  # a role whose text is a call, in data for LLaMA-Factory
ROLES: Final[Mapping[str, str]] = {
    "system": "system",
    "developer": "developer",
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai", "bing", "bard", "claude"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "function_response", "tool_response"), "tool"),
    CALL: CALL,
}
KNOWN: Final = ("system", "developer", "user", "assistant", "tool")
_ROLE: Final = ("role", "from")
_CONTENT: Final = ("content", "value")
_EXAMPLE: Final = '{"role": "user", "content": "…"}'
_BEGINS: Final = re.compile(r"\s*\[?\s*\{\s*(['\"])(?:role|content|from|value)\1\s*:")
_NUMPY: Final = re.compile(r"\}\r?\n\s*\{")  # no text of a Python list has a line break
_HUMAN: Final = "\n\nHuman:"
_TURN: Final = re.compile(r"\n\n(Human|Assistant):")
_JSON: Final = json.JSONDecoder(strict=False)  # a cell may have line breaks inside a text
_EXCEL: Final = 32_767  # characters of a cell that Excel has cut


@dataclass(eq=False)
class Unreadable(Exception):
    """Why a cell is not a list of messages; ``inside``: where in the list, such as ``[2].content``."""

    inside: str
    what: str
    expected: str | None = None
    found: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class Spelling:
    """How messages are written. ``role`` and ``content``: their keys; None: the known ones. ``roles``: other names -> ours."""

    role: str | None = None
    content: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, columns: ColumnMapping) -> Spelling:
        return cls(columns.role_key, columns.content_key, {name.lower(): role for name, role in (columns.roles or {}).items()})

    def is_messages(self, cell: str) -> bool:
        """Whether ``cell`` is meant as messages: a list of them, one of a known role, a damaged list, or ``\\n\\nHuman: …``."""
        begin = cell.lstrip()[:1]
        if begin not in ("[", "{"):
            return cell.startswith(_HUMAN) and "\n\nAssistant:" in cell
        try:
            found = loaded(cell)
        except Unreadable:
            return _BEGINS.match(cell) is not None and any(f"{a}{key}{a}" in cell for key in self._role_keys for a in "'\"")
        several = found if isinstance(found, list) else [found]
        if not several or not all(isinstance(one, dict) and self._is_message(one) for one in several):
            return False
        return isinstance(found, list) or (self._name(several[0]) in ROLES or self._name(several[0]) in self.roles)

    def read(self, cell: str, *, no_nulls: bool = False) -> Messages:
        """The messages of ``cell``, with our keys and roles; raises Unreadable.

        ``no_nulls``: nulls inside tool calls are no values, but columns of Arrow that another row has.
        """
        if cell.startswith(_HUMAN):
            return _of_transcript(cell)
        if cell.lstrip()[:1] not in ("[", "{"):
            raise Unreadable("", "a cell without messages", f"messages, such as [{_EXAMPLE}]", shown(cell))
        found = loaded(cell)
        several = found if isinstance(found, list) else [found]
        if not several:
            raise Unreadable("", "an empty list", "at least one message")
        messages = tuple([self._message(place, one, no_nulls) for place, one in enumerate(several)])
        late = next((place for place, one in enumerate(messages) if place and one["role"] == "system"), None)
        if late is not None:
            raise Unreadable(f"[{late}].role", "a system message that is not the first", "system first")
        return messages

    def keys(self, cell: str) -> str:
        """How ``cell`` spells its messages, for a person: ``role, content``."""
        if cell.startswith(_HUMAN):
            return "Human: …, Assistant: …"
        found = loaded(cell)
        first = found[0] if isinstance(found, list) else found
        role, content = (next((key for key in keys if key in first), keys[0]) for keys in (self._role_keys, self._content_keys))
        return f"{role}, {content}"

    @property
    def _role_keys(self) -> tuple[str, ...]:
        return _ROLE if self.role is None else (self.role,)

    @property
    def _content_keys(self) -> tuple[str, ...]:
        return _CONTENT if self.content is None else (self.content,)

    def _is_message(self, one: Mapping[str, Any]) -> bool:
        has_text = any(key in one for key in (*self._content_keys, "tool_calls"))
        return has_text and any(key in one for key in self._role_keys)

    def _name(self, one: Mapping[str, Any]) -> str:
        return next((str(one[key]).strip().lower() for key in self._role_keys if one.get(key) is not None), "")

    def _message(self, place: int, one: Any, no_nulls: bool) -> Mapping[str, Any]:
        if isinstance(one, dict) and self._is_ours(one):
            return one
        where = f"[{place}]"
        if not isinstance(one, dict):
            raise Unreadable(where, "not a message", f"an object such as {_EXAMPLE}", shown(one))
        role = self._role_of(where, one)
        names = (*self._role_keys, *self._content_keys, "tool_calls")
        rest = {key: value for key, value in one.items() if key not in names and value is not None}
        calls = _calls(f"{where}.tool_calls", one.get("tool_calls"), no_nulls)
        key = next((key for key in self._content_keys if one.get(key) is not None), None)
        if role == CALL:
            call = _calls(f"{where}.{key or self._content_keys[0]}", None if key is None else one[key], no_nulls)
            if not call:
                raise Unreadable(where, "a call without a function", 'a call such as {"name": "…", "arguments": {…}}', shown(one))
            return {"role": "assistant", "content": "", **rest, "tool_calls": call}
        if key is None and not calls:
            hint = "name the key with content_key under dpo_column_mapping_config" if self.content is None else None
            raise Unreadable(where, "a message without text", " or ".join(self._content_keys), ", ".join(one), hint)
        content = "" if key is None else _text(f"{where}.{key}", one[key])
        if not content.strip() and not calls and role in ("user", "assistant"):
            raise Unreadable(f"{where}.{key}", "an empty message", "text", repr(content))
        return {"role": role, "content": content, **rest, **({"tool_calls": calls} if calls else {})}

    def _is_ours(self, one: Mapping[str, Any]) -> bool:
        """Whether a message already has the right form; a fast check, true for most."""
        if len(one) != 2 or self.role is not None or self.content is not None:
            return False
        role, content = one.get("role"), one.get("content")
        return role in KNOWN and role not in self.roles and isinstance(content, str) and bool(content) and not content.isspace()

    def _role_of(self, where: str, one: Mapping[str, Any]) -> str:
        name = self._name(one)
        if not name:
            hint = "name the key with role_key under dpo_column_mapping_config" if self.role is None else None
            raise Unreadable(where, "a message without a role", " or ".join(self._role_keys), ", ".join(one), hint)
        role = self.roles.get(name) or ROLES.get(name)
        if role is None:
            key = next(key for key in self._role_keys if one.get(key) is not None)
            hint = f"map it under dpo_column_mapping_config: `roles: {{{one[key]}: user}}`"
            raise Unreadable(f"{where}.{key}", "an unknown role", ", ".join(KNOWN), repr(one[key]), hint)
        return role


def loaded(cell: str) -> Any:
    """What ``cell`` writes as JSON, as Python or as numpy does; raises Unreadable."""
    found = _loaded(cell)
    if may_have_halves(cell) and (half := half_in(found)) is not None:
        raise Unreadable("", HALF, "both halves, or none", half)
    return found


def _loaded(cell: str) -> Any:
    try:
        return _JSON.decode(cell)
    except (ValueError, RecursionError) as error:
        wrong = error
    for text in (cell, _NUMPY.sub("}, {", cell)) if "'" in cell else ():
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    at = f": {wrong.msg.lower()} at character {wrong.pos + 1}" if isinstance(wrong, json.JSONDecodeError) else ""
    hint = "Excel has cut the cell: export the data without it" if len(cell) == _EXCEL else None
    raise Unreadable("", f"a list of messages that cannot be read{at}", f"JSON such as [{_EXAMPLE}]", shown(cell), hint)


def read_tools(cell: str, *, no_nulls: bool = False) -> tuple[Mapping[str, Any], ...] | None:
    """The tools of a row, None without any; raises Unreadable."""
    if not cell.strip():
        return None
    found = _decoded(loaded(cell))
    found = [_decoded(one) for one in found] if isinstance(found, list) else [found]
    for place, one in enumerate(found):
        if not isinstance(one, dict) or not (function_of(one).get("name") if isinstance(function_of(one), dict) else None):
            raise Unreadable(f"[{place}]", "not a tool", "the JSON schema of a function, with its name", shown(one))
    return tuple(_without_nulls(one) if no_nulls else one for one in found) or None


def is_tools(cell: str) -> bool:
    """Whether ``cell`` is a list of tools."""
    try:
        return read_tools(cell) is not None
    except Unreadable:
        return False


def _of_transcript(cell: str) -> Messages:
    """The messages of ``\\n\\nHuman: …\\n\\nAssistant: …``, as hh-rlhf has them; a prompt may end with ``\\n\\nAssistant:``."""
    _, *parts = _TURN.split(cell)
    parts = parts[:-2] if parts[-2] == "Assistant" and not parts[-1].strip() else parts
    roles = {"Human": "user", "Assistant": "assistant"}
    found = tuple({"role": roles[name], "content": text.strip()} for name, text in zip(parts[::2], parts[1::2], strict=True))
    for place, one in enumerate(found):
        if not one["content"]:
            raise Unreadable(f"[{place}]", "an empty message", "text", repr(parts[2 * place]))
    return found


def _text(where: str, value: Any) -> str:
    """The text of a message; several parts of text are one."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, dict) and isinstance(one.get("text"), str) for one in value):
        return "".join(one["text"] for one in value)
    is_media = isinstance(value, list) and any(isinstance(one, dict) and one.get("type", "text") != "text" for one in value)
    raise Unreadable(where, "images and audio are not supported" if is_media else "not text", "text", shown(value))


def _calls(where: str, value: Any, no_nulls: bool) -> list[Mapping[str, Any]]:
    """Calls of tools in OpenAI's form, with their arguments as objects, as chat templates and servers take them."""
    value = _decoded(value)
    several = [value] if isinstance(value, dict) else value or []
    if not isinstance(several, Sequence) or isinstance(several, str):
        raise Unreadable(where, "not a list of calls", 'calls such as {"name": "…", "arguments": {…}}', shown(value))
    return [_call(f"{where}[{place}]", one, no_nulls) for place, one in enumerate(several)]


def _call(where: str, one: Any, no_nulls: bool) -> Mapping[str, Any]:
    one = _decoded(one)
    function = function_of(one) if isinstance(one, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unreadable(where, "not a call", 'a call such as {"name": "…", "arguments": {…}}', shown(one))
    arguments = _decoded(function["arguments"]) if isinstance(function.get("arguments"), str) else function.get("arguments")
    function = {**function, **({} if arguments is None else {"arguments": arguments})}
    whole = {**one, "function": function} if one.get("function") else {"type": "function", "function": function}
    return _without_nulls(whole) if no_nulls else {key: value for key, value in whole.items() if value is not None}


def _decoded(value: Any) -> Any:
    """The value of a JSON text; other values unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return _JSON.decode(value)
    except ValueError:
        return value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def shown(value: Any) -> str:
    """The beginning of a value."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"
