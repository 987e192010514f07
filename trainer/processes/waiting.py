"""Waits minutes for an unreachable server, with a line each minute, before the run ends with 48."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from launcher.errors import LauncherError, UnreachableError
from launcher.hub import of_network

from ..output import quiet, say

T = TypeVar("T")
_EVERY: Final = 60.0  # seconds between two lines
_LOOK: Final = 0.5  # seconds between two looks for a stop


def _never() -> None:
    """No stop was requested."""


@dataclass(frozen=True)
class Waiting:
    """Retries while a server is unreachable: after ``first`` seconds, then twice as many, at most half a minute,
    until ``longest`` seconds have passed.

    ``look`` raises Stopped if the run was asked to stop.
    """

    look: Callable[[], None] = _never
    longest: float = 300.0
    first: float = 5.0

    def __call__(self, once: Callable[[], T]) -> T:
        """What ``once`` returns; raises UnreachableError when waiting did not help, and every other error at once."""
        began, said, pause = time.monotonic(), -_EVERY, self.first
        try:
            return once()
        except Exception as error:
            failure = _away(error)
        while (waited := time.monotonic() - began) < self.longest:
            if waited - said >= _EVERY:
                say(f"waiting: {str(failure).splitlines()[0]}; trying again for up to {_lasting(self.longest - waited)}")
                said = waited
            with quiet(_EVERY):
                self._sleep(min(pause, max(0.0, self.longest - waited)))
                pause = min(30.0, 2 * pause)
                try:
                    return once()
                except Exception as error:
                    failure = _away(error)
        raise _given_up(failure, waited) from failure

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.look()
            time.sleep(min(_LOOK, left))
        self.look()


AT_ONCE: Final = Waiting(longest=0.0)


def _away(error: Exception) -> UnreachableError:
    """The failure that waiting may fix; raises every other one."""
    if isinstance(error, UnreachableError):
        return error
    found = None if isinstance(error, LauncherError) else of_network(error)
    if isinstance(found, UnreachableError):
        return found
    raise error if found is None else found


def _given_up(failure: UnreachableError, waited: float) -> UnreachableError:
    if waited < 1:
        return failure
    first, *rest = str(failure).splitlines()
    return UnreachableError("\n".join([f"{first} (gave up after {_lasting(waited)})", *rest]))


def _lasting(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 60 else f"{seconds:.0f} s"
