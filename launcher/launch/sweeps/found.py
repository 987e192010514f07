"""A started sweep, found by name through the records of its runs: its status, stopping and continuing it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...errors import LauncherError, UsageError
from ...runs.processes import Process
from .grid import Outcome, Point, Sweep, of_record

if TYPE_CHECKING:
    from ...backends.status.state import Explained

_TICK: Final = 0.2  # seconds between two looks at the runs
_LOOK: Final = 5.0  # the same on a cluster, where each look costs requests


@dataclass(frozen=True)
class Swept:
    """``runs``: (backend, run, point) of each started run. ``sweep``: all points; None on a cluster, where all runs are created
    at once.
    """

    name: str
    runs: tuple[tuple[Any, Any, Point], ...] = field(repr=False)
    sweep: Sweep | None
    entries: tuple[Mapping[str, Any], ...] = field(repr=False)

    def outcomes(self) -> list[Outcome]:
        """The current state of every point, in grid order."""
        from ...backends.status.state import run_status

        found = {point.number: Outcome(point, run.name, run_status(where, run).known) for where, run, point in self.runs}
        if self.sweep is not None:
            for point in self.sweep.points:
                found.setdefault(point.number, Outcome(point, self.sweep.run(point), None))
        return [found[number] for number in sorted(found)]

    def stop(self, *, now: bool, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        """Stops every run, and the process that starts points. Returns when all runs are over."""
        starter = self.starter
        if starter is not None:
            starter.send(signal.SIGTERM)
        states = [(where, run, where.status(run)) for where, run, _ in self.runs]
        running = [(where, run, seen.state) for where, run, seen in states if not seen.is_over]
        for owner, where in {_owner(run): where for where, run, _ in running}.items():
            where.stop(owner, now=now)
        if running and not now:
            train = sum(state == "running" for _, _, state in running)
            several = f"{train} runs" if train > 1 else "1 run"
            say(f"{self.name}: waiting for {f'{several} to write a checkpoint and end' if train else 'its runs to end'}")
        for where, run, _ in running:
            where.wait(run, warn)
        while starter is not None and starter.alive:
            time.sleep(_TICK)

    def explained(self) -> list[tuple[Point, str, Explained | None]]:
        """(point, run, why it waits, runs or failed) for every unfinished point; None if it was not started."""
        from ...backends.status.state import explained

        there = {run.name: (where, run) for where, run, _ in self.runs}
        waiting = [one for one in self.outcomes() if not one.is_done]
        return [(one.point, one.run, explained(*there[one.run]) if one.run in there else None) for one in waiting]

    def log(self, *, follow: bool) -> Iterator[str]:
        """The sweep's log in pieces, with ``follow`` to its end. An empty piece means that nothing came for a moment.

        On this machine it is a file. On a cluster no process runs the sweep: one line per point, and a new one when it changes.
        """
        path = next((Path(entry["log"]) for entry in self.entries if entry.get("log")), None)
        return self._changes(follow=follow) if path is None else self._lines(path, follow=follow)

    def _lines(self, path: Path, *, follow: bool) -> Iterator[str]:
        try:
            file = path.open(encoding="utf-8", errors="replace")
        except OSError as error:
            raise LauncherError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
        with file:
            while True:
                is_last = not follow or self.starter is None  # before reading, so that nothing is missed
                yield file.read()
                if is_last:
                    return
                time.sleep(_TICK)

    def _changes(self, *, follow: bool) -> Iterator[str]:
        told: dict[str, str] = {}
        while True:
            outcomes = self.outcomes()
            for one in outcomes:
                line = f"{one.run}  {one.point}  {_words(one)}"
                if told.get(one.run) != line:
                    yield f"{line}\n"
                told[one.run] = line
            if not follow or all(one.known is None or one.known.is_over for one in outcomes):
                return
            until = time.monotonic() + (_LOOK if self.sweep is None else _TICK)
            while time.monotonic() < until:
                yield ""
                time.sleep(_TICK)

    @property
    def starter(self) -> Process | None:
        """The live process on this machine that starts the points."""
        found = (Process.parse(entry.get("process")) for entry in self.entries)
        return next((one for one in found if one is not None and one.is_here and one.alive), None)

    @property
    def is_swept(self) -> bool:
        """Whether unfinished points will be started, or run, without another command."""
        if self.sweep is not None:
            return self.starter is not None
        return not all(where.status(run).is_over for where, run, _ in self.runs)

    def resumable(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Points that can be resumed while the rest of a sweep on a cluster runs."""
        if self.sweep is not None or not self.is_swept:
            return []
        return [one.run for one in outcomes if one.known is not None and one.known.is_over and not one.is_done]

    def check_idle(self) -> None:
        """Raises UsageError while a process is starting the points."""
        starter = self.starter
        if starter is not None:
            raise UsageError(f"{self.name} is being swept by process {starter.pid}; stop it with: launcher stop {self.name}")


