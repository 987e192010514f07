"""``launcher init --data``: the columns of a file are named in the first experiment file, which check accepts at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hub.datasets import DataHub, DataSet
from tests.sheets.google import SPREADSHEET, Google, new_key, serving
from tests.workbooks import workbook

from .conftest import Launcher

ROWS = "".join(f"What is {n} and {n}?,It is {2 * n} in all.,Many things.,{'AB'[n % 2]},me\n" for n in range(20))
COMPARED = f"question,response_a,response_b,preference,rater\n{ROWS}"


def put(name: str, text: str) -> str:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return name


def written(name: str) -> dict:
    return yaml.safe_load(Path(name).read_text(encoding="utf-8"))


def test_the_file_names_the_columns_and_check_accepts_it_at_once(launcher: Launcher) -> None:
    code, out, err = launcher("init", "--data", put("data/oven.csv", COMPARED))
    assert (code, err) == (0, "")
    assert out == (
        "Wrote configs/oven.yml.\n\n"
        "Read data/oven.csv (20 rows). "
        "Prompt: question; answers: response_a and response_b; winner: preference; not read: rater.\n"
        "A tenth of the pairs is for validation: validation_split: 0.1.\n\n"
        "Then:\n"
        "  launcher check oven   find every mistake\n"
        "  launcher data oven    show lengths, repeats and one pair\n"
        "  launcher run oven     train\n"
    )
    experiment = written("configs/oven.yml")["oven"]
    assert {
        key: experiment.get(key) for key in ("datasets_path", "train_filename", "validation_filename", "validation_split")
    } == {
        "datasets_path": "data",
        "train_filename": "oven.csv",
        "validation_filename": None,
        "validation_split": 0.1,
    }
    assert experiment["dpo_column_mapping_config"] == {
        "input_columns": {"prompt": "question"},
        "answers": ["response_a", "response_b"],
        "winner": "preference",
    }
    code, out, err = launcher("check", "oven")
    assert (code, err) == (0, "")
    assert out.startswith("oven  18 training pairs, 2 validation pairs (20 rows in data/oven.csv; ")


@pytest.mark.parametrize(
    "options",
    [("--recipe", "qwen3-0.6b-lora-8gb"), ("configs/mine.yml",), ("configs/mine.yml", "--recipe", "llama-3.1-8b-lora-48gb")],
)
def test_a_recipe_and_a_file_of_ones_own_are_written_with_the_same_data(launcher: Launcher, options: tuple[str, ...]) -> None:
    assert launcher("init", *options, "--data", put("data/oven.csv", COMPARED))[0] == 0
    [file] = Path("configs").glob("*.yml")
    assert file.stem == ("mine" if "configs/mine.yml" in options else "oven")
    [experiment] = [value for value in written(str(file)).values() if "experiment_id" in value]
    assert experiment["dpo_column_mapping_config"]["winner"] == "preference"
    code, _, err = launcher("check", file.stem)
    assert (code, err) == (0, "")


def test_a_folder_s_training_data_have_its_name_and_the_validation_file_beside_them(launcher: Launcher) -> None:
    put("data/support/training_data.csv", COMPARED)
    put("data/support/validation_data.csv", COMPARED.replace("What is", "How many are"))
    put("data/support/prompt_data.csv", "name,system,user\nprompt_default,Be brief.,Sum: {query}\n")
    code, out, _ = launcher("init", "--data", "data/support")
    assert (code, out.splitlines()[0]) == (0, "Wrote configs/support.yml.")
    assert "Validation pairs: validation_data.csv, which lies beside it." in out
    experiment = written("configs/support.yml")["support"]
    assert experiment["validation_filename"] == "validation_data.csv"
    assert experiment["dpo_column_mapping_config"]["input_columns"] == {"query": "question"}
    code, out, err = launcher("check", "support")
    assert (code, err) == (0, "")
    assert out.startswith("support  20 training pairs, 20 validation pairs")


def test_an_instruction_and_its_input_are_one_prompt(launcher: Launcher) -> None:
    rows = "".join(f"Double it.,{n},It is {2 * n} in all.,Many things.\nSay {n}.,,{n},No.\n" for n in range(1, 11))
    code, out, _ = launcher("init", "--data", put("data/alpaca.csv", f"instruction,input,chosen,rejected\n{rows}"))
    assert (code, "Prompt: instruction and input; chosen: chosen" in out) == (0, True)
    mapping = written("configs/alpaca.yml")["alpaca"]["dpo_column_mapping_config"]
    assert mapping["input_columns"] == {"instruction": "instruction", "input": "input"}
    code, out, _ = launcher("check", "alpaca")
    assert (code, "notice: the prompt is instruction and input, with an empty line between them" in out) == (0, True)


def test_a_worksheet_is_named_behind_the_workbook(launcher: Launcher) -> None:
    rows = [line.split(",") for line in ("prompt,chosen,rejected", "Hi,Good day.,Yo.", "Bye,See you.,Go.")]
    Path("data").mkdir()
    Path("data/book.xlsx").write_bytes(workbook({"Notes": [["none"]], "Train 1": rows}))
    code, _, err = launcher("init", "--data", "data/book.xlsx")
    assert (code, "name one of them: book.xlsx#Notes" in err) == (43, True)
    assert launcher("init", "--data", "data/book.xlsx#Train 1")[0] == 0
    assert written("configs/book.yml")["book"]["train_filename"] == "book.xlsx#Train 1"
    assert launcher("check", "book")[::2] == (0, "")


def test_data_with_mistakes_are_named_all_the_same_and_said(launcher: Launcher) -> None:
    code, out, err = launcher("init", "--data", put("data/oven.csv", COMPARED.replace("Many things.", "", 1)))
    assert (code, out.splitlines()[0]) == (0, "Wrote configs/oven.yml.")
    assert err == "warning: the data have 1 mistake, which launcher check names\n"
    assert launcher("check", "oven")[0] == 43


def test_columns_that_are_not_known_are_told_with_what_to_write_and_no_file_is_written(launcher: Launcher) -> None:
    text = COMPARED.replace("preference", "label").replace(",A,", ",0,").replace(",B,", ",1,")
    assert launcher("init", "--data", put("data/oven.csv", text)) == (
        43,
        "",
        "error: data/oven.csv: cannot tell which answer is meant by 0, 1 in column 'label' (response_a, response_b or tie)\n"
        "    found:    columns question, response_a, response_b, label, rater\n"
        "    hint:     run launcher init without --data, and name the columns in the file: dpo_column_mapping_config: "
        "{input_columns: {prompt: question}, answers: [response_a, response_b], winner: label, "
        "winner_values: {'0': COLUMN, '1': COLUMN}}\n",
    )
    assert not Path("configs").exists()


def test_one_answer_to_each_prompt_is_written_as_sft_with_a_warning(launcher: Launcher) -> None:
    rows = "".join(f"What is {n}?,A number.\n" for n in range(4))
    code, _, err = launcher("init", "--data", put("data/oven.csv", f"instruction,output\n{rows}"))
    assert err == "warning: one answer to each prompt: wrote method: sft; DPO needs a better and a worse answer\n"
    assert (code, written("configs/oven.yml")["oven"]["method"]) == (0, "sft")
    assert launcher("check", "oven")[::2] == (0, "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("data/ovn.csv", "no file data/ovn.csv; did you mean 'oven.csv'?"),
        ("data", "data is a folder; name the file of your data (it has oven.csv, pan.jsonl)"),
        (
            "https://data.example.com/oven.csv",
            "--data reads a file, hf://owner/name, s3://bucket/folder/file, or the address of a Google spreadsheet, "
            "not https://data.example.com/oven.csv; download the file first",
        ),
        ("s3://bucket/folder", "s3://bucket/folder is no file of data; name it: s3://bucket/folder/pairs.csv"),
        (
            "hf://oven",
            "hf://oven is not hf://owner/name or hf://owner/name@revision, optionally with ?config=NAME; "
            "the split of the training pairs may follow as #train",
        ),
        (
            "https://docs.google.com/spreadsheets",
            "https://docs.google.com/spreadsheets is no address of a spreadsheet, which has /spreadsheets/d/ and an id",
        ),
    ],
)
def test_a_place_that_is_no_file_is_a_mistake_of_the_command(launcher: Launcher, name: str, said: str) -> None:
    put("data/oven.csv", COMPARED)
    put("data/pan.jsonl", "{}")
    code, out, err = launcher("init", "--data", name)
    assert (code, out, err) == (2, "", f"error: {said}\n")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DataHub]:
    pytest.importorskip("huggingface_hub")
    lines = "".join(json.dumps({"question": f"Why {n}?", "good": f"so {n}", "bad": "no"}) + "\n" for n in range(12)).encode()
    with DataHub({"org/prefs": DataSet(), "org/parts": DataSet()}).serving() as served:
        served.sets["org/prefs"].commit({f"data/{split}-00000-of-00001.jsonl": lines for split in ("train", "test")})
        names = ("train_prefs", "test_prefs", "train_sft", "test_sft")
        served.sets["org/parts"].commit({f"data/{split}-00000-of-00001.jsonl": lines for split in names})
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("DPO_CACHE_ROOT", str(tmp_path / "cache"))
        yield served


@pytest.mark.parametrize(
    ("name", "train", "validation"),
    [
        ("hf://org/prefs", "train", "test"),
        ("hf://org/parts", "train_prefs", "test_prefs"),
        ("hf://org/parts#train_sft", "train_sft", "test_sft"),
        ("hf://org/parts@main#test_sft", "test_sft", None),
    ],
)
def test_a_dataset_on_the_hub_is_read_with_its_splits(
    launcher: Launcher, hub: DataHub, name: str, train: str, validation: str | None
) -> None:
    code, out, err = launcher("init", "--data", name, "configs/mine.yml")
    assert (code, err) == (0, "")
    assert f"Read {name.partition('#')[0]}, split {train} (12 rows). Prompt: question; chosen: good; rejected: bad." in out
    experiment = written("configs/mine.yml")["mine"]
    assert experiment["datasets_path"] == name.partition("#")[0]
    assert (experiment["train_filename"], experiment.get("validation_filename")) == (train, validation)
    assert experiment.get("validation_split") == (None if validation else 0.1)
    assert launcher("check", "mine")[::2] == (0, "")


def test_a_dataset_or_a_split_that_the_hub_does_not_have_is_said(launcher: Launcher, hub: DataHub) -> None:
    code, _, err = launcher("init", "--data", "hf://org/parts#dev")
    assert (code, err) == (2, "error: hf://org/parts has no split dev; it has test_prefs, test_sft, train_prefs, train_sft\n")
    code, _, err = launcher("init", "--data", "hf://org/missing")
    assert (code, "org/missing" in err) == (42, True)
    assert not Path("configs").exists()


def test_a_file_in_a_bucket_is_read_with_the_caller_s_keys(
    launcher: Launcher, moto: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    moto.emptied("data").put_object(Bucket="data", Key="kitchen/oven.csv", Body=COMPARED.encode())
    keys = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}
    env = {**keys, "AWS_ENDPOINT_URL": moto.url, "DPO_CACHE_ROOT": str(tmp_path / "cache")}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    code, out, err = launcher("init", "--data", "s3://data/kitchen/oven.csv")
    assert (code, err, "winner: preference" in out) == (0, "", True)
    experiment = written("configs/oven.yml")["oven"]
    assert (experiment["datasets_path"], experiment["train_filename"]) == ("s3://data/kitchen", "oven.csv")
    assert launcher("check", "oven")[::2] == (0, "")


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    pairs = [["Question", "Good answer", "Bad answer"], *([f"Why {n}?", f"so {n}", "no"] for n in range(12))]
    sheets = {SPREADSHEET: {"Notes": [["none"]], "Train": pairs, "Held out": pairs}, "one": {"Pairs": pairs}}
    with serving(Google(new_key(), sheets=sheets)) as served:
        for name, value in served.env().items():
            monkeypatch.setenv(name, value)
        yield served


@pytest.mark.parametrize(
    ("address", "settings"),
    [
        (f"https://docs.google.com/spreadsheets/d/{SPREADSHEET}/edit", {"train_sheet": "Train", "validation_sheet": "Held out"}),
        (f"https://docs.google.com/spreadsheets/d/{SPREADSHEET}/edit?gid=200#gid=200", {"train_sheet": "Held out"}),
        ("https://docs.google.com/spreadsheets/d/one/edit?usp=sharing", {"spreadsheet_id": "one", "train_sheet": "Pairs"}),
    ],
)
def test_a_spreadsheet_is_read_by_its_address(launcher: Launcher, google: Google, address: str, settings: dict) -> None:
    code, out, err = launcher("init", "--data", address, "configs/mine.yml")
    assert (code, err) == (0, "")
    assert f"Read worksheet {settings['train_sheet']!r} (12 rows). Prompt: Question; chosen: Good answer" in out
    experiment = written("configs/mine.yml")["mine"]
    split = {} if "validation_sheet" in settings else {"validation_split": 0.1}
    keys = ("spreadsheet_id", "train_sheet", "validation_sheet", "validation_split", "datasets_path", "train_filename")
    assert {key: experiment[key] for key in keys if key in experiment} == {"spreadsheet_id": SPREADSHEET, **split, **settings}
    assert launcher("check", "mine")[::2] == (0, "")


def test_a_worksheet_that_cannot_be_told_is_asked_for(launcher: Launcher, google: Google) -> None:
    google.sheets[SPREADSHEET] = {"A": [], "B": []}
    address = f"https://docs.google.com/spreadsheets/d/{SPREADSHEET}/edit"
    how = "copy the address while the worksheet of the training pairs is open: it ends with gid=…"
    assert launcher("init", "--data", address) == (2, "", f"error: the spreadsheet has A, B; {how}\n")
    assert launcher("init", "--data", f"{address}#gid=7") == (
        2,
        "",
        f"error: the spreadsheet has no worksheet with gid=7; {how}\n",
    )
    google.shared = False
    code, _, err = launcher("init", "--data", address)
    assert (code, "reader@demo-project.iam.gserviceaccount.com" in err) == (44, True)
