"""The unfinished points of a sweep on a cluster that are over, and which of them can be started again now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..sweeps.grid import in_words, not_ended

if TYPE_CHECKING:
    from ..sweeps.found import Swept


def resume_points(sweep: Swept, say: Callable[[str], None]) -> list[str]:
    """Resumes those points and returns their names. Raises like ``Remaining.resume``."""
    return Remaining.of(sweep.name, [(where, run) for where, run, _ in sweep.runs]).resume(say)


@dataclass(frozen=True)
class Remaining:
    """``units``: what is started as a whole (a run, or a Job of several points), with its points' names.

    ``stopped``: points that were stopped individually. ``beside``: points of a Job whose other points are ``active``.
    """

    name: str
    active: tuple[Any, ...] = field(repr=False)
    units: tuple[tuple[Any, Any, tuple[str, ...]], ...] = field(repr=False)
    stopped: tuple[Any, ...] = field(repr=False)
    beside: tuple[tuple[Any, Any], ...] = field(repr=False)

    @classmethod
    def of(cls, name: str, runs: Sequence[tuple[Any, Any]]) -> Remaining:
        """``runs``: backend and run of each point of the sweep ``name``."""
        states = [(where, run, where.status(run)) for where, run in runs]
        active = tuple(run for _, run, now in states if not now.is_over)
        over = [(where, run) for where, run, now in states if now.is_over and now.state != "done"]
        stopped = [run for where, run in over if not run.is_apart and where.stays_stopped(run)]
        busy = {run.owner for run in active}
        units: dict[Any, tuple[Any, list[str]]] = {}
        beside = []
        for where, run in over:
            if run in stopped:
                continue
            if not run.is_apart and run.index is not None and run.owner in busy:
                beside.append((where, run))
                continue
            units.setdefault(run if run.is_apart else run.owner, (where, []))[1].append(run.name)
        made = tuple((where, run, tuple(names)) for run, (where, names) in units.items())
        return cls(name, active, made, tuple(stopped), tuple(beside))

    def resume(self, say: Callable[[str], None]) -> list[str]:
        """Starts what can be started, and returns the names of those points. ``say``: receives progress, and why others are
        left out.

        A Job is not restarted while points of it run: its failed points get their own Jobs, within the sweep's ``--parallel``.
        Raises UsageError if that allows none.
        """
        from .resume import starter

        begun = list[str]()
        for where, run, names in self.units:
            starter(where, run, say)()
            begun += names
        # Waiting points count, because they come first.
        free = (self._parallel or 0) - len(self.active) - len(begun) if self.beside else 0
        for where, run in self.beside[: max(0, free)]:
            starter(where, run, say)()
            begun.append(run.name)
        for run in self.stopped:
            say(f"{run.name} stays stopped; resume it with: launcher resume {run.name}")
        left = [run.name for _, run in self.beside if run.name not in begun]
        if left and not begun:
            raise UsageError(self._full(left))
        if left:
            say(self._full(left))
        if not begun and not left:
            say(self._nothing)
        return begun

    @property
    def _parallel(self) -> int | None:
        """The sweep's ``--parallel``; None for a sweep that an earlier version rendered, whose points cannot leave its Job."""
        where, run = self.beside[0]
        parallel: int | None = where.parallel(run)
        return parallel

    def _full(self, left: Sequence[str]) -> str:
        parallel = self._parallel
        why = not_ended([run.name for run in self.active]) + ("" if parallel is None else f", and --parallel is {parallel}")
        now = "" if parallel is None else f"resume one now, in its own Job, with: launcher resume {left[0]}; or "
        later = f"{'' if now else 'resume '}all when the others have ended with: launcher resume {self.name}"
        return f"{in_words(left)} {'is' if len(left) == 1 else 'are'} not resumed: {why}\n    hint:     {now}{later}"

    @property
    def _nothing(self) -> str:
        what = f"{self.name}: nothing{' else' if self.stopped else ''} to resume"
        if not self.active:
            return what
        return f"{what}; {not_ended([run.name for run in self.active])}. Follow the sweep with: launcher logs -f {self.name}"
