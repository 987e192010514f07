"""Status: the state of a run, the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Status:
    """``state`` is ``starting``, ``running``, ``stopping``, ``done``, ``failed``, ``stopped``, ``aborted``, ``lost`` or
    ``unknown``."""

    state: str
    exit_code: int | None = None
    sentence: str | None = None

    @property
    def is_over(self) -> bool:
        return is_over(self.state)


def is_over(state: str) -> bool:
    return state not in ("starting", "running", "stopping", "unknown")
