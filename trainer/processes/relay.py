"""Copies the logs of a node's ranks to the entry's output, line by line.

The files get every byte first, so that ranks never wait for the reader of the output.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from launcher.runs.run_dir import RunDir

LINE: Final = 16 * 1024  # bytes with prefix and line break; container runtimes cut longer ones and stamp each piece
_CHUNK: Final = 1 << 20
# A progress bar returns to the line's start and writes it again: each state is a line here.
_END: Final = re.compile(rb"\r?\n|\r(?!\n)")


class Relay:
    """The logs of ``ranks``, each from where it ends now."""

    def __init__(self, run: RunDir, ranks: Iterable[int], output: int = 1):
        """``output``: the file descriptor that is written to."""
        self._logs = [_Log(run.rank_log(rank), f"[rank {rank}] ".encode()) for rank in ranks]
        self._output: int | None = output

    def copy(self) -> None:
        """Copies all lines that were whole when it was called."""
        for log in self._logs:
            with suppress(OSError):  # a volume may fail for a moment: the next call reads it
                for lines in log.new():
                    self._write(lines)

    def finish(self) -> None:
        """Copies the rest after the ranks have ended, with a last line that has no end."""
        self.copy()
        for log in self._logs:
            self._write(log.rest())

    def _write(self, lines: bytes) -> None:
        try:
            while lines and self._output is not None:
                lines = lines[os.write(self._output, lines) :]
        except BrokenPipeError:  # no reader any more: the training does not depend on one
            self._output = None


class _Log:
    def __init__(self, path: Path, prefix: bytes):
        self._path, self._prefix = path, prefix
        self._read = path.stat().st_size if path.exists() else 0
        self._open = b""  # a line whose end is still to come

    def new(self) -> Iterable[bytes]:
        """New output, in pieces of whole lines with the prefix."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            until = os.fstat(file.fileno()).st_size
            file.seek(self._read)
            while self._read < until and (chunk := file.read(min(_CHUNK, until - self._read))):
                self._read += len(chunk)
                yield self._lines(chunk)

    def rest(self) -> bytes:
        line, self._open = self._open.rstrip(b"\r"), b""
        return b"".join(self._pieces(line)) if line else b""

    def _lines(self, chunk: bytes) -> bytes:
        text = self._open + chunk
        # Whether a return at the very end belongs to a line break is known when more has come.
        end = max(text.rfind(b"\n"), text.rfind(b"\r", 0, -1)) + 1
        whole, self._open = text[:end], text[end:]
        found: list[bytes] = []
        begin = 0
        for mark in _END.finditer(whole):
            line = whole[begin : mark.start()]
            if line or mark[0] != b"\r":  # nothing was drawn before a return
                found += self._pieces(line)
            begin = mark.end()
        *full, last = self._pieces(self._open)
        self._open = last[len(self._prefix) : -1]
        return b"".join([*found, *full])

    def _pieces(self, line: bytes) -> list[bytes]:
        """The line with prefix and end, in several pieces if it is too long, cut between UTF-8 characters."""
        most = LINE - len(self._prefix) - 1
        found = []
        while len(line) > most:
            cut = most
            while cut > most - 4 and line[cut] & 0xC0 == 0x80:
                cut -= 1
            found.append(self._prefix + line[:cut] + b"\n")
            line = line[cut:]
        return [*found, self._prefix + line + b"\n"]
