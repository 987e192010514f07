"""Code blocks of a page, and a checkout in which they are tried; ``python -m docs.generate.blocks`` renews printed outputs.

A ``console`` block holds ``$ command`` lines with what they print. A comment ``<!-- file: PATH … -->`` before a block saves the
block's text as those files of the checkout.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .pages import DOCS, README, ROOT

_BLOCK: Final = re.compile(
    r"(?:^<!-- file: (?P<files>[^\n]+) -->\n\n?)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_COPIED: Final = ("configs", "docker", "docs", "k8s", "README.md", "Makefile", "pyproject.toml", ".env.example")


@dataclass(frozen=True)
class Block:
    """``line`` is that of its fence; ``files`` are the paths that its text is saved under."""

    page: Path
    line: int
    language: str
    text: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page whose blocks are tried."""
    return [README, *sorted(DOCS.rglob("*.md")), ROOT / "k8s" / "README.md", ROOT / "tests" / "cluster" / "README.md"]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(page, line, found["language"], found["text"], tuple((found["files"] or "").split()))


class Checkout:
    """A copy of what a command reads, in which nothing of this checkout is changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in _COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)

    def save(self, block: Block) -> None:
        for name in block.files:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")

    @property
    def env(self) -> dict[str, str]:
        """That of a machine that nobody has set up: no credentials, no GPU, a cache of its own."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        own = {"PYTHONPATH": str(ROOT), "DPO_CACHE_ROOT": str(self.folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}
        return {**kept, "LC_ALL": "C.UTF-8", **own}

    def printed(self, block: Block) -> str:
        """The block as the real launcher would print it: each ``$ launcher …`` with its output."""
        commands = [line for line in block.text.splitlines() if line.startswith("$ ")]
        return "".join(f"{command}\n{self._output(command.removeprefix('$ '))}" for command in commands)

    def _output(self, command: str) -> str:
        name, *args = shlex.split(command)
        assert name == "launcher", command
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *args],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def renew(page: Path) -> None:
    """Writes the outputs of the page's ``console`` blocks again."""
    with tempfile.TemporaryDirectory() as folder:
        checkout, text = Checkout(Path(folder)), page.read_text(encoding="utf-8")
        for block in blocks(page):
            checkout.save(block)
            if block.language == "console":
                text = text.replace(block.text, checkout.printed(block))
        page.write_text(text, encoding="utf-8")


def main() -> None:
    for page in pages():
        renew(page)


if __name__ == "__main__":
    main()
