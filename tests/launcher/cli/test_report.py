"""`launcher report` as a person types it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from launcher.cli import main
from launcher.runs.run_dir import RunDir
from tests.run_folders import Made

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "/no/such/file")
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/engine")
    return Made("first").write(tmp_path)


def typed(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["report", *args])
    return int(ended.value.code or 0)


def test_the_page_of_a_run_is_in_its_folder(run: RunDir, capsys: pytest.CaptureFixture[str]):
    assert typed("latest") == 0
    assert capsys.readouterr().out == f"Wrote {run.path}/report.html. Open it in a browser.\n"
    assert "<h1>first</h1>" in (run.path / "report.html").read_text()


def test_the_page_of_several_runs_is_here_and_what_is_not_comparable_is_said(run: RunDir, capsys: pytest.CaptureFixture[str]):
    Made("second", settings={"beta": 0.5}).write(Path.cwd())
    assert typed("first", "second", "first") == 0
    assert capsys.readouterr().out == (
        "Wrote report.html. Open it in a browser.\n"
        "warning: beta differs: rewards and margins are multiples of beta; compare accuracies\n"
    )
    assert "<h1>2 runs compared</h1>" in Path("report.html").read_text()
    assert typed("first", "-o", "no/such/folder.html") == 1
    assert "cannot write no/such/folder.html: no such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "name a run, or list all with: launcher report --serve"),
        (("first", "--port", "8000"), "--port needs --serve"),
        (("--serve", "-o", "x.html"), "--serve writes no file: leave -o out"),
        (("--serve", "third"), "run 'third' not found"),
    ],
)
def test_what_does_not_fit_together_ends_with_2(
    run: RunDir, args: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
):
    assert typed(*args) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_pages_are_served_until_a_signal(run: RunDir, number: signal.Signals):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "launcher", "report", "--serve"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        said = server.stdout.readline()
        address = re.fullmatch(r"Reports at (http://127\.0\.0\.1:\d+/) \(Ctrl-C stops it\)\n", said)
        assert address, said + server.stdout.read()
        with urlopen(address[1], timeout=30) as answer:
            assert 'href="/runs/first"' in answer.read().decode()
    finally:
        server.send_signal(number)
        rest, _ = server.communicate(timeout=300)
    assert (server.returncode, rest) == (0, "")
