"""Tab in a real shell: what is typed, what the line is then."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import sys
import time
from pathlib import Path

import click
import pytest

from launcher.cli import launcher
from launcher.cli.terminal.shells import Bash
from tests.launcher.cli.terminal.test_completion import FILE

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(launcher completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -u -D; eval "$(launcher completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "launcher completion fish | source"),
}
CASES = {
    "launcher check ex": "launcher check exp_1 ",
    "launcher check exp_1 --set hyperparameters.bet": "launcher check exp_1 --set hyperparameters.beta=",
    "launcher check exp_1 --set hyperparameters.compile=l": "launcher check exp_1 --set hyperparameters.compile=layers ",
    "X=1 launcher plan exp_1 --set method=s": "X=1 launcher plan exp_1 --set method=sft ",
}


class Shell:
    """An interactive shell on a terminal of its own, with the launcher's completion."""

    def __init__(self, name: str, home: Path):
        argv, setup = SHELLS[name]
        binaries = home / "bin"
        binaries.mkdir()
        script = f'#!/bin/sh\nexec {sys.executable} -c "from launcher.cli import main; main()" "$@"\n'
        (binaries / "launcher").write_text(script)
        (binaries / "launcher").chmod(0o755)
        env = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parents[4]),
            "TERM": "dumb",
            "PS1": "$ ",
        }
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.chdir(home)
            os.execvpe(argv[0], argv, {**env, "HOME": str(home), "LANG": "C.UTF-8"})
        self._write(f'{setup}\necho rea""dy\n')
        self._read_until(r"ready\r?\n")

    def completed(self, typed: str, wanted: str) -> str:
        """The line after Tab, without what the terminal is told."""
        self._write(f"{typed}\t")
        text = self._read_until(re.escape(wanted))
        self._write("\x15")
        return text

    def close(self) -> None:
        os.close(self._terminal)  # the shell ends with its terminal
        os.waitpid(self._process, 0)

    def _write(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read_until(self, pattern: str, seconds: float = 120) -> str:
        text, end = "", time.monotonic() + seconds
        while time.monotonic() < end and not re.search(pattern, text):
            if select.select([self._terminal], [], [], 0.2)[0]:
                text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", os.read(self._terminal, 65536).decode(errors="replace"))
        return text


@pytest.mark.parametrize("name", SHELLS)
def test_experiments_keys_and_choices_complete_behind_an_equals_sign_too(name: str, tmp_path: Path) -> None:
    if shutil.which(name) is None:
        assert name != "bash", "every machine of these tests has bash"
        pytest.skip(f"no {name}")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "e.yml").write_text(FILE)
    shell = Shell(name, tmp_path)
    try:
        for typed, wanted in CASES.items():
            found = shell.completed(typed, wanted)
            assert wanted in found, (typed, found)
            assert f"{wanted} " not in found, f"a blank behind {wanted!r}"
    finally:
        shell.close()


@pytest.mark.parametrize(
    ("line", "breaks", "answers"),
    [
        ("launcher check exp_1 --set beta=s", " =:", ["igmoid"]),
        ("launcher check exp_1 --set beta=s", " ", ["beta=sigmoid"]),
        ("launcher check exp_1 --set ", " =:", ["beta=sigmoid"]),
    ],
)
def test_bash_gets_what_follows_the_last_character_at_which_it_breaks_words(
    line: str, breaks: str, answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_WORDBREAKS", breaks)
    value = "beta=sigmoid" if answers != ["igmoid"] else "beta=igmoid"
    item = click.shell_completion.CompletionItem(value)
    assert [Bash(launcher, {}, "launcher", "_X").format_completion(item)] == [f"plain,{one}" for one in answers]


def test_every_argument_that_names_a_run_an_experiment_or_a_setting_completes() -> None:
    def commands(group: click.Group, above: str = "") -> list[tuple[str, click.Command]]:
        found: list[tuple[str, click.Command]] = []
        for name, one in group.commands.items():
            found += commands(one, f"{above}{name} ") if isinstance(one, click.Group) else [(above + name, one)]
        return found

    named = re.compile(r"\bRUN\b|\bEXP\b|\bKEY=")
    without = [
        f"{name}: {parameter.metavar}"
        for name, command in commands(launcher)
        for parameter in command.params
        if named.search(parameter.metavar or "") and parameter._custom_shell_complete is None
    ]
    assert without == []
