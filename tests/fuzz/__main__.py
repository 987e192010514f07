"""python -m tests.fuzz [SECONDS] [KIND]...     all kinds beside each other, 30 seconds each
python -m tests.fuzz --one KIND [libFuzzer's arguments]     one kind in this process; with a file, that file alone

What is found lies in build/fuzz as crash-…; add it to tests/fuzz/seeds, and a test to where the fault was.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS, FOUND = Path(__file__).with_name("seeds"), ROOT / "build" / "fuzz"
KINDS = ("yaml", "csv", "jsonl")


def main(args: list[str]) -> int:
    if args[:1] == ["--one"]:
        fuzz(args[1], args[2:])
        return 0  # libFuzzer has left before, unless it was given nothing to do
    seconds = int(args[0]) if args else 30
    FOUND.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        started = {kind: start(kind, seconds, Path(temporary) / kind) for kind in args[1:] or KINDS}
        ends = {kind: (process.communicate()[0], process.returncode) for kind, process in started.items()}
    for kind, (text, code) in ends.items():
        lines = text.splitlines()
        print(kind, next((line for line in lines if line.startswith("Done ")), "failed"))  # noqa: T201
        if code:
            print("\n".join(lines[-40:]))  # noqa: T201
            print(f"again: python -m tests.fuzz --one {kind} build/fuzz/crash-…")  # noqa: T201
    return max(code != 0 for _, code in ends.values())


def start(kind: str, seconds: int, new: Path) -> subprocess.Popen[str]:
    """What it learns goes into the folder ``new``, not among the seeds."""
    new.mkdir()
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={FOUND}/"]
    seeds = [str(SEEDS / kind)] if (SEEDS / kind).is_dir() else []
    command = [sys.executable, "-m", "tests.fuzz", "--one", kind, *limits, "-seed=1", str(new), *seeds]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def fuzz(kind: str, args: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["launcher.data", "launcher.experiment", "csv", "json", "yaml"]):
        from .readers import READERS, is_read

    @atheris.instrument_func
    def planted(folder: Path, data: bytes) -> None:
        """A fault behind three bytes, which coverage leads to and chance does not: the tests see that it is found."""
        for place, byte in enumerate(b"sep"):
            if data[place : place + 1] != bytes([byte]):
                return
        raise KeyError("planted")

    read = {**READERS, "planted": planted}[kind]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as temporary:

        def once(data: bytes) -> None:
            is_read(read, Path(temporary), data)

        atheris.Setup([sys.argv[0], *args], once)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
