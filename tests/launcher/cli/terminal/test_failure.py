"""How a command ends that cannot do what it was asked to."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from launcher.cli import launcher as command_line
from launcher.cli.terminal.screen import facts, fail
from launcher.cli.terminal.verbs import _BY_VERB

from ..conftest import Launcher

WITH_JSON = sorted(
    name for name, verb in command_line.commands.items() if any(option.name == "as_json" for option in verb.params)
)


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: Launcher) -> Launcher:
    """(exit code, standard output, standard error) of a line typed in a directory with one experiment, without a cluster."""
    monkeypatch.setenv("KUBECONFIG", "/no/such/file")
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/engine")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "e.yml").write_text("demo: {experiment_id: 1, model_name: org/m, datasets_path: data}\n")
    return launcher


def takes_a_name(verb: str) -> bool:
    return any(isinstance(parameter, click.Argument) for parameter in command_line.commands[verb].params)


def test_json_is_an_option_of_the_verbs_that_tell_something() -> None:
    assert {"check", "diff", "doctor", "drill", "list", "plan", "ps", "show", "status", "why"} <= set(WITH_JSON)


@pytest.mark.parametrize("verb", WITH_JSON)
def test_with_json_an_error_is_one_json_document_and_the_text_is_on_standard_error(verb: str, typed: Launcher) -> None:
    line = (verb, "no-such-name") if takes_a_name(verb) else (verb, "--no-such-option")
    plain, out, text = typed(*line)
    code, told, err = typed(*line, "--json")
    assert (code, err) == (plain, text)
    assert (code > 0, out) == (True, "") or verb in ("check", "data")
    found = json.loads(told)
    if verb in ("check", "data"):  # its answer is what is wrong
        assert found["mistakes"][0]["what"] == "no experiment 'no-such-name'"
        return
    error = found["error"]
    assert (error["exit_code"], list(error)) == (code, ["kind", "message", "mistakes", "exit_code"])
    assert err.startswith(f"error: {error['message']}")


def test_the_mistakes_of_an_error_are_listed(typed: Launcher) -> None:
    code, out, _ = typed("show", "demo", "--set", "hyperparameters.beta=x", "--json")
    error = json.loads(out)["error"]
    assert (code, error["kind"], len(error["mistakes"])) == (42, "ExperimentError", 1)
    assert (error["mistakes"][0]["where"], error["mistakes"][0]["found"]) == ("--set", '"x"')


def test_an_unknown_verb_and_a_missing_argument_show_the_command_that_helps(typed: Launcher) -> None:
    code, out, err = typed("rum")
    assert (code, out) == (2, "")
    assert err.startswith("error: no such command 'rum'\n    hint:     did you mean resume, rm or run?\n    usage:")
    assert err.endswith("    help:     launcher --help\n")
    assert typed("run")[2] == (
        "error: missing argument 'EXP'\n    usage:    launcher run [OPTIONS] EXP\n    help:     launcher run --help\n"
    )


@pytest.mark.parametrize(
    ("verb", "meant"),
    [("train", "launcher run EXP"), ("sweep", "launcher run EXP --sweep KEY=V1,V2"), ("export", "launcher merge RUN -o FOLDER")],
)
def test_a_verb_of_another_tool_names_the_command_that_does_the_same_here(typed: Launcher, verb: str, meant: str) -> None:
    assert typed(verb)[2].splitlines()[:2] == [f"error: no such command '{verb}'", f"    hint:     {meant}"]


def test_every_command_that_stands_for_a_verb_of_another_tool_exists() -> None:
    for verb, command in _BY_VERB.items():
        assert verb not in command_line.commands
        for one in command.split(", or "):
            first, word = one.split()[:2]
            assert first == "launcher"
            assert word == "--version" or word in command_line.commands


def test_on_a_terminal_a_message_wraps_at_words_and_a_line_of_a_file_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("launcher.cli.terminal.screen.columns", lambda err: 40)
    source = "    | " + "beta: 0.1 # " * 6
    fail(
        f"a.yml:1:1: a sentence that is longer than forty columns\n{source}\n    | ^^^^\n"
        "    expected: a number greater than 0 and not a word"
    )
    assert capsys.readouterr().err == (
        "error: a.yml:1:1: a sentence that is\n    longer than forty columns\n"
        f"{source}\n    | ^^^^\n"
        "    expected: a number greater than 0\n              and not a word\n"
    )


def test_a_path_stays_beside_its_label_where_the_terminal_is_too_narrow_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("launcher.cli.terminal.screen.columns", lambda err: 40)
    path = "/home/person/preferences/data/dpo/model/exp_1"
    facts({"folder": path, "adapter": f"{path} (28 tensors, read back and compared)"})
    out = capsys.readouterr().out
    assert out == (
        f"folder      {path}\n"
        f"adapter     {path}\n"  # beside its label: a line of its own is too short as well
        "            (28 tensors, read back and\n"
        "            compared)\n"
    )


def test_a_bug_says_how_to_see_its_traceback(typed: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.runs.finding.newest_first", lambda *_: 1 / 0)
    monkeypatch.setattr("launcher.backends.status.finding.newest_first", lambda *_: 1 / 0)
    code, _, err = typed("ps")
    expected = "error: ZeroDivisionError: division by zero\n    this is a bug in the launcher; --debug shows the traceback\n"
    assert (code, err) == (1, expected)


def test_the_commands_of_an_error_can_be_typed_where_the_shell_does_not_find_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("launcher.cli.terminal.screen.this_launcher", lambda: ".venv/bin/launcher")
    fail("k1 is running. Follow it with: launcher logs -f k1\n    | note: launcher logs -f k1\n    hint:     launcher why k1")
    assert capsys.readouterr().err == (
        "error: k1 is running. Follow it with: .venv/bin/launcher logs -f k1\n    | note: launcher logs -f k1\n"
        "    hint:     .venv/bin/launcher why k1\n"
    )
