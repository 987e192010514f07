"""What `make` prints while pip works, with a pip that is played."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

INSTALL = Path(__file__).parents[2] / ".ci" / "install.py"
PIP = """
import os, sys, time
from pathlib import Path
def until(seen):
    while not Path(__file__).with_name(seen).exists():
        time.sleep(0.01)
until("begun")
print("Collecting torch==2.13.0 (from dpo-launcher==0.1.0)", flush=True)
print("  Downloading torch-2.13.0-cp311-none-linux_x86_64.whl (888.1 MB)", flush=True)
until("named")
Path(os.environ["TMPDIR"], "torch.whl").write_bytes(b"0" * 3_000_000)
until("counted")
print("  Downloading click-8.3.0-py3-none-any.whl (107 kB)", flush=True)
print("Installing collected packages: click, torch", flush=True)
print("ERROR: the disk is full", file=sys.stderr) if "--fail" in sys.argv else None
Path(__file__).with_name("options").write_text(" ".join(sys.argv))
sys.exit(3 if "--fail" in sys.argv else 0)
"""


def install(folder: Path, *args: str, **variables: str) -> subprocess.Popen[str]:
    """The script over a played pip, which begins when the script has said its first line; it speaks every half a second."""
    (folder / "pip").mkdir()
    (folder / "pip" / "__init__.py").touch()
    (folder / "pip" / "__main__.py").write_text(PIP)
    script = folder / "install.py"
    script.write_text(INSTALL.read_text().replace("EVERY = 4.0", "EVERY = 0.5"))
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "", **variables}
    process = subprocess.Popen(
        [sys.executable, script, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "looking for packages" in process.stdout.readline()
    goes_on(folder, "begun")
    return process


def goes_on(folder: Path, *seen: str) -> None:
    """Lets the played pip do what it does after these have been seen."""
    for one in seen:
        (folder / "pip" / one).touch()


def options(folder: Path) -> list[str]:
    return (folder / "pip" / "options").read_text().split()


def test_a_large_download_is_named_with_its_size_and_its_progress_is_shown(tmp_path: Path) -> None:
    process, words = install(tmp_path), []
    assert process.stdout is not None
    for line in process.stdout:
        words.append(re.sub(r"^ +\d+ s  ", "", line.rstrip("\n")))
        if words[-1] == "downloading torch 2.13.0 (888 MB)":
            goes_on(tmp_path, "named")
        elif words[-1] == "downloading torch 2.13.0: 3 MB of 888 MB":
            goes_on(tmp_path, "counted")
    assert process.wait(300) == 0
    assert not any("click" in line for line in words), "small packages are not worth a line"
    assert words[-1] == "installed"
    assert "installing 2 packages" in words
    assert "--no-compile" in options(tmp_path), "a process compiles what it imports, and keeps that"


def test_a_failure_is_pips_own_with_its_exit_code(tmp_path: Path) -> None:
    process = install(tmp_path, "--fail", PYTHONDONTWRITEBYTECODE="1")
    goes_on(tmp_path, "named", "counted")
    said, wrong = process.communicate(timeout=300)
    assert process.returncode == 3
    assert wrong == "ERROR: the disk is full\n"
    assert said.splitlines()[-1].endswith("pip failed (exit code 3)")
    assert "--no-compile" not in options(tmp_path), "no process would keep what it compiles"
