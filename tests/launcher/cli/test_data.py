"""`launcher data`: one screen before training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli import main

ROWS = "".join(f"Question {n}?,Answer {n}.,No\n" for n in range(24))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an experiment, on a machine without the trainer's packages."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "configs" / "e.yml").write_text("exp_1:\n  experiment_id: 1\n  model_name: org/model\n  datasets_path: data\n")
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\n" + ROWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("launcher.packages.find_spec", lambda name: None)
    return tmp_path


def typed(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["data", *args])
    return int(ended.value.code or 0), *capsys.readouterr()


def test_one_pair_is_no_pairs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "data" / "validation_data.csv").write_text("prompt,chosen,rejected\nWhen?,At nine.,Later.\n")
    (home / "configs" / "e.yml").open("a").write("  validation_filename: validation_data.csv\n")
    _, out, _ = typed(capsys, "exp_1")
    assert out.startswith("exp_1: 24 training pairs, 1 validation pair\n")
    assert "data/validation_data.csv: 1 row\n" in out


def test_one_screen_has_lengths_what_tells_the_answers_apart_and_a_pair(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "exp_1")
    assert code == 0
    assert out.splitlines()[0] == "exp_1: 24 training pairs, 0 validation pairs"
    assert "characters  median  95 %  longest\nprompt      12      12    12\n" in out
    assert "the chosen answer is longer in 100% of the pairs; it is 8 characters longer (median)" in out
    assert "a full stop at the end: 100% of the chosen answers, 0% of the rejected ones" in out
    assert "notice: lengths are in characters: a count of tokens needs torch" in out
    assert out.endswith("row 2, before the chat template\nprompt      Question 0?\nchosen      Answer 0.\nrejected    No\n")


def test_a_difference_of_one_is_one_character(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWho is it?,Anna,Ada\nWhat is it?,A rat,A cat.\n")
    assert "it is 1 character shorter (median)" in typed(capsys, "exp_1")[1]


def test_json_has_the_counts_and_the_experiment(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "exp_1", "--json")
    found = json.loads(out)
    assert (code, found["key"], found["training_pairs"]) == (0, "exp_1", 24)
    bias = found["survey"]["bias"]
    assert (bias["unit"], bias["share"], bias["median"]) == ("characters", 1.0, 8)
    assert bias["bins"] == {"begin": 0, "width": 1, "counts": [0, 0, 0, 0, 0, 0, 0, 10, 14], "low": 7, "high": 8}


def test_mistakes_in_the_data_end_as_check_does(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWho?,#REF!,no\n")
    code, out, err = typed(capsys, "exp_1")
    assert (code, out) == (43, "")
    assert "error: data/training_data.csv:2: a formula error in column 'chosen'" in err


def test_a_model_that_is_missing_is_one_mistake_and_starts_no_process_for_its_tokens(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.launch.survey.check_installed", lambda what: None)
    monkeypatch.setattr("launcher.launch.token_check.check_installed", lambda what: None)
    monkeypatch.setattr("launcher.launch.token_check.ask", lambda *_, **__: pytest.fail("a process was started"))
    code, out, err = typed(capsys, "exp_1", "--set", "model_name=./missing")
    assert (code, err.count("error:")) == (42, 1)
    assert "model_name: folder ./missing not found" in err
    assert "notice: lengths are in characters: the tokenizer cannot be loaded" in out


def test_a_template_that_refuses_the_data_is_not_called_a_tokenizer_that_cannot_be_loaded(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake = {"where": "data/training_data.csv:2", "what": "the chat template leaves out a tool call of the chosen answer"}
    error = {"code": 43, "text": "", "mistakes": [mistake]}
    monkeypatch.setattr("launcher.launch.survey.check_installed", lambda what: None)
    monkeypatch.setattr("launcher.launch.token_check.check_installed", lambda what: None)
    monkeypatch.setattr("launcher.launch.token_check.ask", lambda *_, **__: iter([{"error": error}]))
    code, out, err = typed(capsys, "exp_1")
    assert (code, "the chat template leaves out a tool call" in err) == (43, True)
    assert "notice: lengths are in characters: the tokens have mistakes\n" in out


AWAY = {"code": 48, "text": "the hub (https://hub) does not answer: timeout", "mistakes": []}
UNCACHED = {"code": 42, "text": "", "mistakes": [{"where": "model_name", "what": "cannot load the tokenizer of org/model"}]}


@pytest.mark.parametrize(
    ("error", "offline", "reason"),
    [
        (AWAY, "0", "the hub (https://hub) does not answer: timeout"),
        (UNCACHED, "1", "cannot load the tokenizer of org/model (HF_HUB_OFFLINE is set)"),
        (UNCACHED, "0", None),
    ],
)
def test_without_a_hub_all_else_is_shown_and_one_line_says_what_is_not_counted(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: dict, offline: str, reason: str | None
) -> None:
    monkeypatch.setattr("launcher.launch.survey.check_installed", lambda what: None)
    monkeypatch.setattr("launcher.launch.token_check.check_installed", lambda what: None)
    monkeypatch.setattr("launcher.launch.token_check.ask", lambda *_, **__: iter([{"error": error}]))
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    code, out, err = typed(capsys, "exp_1")
    said = f"notice: lengths are in characters: {reason}; what max_seq_length cuts is not counted\n"
    assert (code, said in out, "error:" in err) == ((0, True, False) if reason is not None else (42, False, True))
    asked, _, err = typed(capsys, "exp_1", "--tokens", "2")
    assert (asked, "error:" in err) == (error["code"], True), "who asks for tokens is told why there are none"


def test_a_page_is_written_in_place_of_the_screen(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(capsys, "exp_1", "--html") == (0, "Wrote data-exp_1.html. Open it in a browser.\n", "")
    page = (home / "data-exp_1.html").read_text(encoding="utf-8")
    for part in ("Data of exp_1", "24 training pairs", "Row 2, before the chat template", "Question 0?", "needs torch"):
        assert part in page
    code, out, err = typed(capsys, "exp_1", "--html", "other.html", "--json")
    assert (code, json.loads(out)["training_pairs"], err) == (0, 24, "Wrote other.html. Open it in a browser.\n")
    assert (home / "other.html").is_file()


def test_the_page_of_data_with_mistakes_lists_them_and_the_exit_code_stays(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "data" / "training_data.csv").write_text("prompt,chosen,rejected\n" + "Who?,#REF!,no\n" * 4)
    code, out, err = typed(capsys, "exp_1", "--html")
    assert (code, out) == (43, "Wrote data-exp_1.html. Open it in a browser.\n")
    assert "error: data/training_data.csv:2: a formula error" in err
    page = (home / "data-exp_1.html").read_text(encoding="utf-8")
    assert "4 times: a formula error in column &#39;chosen&#39;; found #REF!" in page


def test_a_page_that_cannot_be_written_is_an_error_that_names_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = typed(capsys, "exp_1", "--html", "data")
    assert (code, err) == (2, "error: cannot write data: is a directory\n")


def test_the_pairs_that_the_trainer_shows_are_on_the_page_with_their_cut(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"kept": ["An", "swer"], "cut": [" 0", "."]}
    shown = {"line": 2, "prompt": ["Question", "?"], "chosen": answer, "rejected": {"kept": ["No"], "cut": []}}
    bins = {"begin": 0, "width": 1, "counts": [20, 4], "low": 0, "high": 1}
    part = {"median": 1, "high": 1, "longest": 1, "cut": 24, "bins": bins}
    told = {
        "lengths": {
            "parts": dict.fromkeys(("prompt", "chosen", "rejected"), part),
            "bias": {"share": 1.0, "median": 1, "bins": bins},
        },
        "shown": shown,
        "examples": [{**shown, "why": "the first pair"}, {**shown, "line": 9, "why": "the longest pair"}],
        **{"pairs": 24, "tokens": 96, "longest": 4, "cut": 24, "notices": []},
    }
    monkeypatch.setattr("launcher.launch.survey.check_installed", lambda what: None)
    monkeypatch.setattr("launcher.launch.token_check.check_installed", lambda what: None)
    monkeypatch.setattr("launcher.launch.token_check.ask", lambda *_, **__: [told])
    (home / "model").mkdir()
    (home / "model" / "config.json").write_text("{}")
    assert typed(capsys, "exp_1", "--html", "--set", "model_name=org/model")[0] == 0
    page = (home / "data-exp_1.html").read_text(encoding="utf-8")
    assert '<span>An</span><span>swer</span><b class="here">cut here, at' in page
    assert "Row 9: the longest pair" in page
    assert "24 at the end" in page
