"""The fuzzer, for some seconds: what reads files holds, and a planted fault is found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def fuzzed(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tests.fuzz", *args], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_no_file_that_coverage_leads_to_ends_in_a_traceback() -> None:
    found = fuzzed("2")
    assert found.returncode == 0, found.stdout
    runs = dict(re.findall(r"^(\w+) Done (\d+) runs", found.stdout, re.MULTILINE))
    assert runs.keys() == {"yaml", "csv", "jsonl"}
    assert min(map(int, runs.values())) > 5


def test_a_fault_behind_three_bytes_is_found_and_its_bytes_are_kept(tmp_path: Path) -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.fuzz",
            "--one",
            "planted",
            "-max_total_time=240",
            "-seed=1",
            f"-artifact_prefix={tmp_path}/",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.returncode != 0
    assert "AssertionError: KeyError: 'planted'" in found.stdout + found.stderr
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes()[:3] == b"sep"
