"""A rank whose log would be empty says that it started, on what, and how it ended."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.runs.run_dir import RunDir
from trainer.processes.ranks import roll_call

SECOND = {
    "RANK": "1", "WORLD_SIZE": "4", "GROUP_RANK": "0", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
}  # fmt: skip


def test_a_rank_says_where_it_started_on_what_and_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    roll_call.started(SECOND)
    roll_call.device("cuda:1 (NVIDIA H200)", SECOND)
    roll_call.ended(0, SECOND)
    began, device, end = capsys.readouterr().out.splitlines()
    assert began == f"rank 1 of 4 started: node 0 ({socket.gethostname()}), local rank 1 of 2"
    assert device == "rank 1 uses cuda:1 (NVIDIA H200)"
    assert re.fullmatch(r"rank 1 is done after \d+ s", end)


@pytest.mark.parametrize(("code", "how"), [(143, "stopped on request"), (42, "ended with exit code 42")])
def test_an_ending_that_is_no_success_is_named(code: int, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    roll_call.ended(code, SECOND)
    assert capsys.readouterr().out.startswith(f"rank 1 {how} after ")


def test_the_only_rank_says_it_in_a_pod_alone() -> None:
    assert not roll_call.is_called({"RANK": "0", "WORLD_SIZE": "1"})
    assert roll_call.is_called({"RANK": "0", "WORLD_SIZE": "1", "DPO_CONFIG": "/dpo/config"})


def test_a_rank_that_fails_at_once_leaves_both_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path / "r")
    run.create({run.experiment: "not JSON"}, {"run": "r"})
    for name, value in SECOND.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-m", "trainer", str(run.path)], check=False)
    lines = run.rank_log(1).read_text().splitlines()
    assert lines[0].startswith("rank 1 of 4 started: ")
    assert re.fullmatch(rf"rank 1 ended with exit code {done.returncode} after \d+ s", lines[-1])