def _owner(run: Any) -> Any:
    """What is stopped and started for ``run``: several points on a cluster may share a Job."""
    return getattr(run, "owner", run)


def _words(one: Outcome) -> str:
    """The state of a point in one line."""
    known = one.known
    if known is None or known.step is None:
        return one.state
    loss = f", loss {known.loss:.4f}" if known.loss is not None else ""
    return f"{one.state}, step {known.progress}{loss}"


def find(name: str, *, cluster: bool, namespace: str | None) -> Swept | tuple[Any, Any]:
    """(backend, run) that ``name`` means, else the sweep ``name``. Raises UsageError if there is neither."""
    from ...backends.status.finding import find as find_run
    from ...runs.finding import AmbiguousName

    if not cluster and namespace is None and (found := here(name)) is not None:
        return found
    try:
        where, run = find_run(name, cluster=cluster, namespace=namespace)
    except UsageError as error:  # a prefix of its points' names, or a sweep whose Jobs are gone
        there = None
        with suppress(LauncherError):  # the cluster does not answer; the first error already says so
            there = _there(name, namespace, with_gone=not isinstance(error, AmbiguousName))
        if there is None:
            raise
        return there
    if run.name != name and getattr(run, "sweep", None) == name and (there := _there(name, namespace)) is not None:
        return there
    return where, run


def here(name: str) -> Swept | None:
    """The sweep of this machine with exactly this name; None if a run has the name or no such sweep was started."""
    from ...backends.choose import backend_of
    from ...backends.status.finding import local_runs

    runs = local_runs()
    if any(run.name == name for run in runs):
        return None
    entries = [(run, run.read_record().get("sweep") or {}) for run in runs if run.name.startswith(f"{name}-")]
    mine = [(run, entry) for run, entry in entries if entry.get("name") == name]
    if not mine:
        return None
    found = tuple((backend_of(run), run, Point(int(entry["point"]), tuple(entry["settings"]))) for run, entry in mine)
    return Swept(name, found, of_record(mine[0][1]), tuple(entry for _, entry in mine))


def _there(name: str, namespace: str | None, *, with_gone: bool = True) -> Swept | None:
    """The sweep on the cluster. ``with_gone``: including points whose Job is gone, if a reader pod can read their folders."""
    from ...backends.status.finding import cluster_of, has_kubeconfig, listed_on
    from ...experiment.files import read_env

    caller = read_env(Path.cwd())
    if not has_kubeconfig(caller):
        return None
    where, namespaces = cluster_of(caller, namespace)
    there = [one.run for one in listed_on(where, namespaces, with_pods=False)]
    for space in namespaces if with_gone else ():
        with suppress(LauncherError):  # no reader pod, or permission denied
            there += [one.run for one in where.gone(space, there)]
    runs = sorted((run for run in there if run.sweep == name), key=lambda run: run.point or 0)
    found = tuple((where, run, Point(run.point or 0, run.settings)) for run in runs)
    return Swept(name, found, None, ()) if found else None
