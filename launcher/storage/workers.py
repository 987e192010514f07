"""Threads that move parts, with a bounded number of parts in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Workers:
    """``threads`` threads; ``submit`` blocks while each has a task and another one waits. The first error ends all."""

    def __init__(self, threads: int, closing: threading.Event):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="s3")
        self._free = threading.Semaphore(2 * threads)
        self._closing = closing

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._closing.set()  # ends the pauses between retries
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def submit(self, task: Callable[..., T], *args: Any) -> Future[T]:
        """Raises InterruptedError after another task has failed; its future has the error."""
        self._free.acquire()
        future = self._pool.submit(self._run, task, *args)
        future.add_done_callback(lambda _: self._free.release())
        return future

    def _run(self, task: Callable[..., T], *args: Any) -> T:
        try:
            if self._closing.is_set():
                raise InterruptedError("another transfer has failed")
            return task(*args)
        except BaseException:
            self._closing.set()
            raise


def first_error(futures: list[Future[Any]]) -> None:
    """Waits for all and raises the first error, not its consequences."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    cause = next((error for error in errors if not isinstance(error, InterruptedError)), None) or next(iter(errors), None)
    if cause is not None:
        raise cause
