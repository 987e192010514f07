"""Every name that the source writes into run.json has a meaning, and no meaning is of a name that nobody writes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from launcher.runs.fields import LOG, RECORD

ROOT = Path(__file__).parents[3]
MADE = ("first_record", "started")  # return the first entries


def written() -> Iterator[str]:
    """Keywords of ``update_record``, and the keys that the makers of a record return."""
    for path in [*(ROOT / "launcher").rglob("*.py"), *(ROOT / "trainer").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update_record":
                yield from (one.arg for one in node.keywords if one.arg is not None)
            if isinstance(node, ast.FunctionDef) and node.name in MADE and path.name == "record.py":
                yield from (key.value for made in ast.walk(node) if isinstance(made, ast.Dict) for key in made.keys
                            if isinstance(key, ast.Constant) and key.value != "state")  # fmt: skip


def test_every_entry_that_is_written_has_a_meaning() -> None:
    assert set(written()) - RECORD.keys() == set()


def test_every_meaning_is_of_an_entry_that_the_source_names() -> None:
    source = "\n".join(path.read_text() for room in ("launcher", "trainer") for path in (ROOT / room).rglob("*.py")
                        if path.name != "fields.py")  # fmt: skip
    assert [name for name in RECORD if f'"{name}"' not in source and f"{name}=" not in source] == []


def test_a_field_of_the_log_has_known_lines() -> None:
    assert {line for field in LOG.values() for line in field.lines} == {"train", "eval", "summary"}
