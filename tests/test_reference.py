"""The reference lacks nothing: each rule of the settings is broken by an example, each code and public name has its place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainer
from docs.generate import errors
from docs.generate.mistakes import MISTAKES, parsed
from docs.generate.pages import DOCS, ROOT
from docs.generate.raised import Message, raised
from launcher.experiment.sections.data_rules import DATA_RULES
from launcher.health import RULES
from launcher.why.codes import CODES
from trainer import DPOTrainer, Trained

EXPERIMENT = ROOT / "launcher" / "experiment"
PRINTED = "\n".join(f"{one.what}\n{one.expected}\n{one.hint}" for mistake in MISTAKES for one in parsed(mistake))
# Texts that are only found where a value is no text at all, or that another list holds.
ELSEWHERE = ("a mapping of TRL's fields",)


def longest(node: ast.expr) -> str:
    """The longest piece of a text that nothing is filled into."""
    match node:
        case ast.Constant(value=str(text)):
            pieces = re.split(r"\{\w+\}", text)
        case ast.JoinedStr(values=values):
            pieces = [str(one.value) for one in values if isinstance(one, ast.Constant)]
        case _:
            return ""
    return max(pieces, key=len, default="").strip()


def texts(path: Path) -> Iterator[str]:
    """What a file says of settings: the messages of pydantic's errors, and the ends of the sentences about contradictions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "PydanticCustomError":
            yield longest(node.args[1])
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
            yield longest(node.value.elts[1])


@pytest.mark.parametrize("path", sorted(EXPERIMENT.glob("*.py")), ids=lambda path: path.stem)
def test_every_rule_of_the_settings_is_broken_by_an_example(path: Path) -> None:
    wanted = {text for text in texts(path) if len(text) > 8 and text not in ELSEWHERE}
    assert {text for text in wanted if text not in PRINTED} == set()


def test_every_rule_of_the_rows_and_of_a_run_is_on_the_page() -> None:
    assert [name for name in DATA_RULES if f"`{name}`" not in errors.data()] == []
    assert [name for name in RULES if f"`{name}`" not in errors.health()] == []


def test_the_table_of_codes_has_each_code() -> None:
    assert re.findall(r"^\| (\d+) ", errors.codes(), re.MULTILINE) == [str(code) for code in CODES]


def test_messages_are_taken_from_the_source_with_what_to_do() -> None:
    found = raised()
    assert Message("the data of … have no rows", "") not in found[43]
    assert Message("no experiment file found", "expected: *.yml or *.yaml; hint: write a first one: launcher init") in found[42]
    assert any(one.text.startswith("notify: … not set; set it in your environment") for one in found[44])
    assert sum(map(len, found.values())) > 300


def test_every_public_name_of_the_trainer_is_on_its_page() -> None:
    page = (DOCS / "reference" / "python-api.md").read_text()
    assert [name for name in trainer.__all__ if f"trainer.{name}" not in page] == []
    public = [name for name in dir(Trained) if name[0] != "_" and name != "of"] + list(Trained.__dataclass_fields__)
    assert [name for name in public if not re.search(rf"\b{name}\b", page)] == []
    assert [name for name, one in vars(DPOTrainer).items() if name[0] != "_" and callable(one) and name not in page] == []
