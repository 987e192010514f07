"""What a terminal of WIDTH columns shows of a command, with its colours, and a picture of it.

``images/demo.txt`` is recorded by ``python -m docs.generate.pictures``; this file alone draws ``images/demo.svg`` of it.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import Final

from .blocks import Checkout
from .pages import DOCS

RECORD: Final = DOCS / "images" / "demo.txt"
PICTURE: Final = DOCS / "images" / "demo.svg"
WIDTH: Final = 118
COMMAND: Final = ("run", "demo", "--backend", "host", "--name", "first")
TITLE: Final = "launcher run demo"

# rich's own drawing without its web fonts: a picture in a README loads nothing.
_FORMAT: Final = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_PIECE: Final = re.compile(r"\x1b\[(?P<mode>\??)(?P<numbers>[\d;]*)(?P<final>[A-Za-z])|(?P<control>[\r\n])|(?P<text>[^\x1b\r\n])")


class Screen:
    """What a terminal shows of a stream: enough of one for rich's progress bars. A cell is (character, its colours)."""

    def __init__(self) -> None:
        self.lines: list[list[tuple[str, str]]] = [[]]
        self._row, self._column, self._style = 0, 0, ""

    def feed(self, stream: str) -> None:
        for piece in _PIECE.finditer(stream):
            if piece["text"]:
                self._put(piece["text"])
            elif piece["control"] == "\r":
                self._column = 0
            elif piece["control"] == "\n":
                self._down()
            elif not piece["mode"]:
                self._act(piece["final"], piece["numbers"])

    def _put(self, character: str) -> None:
        if self._column == WIDTH:
            self._down()
            self._column = 0
        line = self.lines[self._row]
        line += [(" ", "")] * (self._column - len(line))
        line[self._column : self._column + 1] = [(character, self._style)]
        self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.lines):
            self.lines.append([])

    def _act(self, final: str, numbers: str) -> None:
        if final == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif final == "K":
            del self.lines[self._row][0 if numbers == "2" else self._column :]
        elif final == "m":
            self._style = "" if numbers in ("", "0") else f"{self._style}\x1b[{numbers}m"

    def text(self) -> str:
        """The lines with their colours, without blank lines at the end."""
        return "\n".join(_coloured(line) for line in self.lines).rstrip("\n") + "\n"


def _coloured(line: list[tuple[str, str]]) -> str:
    while line and line[-1] == (" ", ""):
        line = line[:-1]
    text, before = "", ""
    for character, style in line:
        if style != before:
            text += ("\x1b[0m" if before else "") + style
        text, before = text + character, style
    return text + ("\x1b[0m" if before else "")


def record(checkout: Checkout, command: tuple[str, ...]) -> str:
    """The screen at the end of ``launcher`` with ``command`` in a copy of the checkout; ends the program where it fails."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, WIDTH, 0, 0))
    env = {**checkout.env, "TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    launcher = [sys.executable, "-m", "launcher", *command]
    with subprocess.Popen(
        launcher, cwd=checkout.folder, env=env, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        stream = b""
        while piece := _read(master):
            stream += piece
        if process.wait() != 0:
            raise SystemExit(stream.decode(errors="replace"))
    screen = Screen()
    screen.feed(stream.decode("utf-8", errors="replace"))
    return screen.text().replace(str(checkout.folder), "~/dpo-launcher")


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # the last program on the terminal has ended
        return b""


def svg(recorded: str) -> str:
    """The picture of a recorded screen; the same for the same text."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True, legacy_windows=False)  # noqa: PTH123, SIM115
    prompt = Text.assemble(("$ ", "green"), ("launcher " + " ".join(COMMAND), "bold"))
    console.print(prompt)
    console.print(Text.from_ansi(recorded.rstrip("\n")), soft_wrap=False)
    console.print()  # the last line would lose its underscores to the frame
    return console.export_svg(title=TITLE, code_format=_FORMAT, unique_id="demo")


def plain(recorded: str) -> str:
    """The recorded screen without its colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", recorded)


def main() -> None:
    PICTURE.write_text(svg(RECORD.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
