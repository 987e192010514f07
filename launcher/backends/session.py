"""Session: a process that answers requests with lines, on this machine or in a container, and what it is asked to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Self

_TICK: Final = 0.2  # seconds after which a wait looks for a signal
_LAST: Final = 15  # lines of standard error that an error shows
_END: Final = 5.0  # seconds that a process has to end by itself


@dataclass(frozen=True)
class Work:
    """What a process of ``trainer/after/`` does: its module, and its arguments after the folder ``target`` of trained weights.

    ``reads`` and ``writes``: files and folders to read, and folders to write, as the arguments name them; ``has_base``: the model
    that the experiment names is read, too.
    """

    module: str
    target: Path
    args: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    has_base: bool = True


class Session(ABC):
    """A running process. A signal may interrupt a wait for its lines, which are then still there."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        Thread(target=self._read, name="session", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lines(self) -> Iterator[str]:
        """Lines of its standard output until it ends."""
        while True:
            try:
                line = self._queue.get(timeout=_TICK)  # without a limit, a signal would wait for the next line
            except Empty:
                continue
            if line is None:
                self._queue.put(None)
                return
            yield line

    @abstractmethod
    def send(self, line: str) -> None:
        """Writes a line to its standard input; nothing where it has ended."""

    @abstractmethod
    def wait(self) -> tuple[int, str]:
        """(its exit code, the last lines of its standard error), once it has ended."""

    @abstractmethod
    def close(self) -> None:
        """Ends it, where it has not ended by itself, and removes what is left."""

    @abstractmethod
    def _pieces(self) -> Iterator[bytes]:
        """Its standard output, in pieces."""

    def _read(self) -> None:
        rest = b""
        with suppress(OSError, ValueError):  # closed meanwhile
            for piece in self._pieces():
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    self._queue.put(line.decode("utf-8", "replace"))
        if rest:
            self._queue.put(rest.decode("utf-8", "replace"))
        self._queue.put(None)


class ProcessSession(Session):
    """A process on this machine, in a session of its own: Ctrl-C reaches the launcher alone, which decides."""

    def __init__(self, work: Work, cwd: Path, env: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", work.module, str(work.target), *work.args],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        super().__init__()

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def wait(self) -> tuple[int, str]:
        code = self._process.wait()
        self._errors.seek(0)
        return code, last_lines(self._errors.read())

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._errors.close()

    def _pieces(self) -> Iterator[bytes]:
        assert self._process.stdout is not None
        while piece := os.read(self._process.stdout.fileno(), 1 << 16):
            yield piece


def last_lines(errors: bytes) -> str:
    return "\n".join(errors.decode("utf-8", "replace").splitlines()[-_LAST:])
