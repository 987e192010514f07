"""Use: what trained weights need to chat, generate, score or be merged: memory, and time where it is known. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ...errors import MemoryShortage
from ...runs.known import duration
from ..sizes.state import Part

GIB: Final = 2**30


@dataclass(frozen=True)
class Use:
    """``parts``: the memory at the peak, in bytes. ``there``: of a GPU the part that may be used, else the main memory that is
    free; None: unknown.

    ``work``: what is planned for. ``seconds``: from the least to the most, without loading the weights; None: unknown, for the
    reason ``why``, or because it has no end if that is None. ``hint``: what makes it fit.
    """

    name: str  # the verb
    parts: tuple[Part, ...]
    there: int | None
    device: str
    work: str
    seconds: tuple[float, float] | None
    why: str | None = ""
    hint: str | None = None

    @property
    def total(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def fits(self) -> bool | None:
        """None where the memory of the device is unknown."""
        return None if self.there is None else self.total <= self.there

    @property
    def memory(self) -> str:
        parts = ", ".join(f"{part.name} {size_of(part.size)}" for part in self.parts if part.size)
        there = "unknown" if self.there is None else size_of(self.there)
        return f"{size_of(self.total)} ({parts}) of {there} on {self.device}"

    @property
    def time(self) -> str:
        if self.seconds is None and self.why is None:
            return self.work
        return f"no time estimate{self.why} ({self.work})" if self.seconds is None else f"{span(*self.seconds)}: {self.work}"

    @property
    def facts(self) -> dict[str, str]:
        """Label -> fact, for a person who is about to start it."""
        return {"memory": self.memory, "time": self.time}

    def check(self) -> None:
        """Raises MemoryShortage where it cannot fit."""
        if self.fits is False:
            hint = "" if self.hint is None else f"\n    hint:     {self.hint}"
            raise MemoryShortage(f"not enough memory: {self.memory}{hint}", can_split=False)

    def json(self) -> dict[str, Any]:
        return {
            "use": self.name,
            "device": self.device,
            "memory_bytes": {part.name: part.size for part in self.parts},
            "total_bytes": self.total,
            "usable_bytes": self.there,
            "fits": self.fits,
            "seconds": None if self.seconds is None else list(self.seconds),
            **self.facts,
        }


def span(least: float, most: float) -> str:
    """``12 s to 1 min 5 s``; one time where both read alike."""
    first, last = duration(max(1, least)), duration(max(1, most))
    return f"about {last}" if first == last else f"{first} to {last}"


def size_of(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.1f} MiB"
