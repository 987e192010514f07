"""Retries of a request whose failure is temporary."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from ....errors import UnreachableError

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """Timeouts in seconds (to connect, and between bytes: Google itself gives up after 180), and how often a request is retried:
    after ``first`` seconds, then after twice as many each time, or as the server asks.
    """

    timeout: tuple[float, float] = (10, 200)
    tries: int = 7
    first: float = 1
    longest: float = 120
    deadline: float = 600
    sleep: Callable[[float], None] = time.sleep


PATIENT: Final = Patience()


class Passing(Exception):
    """A temporary failure. ``after``: seconds to wait, where the server asks for it; ``tries``: how often at most; ``hint``: what
    helps where it does not pass.
    """

    def __init__(self, why: str, after: float | None = None, tries: int = 100, hint: str | None = None):
        super().__init__(why)
        self.after = after
        self.tries = tries
        self.hint = hint


@dataclass
class Asking:
    """Retries a request while its failure is temporary, and reports the first retry.

    Raises UnreachableError if that does not help.
    """

    say: Callable[[str], None]
    patience: Patience
    is_said: bool = False

    def __call__(self, request: Callable[[], T]) -> T:
        began, tried = time.monotonic(), 0
        while True:
            tried += 1
            try:
                return request()
            except Passing as failure:
                wait = self._wait(failure, tried)
                took = time.monotonic() - began
                enough = tried >= min(self.patience.tries, failure.tries) or took > self.patience.deadline
                if enough or wait > self.patience.longest:
                    again = f"; the server asks to wait {wait:.0f} s" if wait > self.patience.longest else ""
                    times = f"{tried} tries" if tried > 1 else "1 try"
                    hint = f"\n    hint:     {failure.hint}" if failure.hint else ""
                    raise UnreachableError(f"Google Sheets: {failure} (gave up after {times}{again}){hint}") from failure
                if not self.is_said:
                    self.is_said = True
                    self.say(f"Google Sheets: {failure}; retrying in {wait:.0f} s")
                self.patience.sleep(wait)

    def _wait(self, failure: Passing, tried: int) -> float:
        if failure.after is not None:
            return failure.after
        # Jitter: clients that were refused together do not return together.
        return min(self.patience.longest, self.patience.first * 2.0 ** (tried - 1)) * random.uniform(0.75, 1.25)


def retry_after(header: str | None) -> float | None:
    """Seconds from ``Retry-After``, a number or a date; None without it."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
