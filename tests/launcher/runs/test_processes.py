import os
import subprocess
from pathlib import Path

import pytest

from launcher.runs.processes import MARK, members


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shows ``members`` the processes of a machine that this one is not."""
    monkeypatch.setattr("launcher.runs.processes._PROC", tmp_path)
    return tmp_path


def process(proc: Path, pid: int, parent: int, state: str = "S") -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} (a ) name) {state} {parent} " + "0 " * 30)


def test_an_entry_that_is_the_first_process_of_a_container_finds_its_descendants(proc: Path) -> None:
    for pid, parent in ((1, 0), (20, 1), (300, 20), (4000, 0)):  # the last one came from outside, as by `docker exec`
        process(proc, pid, parent)
    process(proc, 50, 1, "Z")
    assert members(None, 1) == [1, 20, 300]


def test_a_run_is_found_whatever_bytes_its_folder_has(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xc3\xbc\xff"
    marked = subprocess.Popen(["sleep", "600"], env={**os.environb, MARK.encode(): folder})
    try:
        assert members(os.fsdecode(folder)) == [marked.pid]
    finally:
        marked.kill()
        marked.wait()
