"""A name with dots reaches into objects and lists, wherever an experiment names a column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.data.pairs import Pairs, read_pairs
from launcher.data.tables.reading import Reading
from launcher.errors import DataError
from launcher.experiment.schema import Experiment

ASKED = [{"role": "user", "content": "How hot?"}]
OPENAI = {
    "input": {"messages": ASKED, "tools": [], "parallel_tool_calls": True},
    "preferred_output": [{"role": "assistant", "content": "250 °C."}],
    "non_preferred_output": [{"role": "assistant", "content": "Hot."}],
}
NAMED = {
    "input_columns": {"prompt": "input.messages"},
    "tools": "input.tools",
    "chosen": "preferred_output",
    "rejected": "non_preferred_output",
}


def read(root: Path, rows: list[Any], columns: dict, name: str = "data.jsonl") -> Pairs:
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    if name.endswith(".parquet"):
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / name)
    else:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"model_name": "m", "datasets_path": "data", "train_filename": name, "dpo_column_mapping_config": columns}
    return read_pairs(Experiment.parse(data), Reading(root))


def mistakes(root: Path, *args) -> str:
    with pytest.raises(DataError) as caught:
        read(root, *args)
    return str(caught.value)


def texts(pairs: Pairs) -> list[tuple[str, str, str | None]]:
    return [(pair.user, pair.chosen, pair.rejected) for pair in pairs.train]


def test_openai_s_preferences_have_their_prompt_inside_an_object(tmp_path: Path) -> None:
    pairs = read(tmp_path, [OPENAI], NAMED)
    assert texts(pairs) == [("How hot?", "250 °C.", "Hot.")]
    assert pairs.mapped == ("input.messages", "preferred_output", "non_preferred_output")
    assert [one for one in pairs.notices if "unused" in one] == []
    tool = {"type": "function", "function": {"name": "weigh"}}
    [pair] = read(tmp_path, [{**OPENAI, "input": {"messages": ASKED, "tools": [tool]}}], NAMED).train
    assert pair.chat is not None
    assert pair.chat.tools == (tool,)


@pytest.mark.parametrize("name", ["data.jsonl", "data.parquet"])
def test_a_number_is_a_place_in_a_list_and_other_keys_are_those_of_each_object_in_it(tmp_path: Path, name: str) -> None:
    row = {
        "data": {"text": "Q"},
        "done": [{"value": {"side": "right"}}],
        "said": [{"by": "m", "text": "a"}, {"by": "n", "text": "b"}],
    }
    columns = {"input_columns": {"q": "data.text"}, "answers": "said.text", "winner": "done.0.value.side"}
    assert texts(read(tmp_path, [row], columns, name)) == [("Q", "b", "a")]
    columns = {"input_columns": {"q": "data.text"}, "chosen": "said.1.text", "rejected": "said.0.text"}
    assert texts(read(tmp_path, [row], columns, name)) == [("Q", "b", "a")]


def test_a_column_whose_name_has_a_dot_is_itself(tmp_path: Path) -> None:
    assert texts(read(tmp_path, [{"a.b": "Q", "chosen": "x", "rejected": "y"}], {"input_columns": {"q": "a.b"}})) == [
        ("Q", "x", "y")
    ]


def test_a_row_without_the_value_has_an_empty_cell(tmp_path: Path) -> None:
    rows = [{"o": {"q": "Q"}, "chosen": "x", "rejected": "y"}, {"o": {}, "chosen": "x", "rejected": "y"}]
    assert mistakes(tmp_path, rows, {"input_columns": {"q": "o.q"}}) == "data/data.jsonl:2: empty cell in column 'o.q'"


def test_a_cell_that_is_no_object_and_a_name_that_no_object_has_are_mistakes(tmp_path: Path) -> None:
    rows = [{"o": {"q": "Q"}, "chosen": "x", "rejected": "y"}, {"o": "text", "chosen": "x", "rejected": "z"}]
    assert mistakes(tmp_path, rows, {"input_columns": {"q": "o.q"}}).startswith(
        "data/data.jsonl:2: no object in column 'o'\n    expected: an object with q, or a list of such\n    found:    text"
    )
    assert mistakes(tmp_path, rows[:1], {"input_columns": {"q": "o.qq"}}) == (
        "dpo_column_mapping_config.input_columns.q: missing column 'o.qq' in data/data.jsonl:1\n"
        "    found:    o.q\n"
        "    hint:     did you mean 'o.q'?"
    )


def test_a_table_too_large_for_memory_is_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.data.tables.arrow_table.KEPT", 0)
    rows = [{"o": {"q": f"Q{n}"}, "chosen": "x", "rejected": "y"} for n in range(3)]
    pairs = read(tmp_path, rows, {"input_columns": {"q": "o.q"}}, "data.parquet")
    assert not isinstance(pairs.train, tuple)
    assert [texts(pairs) for _ in "12"] == [[(f"Q{n}", "x", "y") for n in range(3)]] * 2
