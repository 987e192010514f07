"""`launcher check EXP --fix`: clean copies beside the files, with each change listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.data.fixed import fix
from launcher.data.pairs import read_pairs
from launcher.data.tables.reading import Reading
from launcher.errors import DataError, UsageError
from launcher.experiment.schema import Experiment
from tests.workbooks import workbook

DIRTY = (
    "sep=;\nprompt;chosen;rejected;note;\n"
    'Where is it?;"Here_x000D_\nor there.\ufeff";schÃ¶n;"a\r\nb";\n'
    "Who is it?;Zoe\u200b Miller;No one;;\n"
    "Who is it?;Zoe Miller;No one;;\n"
    ";;;;\n"
    "prompt;chosen;rejected;note;\n"
    "What is it?;A fish;A bird;;\n"
    ";;;;\n"
)


def experiment(root: Path, name: str = "training_data.csv") -> Experiment:
    return Experiment.parse({"model_name": "m", "datasets_path": str(root / "data"), "train_filename": name})


@pytest.fixture
def dirty(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "training_data.csv").write_text(DIRTY, encoding="utf-8", newline="")
    return tmp_path


def test_the_copy_is_clean_and_the_original_stays(dirty: Path) -> None:
    (fixed,) = fix(experiment(dirty))
    assert (dirty / "data" / "training_data.csv").read_bytes() == DIRTY.encode()
    assert fixed.copy == dirty / "data" / "training_data.fixed.csv"
    pairs = read_pairs(experiment(dirty, fixed.copy.name), Reading())
    assert [(pair.user, pair.chosen, pair.rejected) for pair in pairs.train] == [
        ("Where is it?", "Here\nor there.", "schön"),
        ("Who is it?", "Zoe Miller", "No one"),
        ("What is it?", "A fish", "A bird"),
    ]
    assert [notice for notice in pairs.notices if "unused columns" not in notice] == []
    (again,) = fix(experiment(dirty, fixed.copy.name))
    assert (again.copy, again.sentence) == (None, f"{fixed.copy}: nothing to fix")


def test_compared_answers_are_mended_in_their_own_columns(dirty: Path) -> None:
    text = "prompt,a,b,better\nWhere?,schÃ¶n,Here,A\nprompt,a,b,better\nWho?,Zoe\u200b M,No one,tie\n"
    (dirty / "data" / "training_data.csv").write_text(text, encoding="utf-8", newline="")
    compared = {"dpo_column_mapping_config": {"answers": ["a", "b"], "winner": "better"}}
    settings = experiment(dirty).model_dump(include={"model_name", "datasets_path"}) | compared
    (fixed,) = fix(Experiment.parse(settings))
    assert fixed.copy is not None
    assert fixed.copy.read_text(encoding="utf-8") == "prompt,a,b,better\nWhere?,schön,Here,A\nWho?,Zoe M,No one,tie\n"


def test_each_change_is_listed_with_its_line_column_and_rule(dirty: Path) -> None:
    (fixed,) = fix(experiment(dirty))
    assert fixed.changes is not None
    head, *changes = map(json.loads, fixed.changes.read_text(encoding="utf-8").splitlines())
    assert head["file"] == "training_data.csv"
    assert [(one["line"], one.get("column"), one["rule"]) for one in changes] == [
        (2, None, "ignored"),
        (2, None, "ignored"),
        (3, "chosen", "excel_escapes"),
        (3, "chosen", "carriage_return"),
        (3, "chosen", "bom_inside"),
        (3, "rejected", "mojibake"),
        (6, "chosen", "zero_width"),
        (7, None, "repeated_pair"),
        (8, None, "empty_row"),
        (9, None, "repeated_header"),
    ]
    assert changes[5] == {"line": 3, "column": "rejected", "rule": "mojibake", "before": "schÃ¶n", "after": "schön"}
    assert dict(fixed.counts) == {"ignored": 2, **dict.fromkeys([one["rule"] for one in changes[2:]], 1)}


def test_a_title_is_left_out_and_a_rule_that_is_off_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = "prompt,chosen,rejected\nWho?,Zoe\u200b,Ann\n"
    (tmp_path / "data" / "training_data.csv").write_text("Of May,,\n" + table, encoding="utf-8")
    settings = {"model_name": "m", "datasets_path": str(tmp_path / "data"), "data_checks": {"zero_width": "off"}}
    (fixed,) = fix(Experiment.parse(settings))
    assert dict(fixed.counts) == {"title_above_header": 1}
    assert fixed.copy is not None
    assert fixed.copy.read_text(encoding="utf-8") == table


def test_a_copy_that_somebody_wrote_or_changed_is_not_replaced(dirty: Path) -> None:
    copy = dirty / "data" / "training_data.fixed.csv"
    copy.write_text("mine")
    with pytest.raises(UsageError, match=r"training_data\.fixed\.csv exists and was not written by --fix, or was changed"):
        fix(experiment(dirty))
    assert copy.read_text() == "mine"
    copy.unlink()
    fix(experiment(dirty))
    (dirty / "data" / "training_data.csv").write_text(DIRTY + "Why?;So;No\u200b;;\n", encoding="utf-8", newline="")
    fix(experiment(dirty))
    assert copy.read_text().endswith("Why?,So,No,\n"), "its own is"
    copy.write_text(copy.read_text() + "When?,Now\u200b,Then,\n", encoding="utf-8")
    with pytest.raises(UsageError, match="was not written by --fix, or was changed"):
        fix(experiment(dirty, copy.name))


def test_json_lines_are_mended_inside_messages_and_keep_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    bad = {
        "prompt": [{"role": "user", "content": "Who\u200b?"}],
        "chosen": "schÃ¶n",
        "rejected": "No_x000D_\none",
        "n": 1.5,
        "id": None,
    }
    good = {"prompt": [{"role": "user", "content": "Why?"}], "chosen": "So", "rejected": "No", "n": 2, "id": "a\u200b"}
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in (bad, good, good))
    (tmp_path / "data" / "pairs.jsonl").write_text(text, encoding="utf-8")
    (fixed,) = fix(experiment(tmp_path, "pairs.jsonl"))
    assert fixed.copy == tmp_path / "data" / "pairs.fixed.jsonl"
    mended = {**bad, "prompt": [{"role": "user", "content": "Who?"}], "chosen": "schön", "rejected": "No\none"}
    assert list(map(json.loads, fixed.copy.read_text(encoding="utf-8").splitlines())) == [mended, good], "id is no mapped column"
    assert fixed.changes is not None
    head, *changes = map(json.loads, fixed.changes.read_text(encoding="utf-8").splitlines())
    assert head["file"] == "pairs.jsonl"
    assert [(one["line"], one.get("column"), one["rule"]) for one in changes] == [
        (1, "prompt", "zero_width"),
        (1, "chosen", "mojibake"),
        (1, "rejected", "excel_escapes"),
        (1, "rejected", "carriage_return"),
        (3, None, "repeated_pair"),
    ]
    (again,) = fix(experiment(tmp_path, fixed.copy.name))
    assert again.copy is None, "the copy is clean"
    assert (tmp_path / "data" / "pairs.jsonl").read_text(encoding="utf-8") == text


def test_a_list_of_json_becomes_json_lines(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = [{"prompt": "Who?", "chosen": "Zoe\u200b", "rejected": "Ann"}, {"prompt": "", "chosen": " ", "rejected": None}]
    (tmp_path / "data" / "pairs.json").write_text(json.dumps(rows))
    (fixed,) = fix(experiment(tmp_path, "pairs.json"))
    assert fixed.copy == tmp_path / "data" / "pairs.fixed.jsonl"
    assert json.loads(fixed.copy.read_text()) == {"prompt": "Who?", "chosen": "Zoe", "rejected": "Ann"}
    assert dict(fixed.counts) == {"zero_width": 1, "empty_row": 1}


def test_json_that_cannot_be_read_is_a_mistake_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    with pytest.raises(DataError, match=r"pairs\.jsonl:2:\d+: not JSON"):
        fix(experiment(tmp_path, "pairs.jsonl"))
    assert len(list((tmp_path / "data").iterdir())) == 1


def test_where_one_of_the_files_is_missing_nothing_is_written(dirty: Path) -> None:
    asked = {"model_name": "m", "datasets_path": str(dirty / "data"), "validation_filename": "validation_data.csv"}
    with pytest.raises(DataError, match=r"^\S+/data/validation_data\.csv: file not found$"):
        fix(Experiment.parse(asked))
    assert [file.name for file in (dirty / "data").iterdir()] == ["training_data.csv"]


def test_a_worksheet_becomes_a_clean_csv_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = [["Pairs of May"], ["prompt", "chosen", "rejected"], ["Who?", "Zoe\u200b", "Ann"], ["Who?", "Zoe", "Ann"], ["n", 1, 2]]
    (tmp_path / "data" / "pairs.xlsx").write_bytes(workbook({"Notes": [["x"]], "To train": rows}))
    (fixed,) = fix(experiment(tmp_path, "pairs.xlsx#To train"))
    assert fixed.copy == tmp_path / "data" / "pairs-To-train.fixed.csv"
    assert fixed.copy.read_text() == "prompt,chosen,rejected\nWho?,Zoe,Ann\nn,1,2\n"
    assert dict(fixed.counts) == {"title_above_header": 1, "zero_width": 1, "repeated_pair": 1}
    pairs = read_pairs(experiment(tmp_path, fixed.copy.name), Reading())
    assert len(pairs.train) == 2


def test_a_table_of_a_program_is_not_fixed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"--fix works for CSV files, workbooks and JSON, not for .*pairs\.parquet"):
        fix(experiment(tmp_path, "pairs.parquet"))


def test_the_data_of_a_bucket_cannot_be_fixed_here() -> None:
    wanted = Experiment.parse({"model_name": "m", "datasets_path": "s3://bucket/data"})
    with pytest.raises(
        UsageError, match="--fix writes copies of local files; the data of this experiment are in s3://bucket/data"
    ):
        fix(wanted)


def test_the_command_names_the_copy_and_the_next_command(
    dirty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (dirty / "configs").mkdir()
    (dirty / "configs" / "e.yml").write_text("exp_1:\n  experiment_id: 1\n  model_name: m\n  datasets_path: data\n")
    monkeypatch.chdir(dirty)
    with pytest.raises(SystemExit) as ended:
        main(["check", "exp_1", "--fix"])
    shown = capsys.readouterr().out
    assert not ended.value.code
    assert "data/training_data.fixed.csv: 10 changes (2 ignored, 1 excel_escapes" in shown
    assert shown.endswith("Check the copies with: launcher check exp_1 --set train_filename=training_data.fixed.csv\n")


def test_a_title_of_several_lines_and_utf_16_leave_a_copy_that_is_clean(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = 'Pairs, of May, by Ann\n,,\nprompt,chosen,rejected\nWho?,"Zoe\u200b\r\nor Ann",Bob\nPrompt,CHOSEN,rejected \n'
    (tmp_path / "data" / "training_data.csv").write_bytes(table.encode("utf-16"))
    (fixed,) = fix(experiment(tmp_path))
    assert dict(fixed.counts) == {"title_above_header": 2, "carriage_return": 1, "zero_width": 1, "repeated_header": 1}
    assert (tmp_path / "data" / "training_data.csv").read_bytes() == table.encode("utf-16")
    pairs = read_pairs(experiment(tmp_path, fixed.copy.name), Reading())
    assert [(pair.user, pair.chosen, pair.rejected) for pair in pairs.train] == [("Who?", "Zoe\nor Ann", "Bob")]
    assert pairs.notices == ()
    assert fix(experiment(tmp_path, fixed.copy.name))[0].copy is None
