"""A request that fails for a while is sent again, for a while."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from ...errors import LauncherError

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long an answer is waited for (seconds to connect, and between bytes: Google itself gives up after 180), and how often
    a request that failed for a while is sent again: after ``first`` seconds, then twice as many, or as the server says.
    """

    timeout: tuple[float, float] = (10, 200)
    tries: int = 7
    first: float = 1
    longest: float = 120
    deadline: float = 600
    sleep: Callable[[float], None] = time.sleep


PATIENT: Final = Patience()


class Passing(Exception):
    """A failure that may pass. ``after``: seconds until then, where the server says so; ``tries``: how often it is worth one."""

    def __init__(self, why: str, after: float | None = None, tries: int = 100):
        super().__init__(why)
        self.after = after
        self.tries = tries


@dataclass
class Asking:
    """Sends a request again while its failure may pass; the first wait that is long enough to wonder is said, once."""

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
                    again = f"; it asks to wait {wait:.0f} s" if wait > self.patience.longest else ""
                    times = f"{tried} tries" if tried > 1 else "one try"
                    raise LauncherError(f"Google Sheets does not answer: {failure} (after {times}{again})") from failure
                if not self.is_said:
                    self.is_said = True
                    self.say(f"Google Sheets: {failure}; trying again for a while, next in {wait:.0f} s")
                self.patience.sleep(wait)

    def _wait(self, failure: Passing, tried: int) -> float:
        if failure.after is not None:
            return failure.after
        # Spread, so that several who were refused together do not come back together.
        return min(self.patience.longest, self.patience.first * 2.0 ** (tried - 1)) * random.uniform(0.75, 1.25)


def retry_after(header: str | None) -> float | None:
    """Seconds that ``Retry-After`` asks for, as a number or a date."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
