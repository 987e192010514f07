"""`launcher shell`: a command inside a run, with this terminal's input, output, size and the command's exit code."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from launcher.errors import LauncherError, UsageError
from launcher.runs.run_dir import RunDir
from tests.cluster_api import ClusterApi, controllers, streams
from tests.cluster_api.played import Played

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def played(cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    """A run of two nodes; what runs in its pods runs in folders of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(cluster_api.kubeconfig))
    run = Played(cluster_api, nodes=2)
    for number, pod in enumerate(run.start()):
        (tmp_path / f"node-{number}").mkdir()
        cluster_api.commands["default", pod] = tmp_path / f"node-{number}"
    return run


def typed(*args: str) -> int:
    from launcher.cli import launcher

    code = launcher.main(args=["shell", *args], prog_name="launcher", standalone_mode=False)
    return code if isinstance(code, int) else 0


class Person:
    """A process with a terminal of 33 rows and 99 columns."""

    def __init__(self, *words: str) -> None:
        self.terminal, its = pty.openpty()
        self.resize(99, 33)
        self.before = termios.tcgetattr(its)
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        self.process = subprocess.Popen([sys.executable, "-m", "launcher", *words], stdin=its, stdout=its, stderr=its, env=env)
        self.its, self.seen = its, b""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def types(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def sees(self, text: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, f"not seen: {text!r} in {self.seen!r}"
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.seen += os.read(self.terminal, 4096)


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
def test_a_shell_in_a_pod_has_the_size_of_this_terminal_its_keys_and_its_exit_code(
    played: Played, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr(streams, "PROTOCOLS", (protocol,))
    person = Person("shell", "first", "--node", "1", "--", "sh")
    person.types("pwd; stty size\n")
    person.sees("/node-1\r\n")
    person.sees("33 99\r\n")
    person.resize(120, 40)
    person.types("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.1; done; echo re''sized\n")
    person.sees("resized\r\n")
    person.types("sh -c \"echo be''gun; exec sleep 3600\"\n")
    person.sees("begun\r\n")
    person.types("\x03")  # Ctrl-C ends the command in the pod and not the launcher
    person.types("echo $((40 + 2)); exit 7\n")
    person.sees("42\r\n")
    assert person.process.wait(300) == 7
    assert termios.tcgetattr(person.its) == person.before


def test_a_command_gets_standard_input_and_its_streams_stay_apart(
    played: Played, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "typed").write_text("one\ntwo\n")
    before = os.dup(0)
    with (tmp_path / "typed").open() as file:
        os.dup2(file.fileno(), 0)
    try:
        assert typed("first", "--", "sh", "-c", "cat; echo three >&2; exit 3") == 3
    finally:
        os.dup2(before, 0)
        os.close(before)
    told = capfd.readouterr()
    assert (told.out, told.err) == ("one\ntwo\n", "three\n")


def test_without_a_running_container_or_such_a_node_there_is_no_shell(played: Played) -> None:
    with pytest.raises(UsageError, match=r"^--node 2: first has nodes 0 to 1$"):
        typed("first", "--node", "2")
    controllers.waiting(played.api, played.pods()[1], "ImagePullBackOff")
    with pytest.raises(LauncherError, match=r"^first: the container of node 1 is not running\n    hint:     launcher why first$"):
        typed("first", "--node", "1")


def test_where_exec_is_denied_the_command_for_a_debug_container_is_named(played: Played) -> None:
    played.api.deny("create", "pods/exec")
    with pytest.raises(LauncherError) as caught:
        typed("first")
    said, hint = str(caught.value).split("\n    hint:     ")
    assert 'User "dana" cannot create resource "pods/exec"' in said
    pod = played.pods()[0]
    assert hint == (
        "with the right to patch pods/ephemeralcontainers, open a debug container with: "
        f"kubectl -n default debug -it {pod} --target=trainer --profile=restricted --image=dpo:1 -- sh"
    )
    assert played.api.asked("PATCH") == []  # the launcher does not try what its Role does not allow


def test_a_run_on_the_host_gets_a_shell_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunDir.of(tmp_path, "data/dpo/model", "1", "m", "x")
    run.create(
        {run.experiment: "{}"}, {"run": "x", "key": "demo", "backend": "host", "outcome": {"state": "done", "exit_code": 0}}
    )
    assert typed("x", "--", "sh", "-c", "pwd; exit 5") == 5
    told = capfd.readouterr()
    assert told.out == f"{run.path}\n"
    assert told.err == "x has no container: this is a shell of this machine in the run's folder\n"
    with pytest.raises(UsageError, match=r"^--node 1: x is a run of this machine and has only node 0$"):
        typed("x", "--node", "1")


def test_debug_after_two_dashes_belongs_to_the_command(played: Played, capfd: pytest.CaptureFixture[str]) -> None:
    from launcher.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["shell", "first", "--", "echo", "--debug"])
    assert (ended.value.code, capfd.readouterr().out) == (0, "--debug\n")
