"""Invented experiments and tables: each is what it says, or is refused at a place; none ends in a traceback."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from launcher.data.pairs import read_pairs
from launcher.data.tables.reading import Reading
from launcher.experiment.problems import problems
from launcher.experiment.schema import Experiment
from tests.fuzz.readers import is_read, read_as, read_prompts
from tests.workbooks import workbook

QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["1e-4", "1e999", "auto", "${HOME}", "s3://b/x", "hf://a/b", "off", "0", "-1", "1h", "\x00", "../..", "~"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.text(max_size=6), st.integers()), inner, max_size=3)
    ),
    max_leaves=6,
)
BASE = {"experiment_id": "1", "model_name": "org/m", "datasets_path": "d"}
FIELDS = sorted(set(Experiment.model_fields) - {"hyperparameters"})
HYPER = sorted(Experiment.model_fields["hyperparameters"].annotation.model_fields)  # type: ignore[union-attr]
CELLS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates(), st.binary(max_size=4))
# What a file of XML and a terminal can hold: no halves of characters, no control characters.
WRITTEN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@QUICK
@given(
    st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=8)), VALUES, max_size=3),
    st.dictionaries(st.sampled_from(HYPER), VALUES, max_size=3),
)
@example({}, {"trl": {0: None}})  # found: a key that is no text
@example({"datasets_path": None}, {})  # found: no data at all is a mistake of the experiment, not of one key
def test_an_experiment_resolves_to_what_the_trainer_reads_or_names_the_setting(
    top: dict[str, Any], hyper: dict[str, Any]
) -> None:
    try:
        found = Experiment.parse({**BASE, "hyperparameters": hyper, **top})
    except ValidationError as error:
        found, wrong = None, problems(error)
    if found is None:
        assert wrong
        assert all(problem.what and (problem.loc or "set datasets_path" in problem.what) for problem in wrong)
        return
    assert Experiment.model_validate(json.loads(found.model_dump_json())) == found


@QUICK
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4))
@example([(None, None, date(2000, 1, 1)), ("q", "a", -719163)])  # found: a day before the year 1
@example([(date(2000, 1, 1), "q", "a"), (float("nan"), "q", "a")])  # found: pyarrow's ValueError
def test_values_of_any_type_in_parquet_are_text_or_refused_at_their_row(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {}
    for name, values in zip(("prompt", "chosen", "rejected"), zip(*rows, strict=True), strict=True):
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowTypeError, ValueError, OverflowError):
            columns[name] = pa.array([ascii(value) for value in values])  # a column has one type
    file = pa.BufferOutputStream()
    parquet.write_table(pa.table(columns), file)
    is_read(read_as("t.parquet"), tmp_path, file.getvalue().to_pybytes())


@QUICK
@given(
    st.lists(
        st.tuples(*[st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), WRITTEN)] * 3), min_size=1, max_size=4
    )
)
def test_cells_of_a_workbook_are_text_or_refused_at_their_cell(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    is_read(read_as("t.xlsx"), tmp_path, workbook({"Train": [("prompt", "chosen", "rejected"), *rows]}))


@QUICK
@given(st.lists(st.lists(st.text(max_size=8), max_size=4), max_size=4), st.sampled_from([",", ";", "\t", "|"]))
@example([["prompt", "chosen", "rejected"], ["a", "b", "c"]], ";")
def test_what_is_written_as_csv_is_read_as_it_was(tmp_path: Path, rows: list[list[str]], delimiter: str) -> None:
    text = "".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows)
    data = text.encode("utf-8", "replace")
    if is_read(read_as("t.csv"), tmp_path, data):
        read = read_pairs(Experiment.parse({**BASE, "datasets_path": str(tmp_path), "train_filename": "t.csv"}), Reading())
        cells = {cell.encode("utf-8", "replace").decode() for row in rows for cell in row}
        assert {pair.chosen for pair in read.train} <= cells


@QUICK
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["prompt_default", "other", ""]),
            st.text(max_size=12),
            st.one_of(st.just("{prompt}"), st.text(max_size=16)),
        ),
        max_size=3,
    )
)
def test_a_prompt_table_is_filled_or_refused_at_its_row(tmp_path: Path, rows: list[tuple[str, str, str]]) -> None:
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [("name", "system", "user"), *rows]]
    is_read(read_prompts, tmp_path, ("\n".join(quoted) + "\n").encode("utf-8", "replace"))
