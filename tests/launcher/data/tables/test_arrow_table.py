"""Large Parquet and Arrow files: read batch by batch in every pass, with the results and places of a small one."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from launcher.data.pairs import Pairs, read_pairs, write_processed
from launcher.data.tables import arrow_table
from launcher.data.tables.reading import Reading
from launcher.errors import DataError
from launcher.experiment.schema import Experiment

pa = pytest.importorskip("pyarrow")
ROWS = [{"prompt": f"Where is {n}?", "chosen": f"here {n}", "rejected": "there", "kind": "ab"[n % 2]} for n in range(300)]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    from pyarrow import feather, parquet

    path.parent.mkdir(exist_ok=True)
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=70)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, chunksize=70)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, 70)


def read(root: Path, name: str, **settings: Any) -> Pairs:
    given = {"model_name": "m", "datasets_path": "data", "train_filename": name, "validation_filename": name, **settings}
    return read_pairs(Experiment.parse(given), Reading(root))


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_table, "KEPT", 0)
    monkeypatch.setattr(arrow_table, "BATCH", 32)


@pytest.mark.parametrize("name", ["train.parquet", "train.feather", "train.arrow"])
def test_a_streamed_file_gives_the_pairs_of_one_that_is_kept(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    write(tmp_path / "data" / name, ROWS)
    kept = read(tmp_path, name)
    request.getfixturevalue("streams")
    streamed = read(tmp_path, name)
    assert isinstance(kept.train, tuple)
    assert not isinstance(streamed.train, tuple)
    assert (tuple(streamed.train), len(streamed.train), streamed.train[150]) == (kept.train, 300, kept.train[150])
    assert streamed.columns == kept.columns == {"kind": tuple("ab"[n % 2] for n in range(300))}
    assert (streamed.sources, streamed.notices) == (kept.sources, kept.notices)
    for pairs, folder in ((kept, "kept"), (streamed, "streamed")):
        write_processed(pairs, tmp_path / folder)
    written = [(tmp_path / folder / "train.jsonl").read_bytes() for folder in ("kept", "streamed")]
    assert written[0] == written[1]
    assert written[0].count(b"\n") == 300


@pytest.mark.usefixtures("streams")
def test_what_is_wrong_in_and_between_streamed_rows_keeps_its_row(tmp_path: Path) -> None:
    swapped = {**ROWS[0], "chosen": "there", "rejected": "here 0"}
    write(tmp_path / "data" / "train.parquet", [*ROWS, ROWS[7], swapped])
    notices = "\n".join(read(tmp_path, "train.parquet", validation_filename=None).notices)
    assert "data/train.parquet: 1 of 302 training pairs repeat an earlier one exactly (row 301)" in notices
    assert "2 of 302 training pairs contradict another one" in notices
    write(tmp_path / "data" / "train.parquet", [*ROWS, {**ROWS[0], "chosen": " "}])
    with pytest.raises(DataError, match=r"data/train.parquet, row 301: empty cell in column 'chosen'"):
        read(tmp_path, "train.parquet", validation_filename=None)


@pytest.mark.usefixtures("streams")
def test_the_text_of_a_streamed_file_is_never_in_memory_at_once(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} {'why ' * 300}", "chosen": f"{n} {'so ' * 300}", "rejected": "no"} for n in range(4000)]
    write(tmp_path / "data" / "train.parquet", rows)  # 9 MB of text
    rows.clear()
    read(tmp_path, "train.parquet")
    tracemalloc.start()
    try:
        pairs = read(tmp_path, "train.parquet", validation_filename=None)
        write_processed(pairs, tmp_path / "processed")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(pairs.train) == 4000
    assert peak < 3e6


@pytest.mark.usefixtures("streams")
def test_damage_inside_a_large_file_is_a_mistake_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "data" / "train.parquet"
    write(path, ROWS)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data/train.parquet: not a parquet file"):
        read(tmp_path, "train.parquet")


@pytest.mark.usefixtures("streams")
def test_a_large_file_that_changes_between_two_passes_is_a_mistake_and_is_not_trained_on_unchecked(tmp_path: Path) -> None:
    path = tmp_path / "data" / "train.parquet"
    write(path, ROWS)
    pairs = read(tmp_path, "train.parquet", validation_filename=None)
    write(path, [{**row, "chosen": ""} for row in ROWS])
    with pytest.raises(DataError, match=r"train.parquet: the file was changed or removed while it was read"):
        tuple(pairs.train)
    path.unlink()
    with pytest.raises(DataError, match="changed or removed"):
        pairs.train[0]
