"""RankLog: a rank's own file in the archive, read from the last line that was read from its pod. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from .logs import Line

_LINE: Final = re.compile(rb"([^\r\n]*)(\r\n|\n|\r(?!$))")  # a \r at the very end may be half of \r\n


class RankLog:
    """Bytes of the file in, lines out, without those up to the lines ``heard``. ``offset``: the next byte to read."""

    def __init__(self, rank: int, heard: Sequence[str] = ()):
        self.rank, self.offset = rank, 0
        self._heard, self._rest = list(heard), b""

    def feed(self, data: bytes) -> list[Line]:
        """The whole lines in ``data``, which starts at ``offset``."""
        self.offset += len(data)
        text, end, lines = self._rest + data, 0, list[str]()
        for found in _LINE.finditer(text):
            lines.append(found[1].decode("utf-8", "replace"))
            end = found.end()
        self._rest = text[end:]
        if lines and self._heard:
            lines = lines[_end_of(self._heard, lines) :]
            self._heard = []
        return [Line(self.rank, line) for line in lines]

    def close(self) -> list[Line]:
        """The last line, if it had no end."""
        rest, self._rest = self._rest.rstrip(b"\r"), b""
        return [Line(self.rank, rest.decode("utf-8", "replace"))] if rest else []


def _end_of(heard: Sequence[str], lines: Sequence[str]) -> int:
    """The number of ``lines`` up to the last place equal to ``heard``, ignoring empty lines; all of them if there is none:
    better to skip lines than to repeat everything."""
    said = [(number, line) for number, line in enumerate(lines, start=1) if line]
    texts = [line for _, line in said]
    for length in sorted({len(heard), min(8, len(heard)), 1}, reverse=True):
        wanted = list(heard[-length:])
        for end in range(len(texts), length - 1, -1):
            if texts[end - length : end] == wanted:
                return said[end - 1][0]
    return len(lines)
