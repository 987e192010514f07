"""The messages that the source raises: the texts of its errors, with … for what is filled in."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from launcher import errors
from launcher.errors import DataError, ExperimentError, LauncherError

from .pages import ROOT

_CLASSES: Final = {
    name: one for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, LauncherError) and name[0] != "_"
}
_PARTS: Final = ("where", "what", "expected", "found", "hint")  # of a Mistake
_WORDS: Final = 3  # fewer say nothing without what is filled in


@dataclass(frozen=True, order=True)
class Message:
    """``fix``: what is expected and the hint, each with its label; empty if the message has neither."""

    text: str
    fix: str = ""


def raised() -> dict[int, list[Message]]:
    """Exit code -> the messages that end with it, sorted; those of a ``Mistake`` by its file: rows and cells are data."""
    found: dict[int, set[Message]] = defaultdict(set)
    for folder in ("launcher", "trainer"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            of_data = path.is_relative_to(ROOT / "launcher" / "data")
            for code, message in _of_tree(ast.parse(path.read_text(encoding="utf-8")), of_data=of_data):
                if len(re.findall(r"[^\W\d]{2,}", message.text)) >= _WORDS:
                    found[code].add(message)
    return {code: sorted(messages) for code, messages in found.items()}


def _of_tree(tree: ast.AST, *, of_data: bool) -> Iterator[tuple[int, Message]]:
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        name = call.func.id
        if name == "Mistake":
            code = (DataError if of_data else ExperimentError).exit_code
            parts = dict(zip(_PARTS, call.args, strict=False)) | {one.arg: one.value for one in call.keywords if one.arg}
            texts = {part: _text(parts.get(part)) for part in ("what", "expected", "hint")}
            if texts["what"]:
                fixes = (f"{part}: {texts[part]}" for part in ("expected", "hint") if texts[part])
                yield code, Message(texts["what"], "; ".join(fixes))
        elif name in _CLASSES and call.args and (text := _text(call.args[0])):
            head, *rest = text.splitlines()
            lines = (" ".join(line.split()) for line in rest)
            yield _CLASSES[name].exit_code, Message(head, "; ".join(line for line in lines if line.strip("…")))


def _text(node: ast.expr | None) -> str:
    """The text of a literal, with … for each value in it; empty for another expression."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(one.value if isinstance(one, ast.Constant) else "…" for one in values)
    return ""
