"""The person's terminal joined to a command elsewhere: raw mode, its size, both directions, and the command's exit code."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

_TICK: Final = 0.2  # seconds between two looks at the terminal's size
_CHUNK: Final = 32 * 1024
STDIN, STDOUT, STDERR = 0, 1, 2


class Wire(Protocol):
    """A command that runs elsewhere, with its input and output. One thread sends, another one reads."""

    def send(self, data: bytes) -> None:
        """Sends a piece of its input; does nothing if the command has ended."""

    def end(self) -> None:
        """Ends its input."""

    def resize(self, columns: int, rows: int) -> None:
        """Sets the size of its terminal."""

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """(STDOUT or STDERR, a piece of the output) to the command's end. Raises LauncherError if the connection breaks."""

    def code(self) -> int:
        """The command's exit code, after the last piece."""

    def close(self) -> None:
        """Closes the connection."""


def has_terminal() -> bool:
    """Whether a person types here and sees the output: then the command gets a terminal, too."""
    return os.isatty(STDIN) and os.isatty(STDOUT)


def join(wire: Wire, *, tty: bool) -> int:
    """Joins standard input and output to ``wire`` until its command ends; returns the exit code. ``tty``: it has a terminal."""
    ended = threading.Event()
    feeder = threading.Thread(target=_feed, args=(wire, ended, tty), daemon=True)
    try:
        with _raw(tty):
            feeder.start()
            for stream, data in wire.pieces():
                _write(stream, data)
        return wire.code()
    finally:
        ended.set()
        wire.close()


def _feed(wire: Wire, ended: threading.Event, tty: bool) -> None:
    size, is_open = None, True
    while not ended.is_set():
        if tty and (now := os.get_terminal_size(STDOUT)) != size:
            size = now
            wire.resize(now.columns, now.lines)
        if not is_open:
            ended.wait(_TICK)
            continue
        if not select.select([STDIN], [], [], _TICK)[0]:
            continue
        data = _read()
        if data:
            wire.send(data)
        else:
            is_open = False
            wire.end()


def _read() -> bytes:
    """A piece of standard input; empty at its end, or if it cannot be read."""
    try:
        return os.read(STDIN, _CHUNK)
    except OSError:
        return b""


def _write(stream: int, data: bytes) -> None:
    sys.stdout.flush()
    while data:
        data = data[os.write(stream, data) :]


@contextmanager
def _raw(tty: bool) -> Iterator[None]:
    """The terminal passes on every key, such as Ctrl-C, to the command."""
    if not tty:
        yield
        return
    import termios
    import tty as modes

    before = termios.tcgetattr(STDIN)
    modes.setraw(STDIN, termios.TCSADRAIN)  # keys that were typed already are kept
    try:
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)
