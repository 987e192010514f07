"""Writes the hash-locked requirements of the image's two variants: ``python docker/lock.py [WHEELS]``; `make lock` calls it.

uv resolves pyproject.toml's extras ``trainer`` and ``trackers`` and the few clients that the trainer shares with the launcher,
held to constraints.txt. The CPU variant leaves out what only a CUDA build of torch asks for, and takes torch's CPU builds too:
their hashes come from the wheels in the folder WHEELS, and are kept from the last lock where there is none.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

DOCKER: Final = Path(__file__).parent
# What launcher.experiment, launcher.data and launcher.storage import; the other clients are for the machine that launches.
SHARED: Final = ("boto3", "ftfy", "gspread", "pydantic", "python-calamine", "python-dotenv", "pyyaml")
ONLY_CUDA: Final = re.compile(r"(nvidia|cuda|triton)\b")
_BLOCK: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?:.*\\\n)*.*\n", re.MULTILINE)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def main(wheels: Path | None) -> None:
    project = tomllib.loads((DOCKER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    shared = [line for line in project["dependencies"] if re.split(r"[<>=]", line)[0] in SHARED]
    for variant, wanted in (("cpu", []), ("cuda", extras["cuda"])):
        path = DOCKER / f"requirements-{variant}.txt"
        blocks = resolve([*shared, *extras["trainer"], *extras["trackers"], *wanted])
        if variant == "cpu":
            blocks = [block for block in blocks if not ONLY_CUDA.match(block)]
            blocks = [with_hashes(block, cpu_builds(path, wheels)) if block.startswith("torch==") else block for block in blocks]
        head = f"# The packages of the {variant} image, by hash, for CPython 3.11 and 3.12 on Linux; `make lock` writes it.\n"
        path.write_text(head + "".join(blocks), encoding="utf-8")


def resolve(wanted: list[str]) -> list[str]:
    """The requirements, one block of lines each, of everything that ``wanted`` needs on Linux."""
    command = ["uv", "pip", "compile", "-", "--universal", "--python-version", "3.11", "--generate-hashes", "--quiet"]
    command += ["--no-annotate", "--no-header", "--constraint", str(DOCKER / "constraints.txt")]
    text = subprocess.run(command, input="\n".join(wanted), capture_output=True, text=True, check=False)
    if text.returncode:
        sys.exit(text.stderr)
    blocks = [match.group() for match in _BLOCK.finditer(text.stdout)]
    return [block for block in blocks if not re.search(r"; [^\\]*== '(win32|emscripten)'", block)]


def cpu_builds(lock: Path, wheels: Path | None) -> set[str]:
    """SHA-256 of torch's CPU builds: of the wheels that are here, and of those that the lock knows already."""
    known = set()
    if lock.is_file():
        known = set(re.findall(r"^# cpu build: ([0-9a-f]{64})$", lock.read_text(encoding="utf-8"), re.MULTILINE))
    for wheel in wheels.glob("torch-*+cpu-*.whl") if wheels else ():
        with wheel.open("rb") as file:
            known.add(hashlib.file_digest(file, "sha256").hexdigest())
    if not known:
        sys.exit("no CPU build of torch is known: name a folder with its wheels (make lock WHEELS=…)")
    return known


def with_hashes(block: str, more: set[str]) -> str:
    first = block.partition(" \\\n")[0]
    hashes = sorted({*_HASH.findall(block), *more})
    notes = "".join(f"# cpu build: {value}\n" for value in sorted(more))
    return notes + first + "".join(f" \\\n    --hash=sha256:{value}" for value in hashes) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
