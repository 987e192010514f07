"""What launcher chat prints, asked by a person at a terminal; the process of the trainer is played."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launcher.after.generate import Generated
from launcher.after.tool import Tool
from launcher.backends.session import Session
from launcher.cli import answers, launcher, main
from launcher.cli.terminal import flow, screen
from launcher.job.exchange import decoded, encoded
from tests.run_folders import Made

WORDS = "Peel it under cold water: the shell comes off in two or three large pieces. "


class Played(Session):
    """Answers every message with its own text, twice; keeps what it was asked."""

    def __init__(self, sides: list[str], has_base: bool = True) -> None:
        self._out, self._in = os.pipe()
        self.asked: list[dict[str, Any]] = []
        self.stops_at: str | None = None
        super().__init__()
        self._tell({"line": "loading the weights"})
        self.sides = sides
        self._tell({"ready": {"sides": sides, "has_base": has_base, "device": "cpu", "notices": ["warning: no prompt"]}})

    def send(self, line: str) -> None:
        asked = decoded(line)
        assert asked is not None
        self.asked.append(asked)
        if "ask" in asked and asked["ask"] == "refuse":
            self._tell({"refused": "no room for an answer"})
        elif "ask" in asked:
            for side in self.sides:
                for piece in (f"{side}: ", asked["ask"][:7], asked["ask"][7:]):
                    self._tell({"side": side, "text": piece})
            if asked["ask"] == "wait":
                os.kill(os.getpid(), signal.SIGINT)
                return
            finish = "length" if asked["ask"] == "long" else "stop"
            self._tell({"turn": {side: {"text": asked["ask"], "tokens": 3, "finish": finish} for side in self.sides}})
        elif "stop" in asked:
            self._tell({"turn": {self.sides[0]: {"text": "w", "tokens": 1, "finish": "stopped"}}})

    def wait(self) -> tuple[int, str]:
        return 0, ""

    def close(self) -> None:
        os.close(self._in)

    def _tell(self, event: dict[str, Any]) -> None:
        os.write(self._in, encoded(event).encode() + b"\n")

    def _pieces(self) -> Iterator[bytes]:
        while piece := os.read(self._out, 4096):
            yield piece


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    monkeypatch.chdir(tmp_path)
    Made("one").write(tmp_path).adapter.mkdir()
    session = Played(["base", "trained"])
    monkeypatch.setattr(Tool, "open", lambda self, module, args: session)
    return session


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, typed: list[str], width: int = 80) -> Any:
    lines = iter(typed)

    def read(prompt: str) -> str:
        try:
            line = next(lines)
        except StopIteration:
            raise EOFError from None
        if line == "^C":
            raise KeyboardInterrupt
        print(f"{prompt}{line}")  # noqa: T201 - a terminal shows what is typed
        return line

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(answers, "_is_terminal", lambda: True)
    for module in (screen, flow):
        monkeypatch.setattr(module, "columns", lambda err: width)
    return CliRunner().invoke(launcher, ["chat", "one"])


def test_a_person_talks_in_turns_and_forgets(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    done = at_a_terminal(monkeypatch, ["Why?", "", "/reset", "long", "/nothing", "refuse", "^C", "/quit", "never"])
    assert done.exit_code == 0, done.output
    assert played.asked == [
        {"ask": "Why?", "alone": False},
        {"reset": True},
        {"ask": "long", "alone": False},
        {"ask": "refuse", "alone": False},
    ]
    assert done.stdout.splitlines() == [
        "one on the CPU: base and trained. /reset forgets the conversation, /quit or",
        "Ctrl-D ends, Ctrl-C stops an answer.",
        "> Why?",
        "base        base: Why?",
        "trained     trained: Why?",
        "",
        "> ",
        "> /reset",
        "The conversation is forgotten.",
        "",
        "> long",
        "base        base: long",
        "trained     trained: long",
        "            (base and trained: cut at 512 tokens, see --max-tokens)",
        "",
        "> /nothing",
        "unknown command /nothing; /reset forgets the conversation, /quit or Ctrl-D ends,",
        "Ctrl-C stops an answer",
        "",
        "> refuse",
        "no room for an answer. Forget the conversation with /reset.",
        "",
        "",
        "/reset forgets the conversation, /quit or Ctrl-D ends, Ctrl-C stops an answer",
        "> /quit",
    ]
    assert "warning: no prompt" in done.stderr
    assert "loading the weights" in done.stderr


def test_ctrl_c_ends_the_answer_and_not_the_conversation(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    done = at_a_terminal(monkeypatch, ["wait", "Why?"])
    assert done.exit_code == 0, done.output
    assert {"stop": True} in played.asked
    assert "(stopped)" in done.stdout
    assert "base        base: Why?" in done.stdout
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("width", [60, 80, 120])
def test_an_answer_is_wrapped_beside_its_label(played: Played, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    done = at_a_terminal(monkeypatch, [WORDS * 3 + "\n\n  - a list"], width)
    begin = next(n for n, line in enumerate(done.stdout.splitlines()) if line.startswith("base  "))
    lines = done.stdout.splitlines()[begin:]
    text = lines[: next(n for n, line in enumerate(lines) if line.startswith("trained"))]
    assert max(map(len, text)) <= width
    assert all(line.startswith(" " * 12) or not line.strip() for line in text[1:])
    assert " ".join(" ".join(text).split()) == "base base: " + " ".join((WORDS * 3 + " - a list").split())
    assert text[-1] == " " * 12 + "  - a list"


def test_an_answer_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    one = flow.Flow("base")
    for piece in ("\n red\x1b[31", "m\x07 \x9b2Jtext\r\n", "\tin"):
        one.add(piece)
    one.end()
    assert capsys.readouterr().out == "base        red[31m 2Jtext\n" + " " * 13 + "in\n"


def test_prompts_are_asked_alone_and_json_has_all_answers(played: Played) -> None:
    done = CliRunner().invoke(launcher, ["chat", "one", "--prompt", "Why?", "--prompt", "long", "--json"])
    assert [asked["alone"] for asked in played.asked] == [True, True]
    found = json.loads(done.stdout)
    assert found["run"] == "one"
    assert [turn["prompt"] for turn in found["turns"]] == ["Why?", "long"]
    assert found["turns"][1]["answers"]["trained"] == {"text": "long", "tokens": 3, "finish": "length"}


def test_an_empty_line_stands_between_two_conversations(played: Played) -> None:
    done = CliRunner().invoke(launcher, ["chat", "one", "--no-base", "--prompt", "Why?", "--prompt", "How?"])
    lines = done.stdout.splitlines()
    assert [number for number, line in enumerate(lines) if not line] == [lines.index("prompt      How?") - 1]


def test_a_run_with_full_weights_has_no_base_side_and_says_where_the_base_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Made("whole", settings={"full_finetuning": True}).write(tmp_path).adapter.mkdir()
    monkeypatch.setattr(Tool, "open", lambda self, module, args: Played(["trained"], has_base=False))
    done = CliRunner().invoke(launcher, ["chat", "whole"], input="Why?\n")
    assert done.stdout == "prompt      Why?\ntrained     trained: Why?\n"
    assert "notice: whole has full weights, without the base model. Talk to that with: launcher chat data/demo" in done.stderr
    shutil.rmtree(tmp_path / "data")


def test_an_interrupted_generate_tells_how_to_resume_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("launcher.after.generate.generate", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["generate", "one", "--data", "a.txt", "-o", "b.jsonl"])
    assert (ended.value.code, capsys.readouterr()) == (130, ("", "interrupted; the same command resumes\n"))


@pytest.mark.parametrize(("prompts", "said"), [(1, "1 answer of one\n"), (2, "2 answers of one\n")])
def test_generate_counts_its_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], prompts: int, said: str
) -> None:
    found = Generated("one", "a.txt", Path("b.jsonl"), prompts, 0, 0)
    monkeypatch.setattr("launcher.after.generate.generate", lambda *_: found)
    with pytest.raises(SystemExit):
        main(["generate", "one", "--data", "a.txt", "-o", "b.jsonl"])
    assert capsys.readouterr().out == f"{said}written: b.jsonl\n"
