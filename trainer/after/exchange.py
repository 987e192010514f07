"""A process of this room: answers the launcher's requests, and prints a result or an error at its end
(``launcher/job/exchange.py``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Final

from launcher.errors import LauncherError, MemoryShortage
from launcher.job.exchange import decoded, encoded
from launcher.redact import REDACTOR, learn_environment

from ..output import using
from ..processes.children import secrets
from ..processes.ending import how_it_failed

_LOCK: Final = Lock()


class Requests:
    """The launcher's requests, one after the other. ``stop``: the rest of the current answer is not wanted.

    If the launcher disconnects, this process ends at once.
    """

    def __init__(self) -> None:
        self.stop = Event()
        self._queue: SimpleQueue[dict[str, Any]] = SimpleQueue()
        Thread(target=self._read, name="requests", daemon=True).start()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield self._queue.get()

    def _read(self) -> None:
        is_attached = False  # the module may be started by hand, without standard input
        for line in sys.stdin:
            found = decoded(line)
            is_attached = is_attached or found is not None
            if found is None or "hello" in found:
                continue
            if "stop" in found:
                self.stop.set()
            else:
                self._queue.put(found)
        if is_attached:
            os._exit(0)


class _Lines:
    """Output of stages as events, so that lines of threads do not mix."""

    def line(self, text: str) -> None:
        tell({"line": text})

    def event(self, line: str) -> None:
        tell({"line": line})


def tell(data: Mapping[str, Any]) -> None:
    """Prints a message, without secrets."""
    with _LOCK:
        sys.stdout.write(encoded(REDACTOR.value(data)) + "\n")
        sys.stdout.flush()


def serve(work: Callable[[Requests], Any]) -> None:
    """Runs ``work`` and prints its result, or its error, as the last message."""
    os.environ.update(secrets())
    learn_environment()
    with using(_Lines()):
        tell(_ended(work, Requests()))


def _ended(work: Callable[[Requests], Any], requests: Requests) -> Mapping[str, Any]:
    try:
        return {"answer": work(requests)}
    except LauncherError as error:
        return {"error": error_of(error)}
    except Exception as error:  # an error of a library
        code, text = how_it_failed(error)
        if code == MemoryShortage.exit_code:  # its message is about training
            text = f"out of memory ({error})"
        return {"error": {"code": code, "text": text, "mistakes": []}}


def error_of(error: LauncherError) -> Mapping[str, Any]:
    mistakes = [asdict(mistake) for mistake in getattr(error, "mistakes", ())]
    return {"code": error.exit_code, "text": str(error), "mistakes": mistakes}
