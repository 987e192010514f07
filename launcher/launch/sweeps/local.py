"""A sweep on this machine: starts points, several at a time, until all are over. A failed point does not stop the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from ...errors import UsageError
from ...runs.processes import Process
from ...runs.run_dir import RunDir
from .grid import Outcome, Point, Sweep, load_points
from .slots import Slots, gpus_asked, gpus_here, visible

if TYPE_CHECKING:
    from ...backends.choose import AnyBackend
    from ...data.pairs import Pairs
    from ...experiment.schema import Experiment
    from ..start import Prepared

_TICK: Final = 0.2  # seconds between two looks at the runs
_PAUSE: Final = 30.0  # seconds between two lines about a run
Say = Callable[[str], None]


@dataclass
class Sweeping:
    """A sweep that is ready to start. ``existing``: its runs from an earlier command, by name."""

    sweep: Sweep
    backend: str | None
    slots: Slots
    pairs: Mapping[int, Pairs]  # by number of a point to start
    existing: dict[str, RunDir]
    first: Prepared | None  # the first point to start
    log: Path  # the sweep's log: events of its points, with times
    _listener: Say = field(default=lambda _: None, init=False)
    _running: dict[int, tuple[Point, AnyBackend, RunDir]] = field(default_factory=dict, init=False)  # slot -> what runs in it
    _told: dict[str, float] = field(default_factory=dict, init=False)
    _said: dict[str, str] = field(default_factory=dict, init=False)
    _over: set[int] = field(default_factory=set, init=False)  # numbers of points that ended in this command
    _is_warm: bool = field(default=False, init=False)

    def outcomes(self) -> list[Outcome]:
        """The current state of every point, in grid order."""
        from ...backends.status.finding import local_runs
        from ...backends.status.state import known

        there = {run.name: run for run in local_runs()}
        names = [(point, self.sweep.run(point)) for point in self.sweep.points]
        return [Outcome(point, name, known(there[name]) if name in there else None) for point, name in names]

    def say(self, line: str) -> None:
        """Sends a line to the listener and to the sweep's log."""
        self._listener(line)
        with suppress(OSError):  # a full disk ends a point, which is reported
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}  {line}\n")

    def is_begun_by(self, pid: int) -> bool:
        """Whether the process ``pid`` of this machine started or resumed a point."""
        from ...backends.status.finding import local_runs

        names = {self.sweep.run(point) for point in self.sweep.points}
        entries = [run.read_record().get("sweep") or {} for run in local_runs() if run.name in names]
        return any((entry.get("process") or {}).get("pid") == pid for entry in entries)

    def run(self, asked: Callable[[], str | None], say: Say) -> str | None:
        """Starts points until all are over. ``asked`` is polled and returns ``stop``, ``kill``, ``detach`` or None. ``say``:
        receives what happens to each point.

        Returns the last request, or None. After ``detach`` it may be called again.
        """
        self._listener = say
        for run in self.existing.values():  # `launcher stop` finds this process through the records
            run.update_record(sweep={**run.read_record()["sweep"], **self._marks})
        waiting = [point for point in self.sweep.points if point.number not in self._over and not self._is_done(point)]
        last = None
        done = len(self.sweep.points) - len(waiting)
        if done:
            self.say(f"{done} of {len(self.sweep.points)} points are done")
        try:
            while self._running or (waiting and last is None):
                last = self._heed(asked(), last)
                if last == "detach":
                    self.existing |= {run.name: run for _, _, run in self._running.values()}
                    self._running.clear()
                    return last
                self._collect()
                if last is None:
                    self._fill(waiting)
                time.sleep(_TICK)
        except BaseException:
            for _, where, run in self._running.values():
                where.stop(run)
            raise
        return last

    def _is_done(self, point: Point) -> bool:
        from ...backends.choose import backend_of

        run = self.existing.get(self.sweep.run(point))
        return run is not None and backend_of(run).status(run).state == "done"

    def _heed(self, asked: str | None, before: str | None) -> str | None:
        if asked in ("stop", "kill") and asked != before:
            for _, where, run in self._running.values():
                self.say(f"stopping {run.name}" + (" at once" if asked == "kill" else " after a checkpoint"))
                where.stop(run, now=asked == "kill")
        return asked or before

    def _fill(self, waiting: list[Point]) -> None:
        """Starts points in free slots. The first point starts alone until it logs a line, so that the others find its tokens
        and its reference in the cache.
        """
        while waiting and len(self._running) < (len(self.slots.gpus) if self._is_warm else 1):
            slot = next(number for number in range(len(self.slots.gpus)) if number not in self._running)
            point = waiting.pop(0)
            begun = self._start(point, slot)
            if begun is not None:
                self._running[slot] = (point, *begun)
                self._told[begun[1].name] = time.monotonic()

    def _collect(self) -> None:
        """Reports running points, and frees the slots of those that are over."""
        from ...backends.status.state import known

        for slot, (point, where, run) in list(self._running.items()):
            now = where.status(run)
            self._is_warm = self._is_warm or now.is_over or (run.steps.is_file() and run.steps.stat().st_size > 0)
            if now.is_over:
                del self._running[slot]
                self._over.add(point.number)
                code = "" if now.exit_code in (None, 0) else f" (exit {now.exit_code}): {(now.sentence or '').splitlines()[0]}"
                self._tell(point, f"{now.state}{code}")
            elif time.monotonic() - self._told[run.name] >= _PAUSE:
                self._told[run.name] = time.monotonic()
                at = known(run)
                loss = f", loss {at.loss:.4f}" if at.loss is not None else ""
                what = "no step yet" if at.step is None else f"step {at.progress}{loss}"
                if what != self._said.get(run.name):
                    self._tell(point, what)
                self._said[run.name] = what

    def _tell(self, point: Point, what: str) -> None:
        self.say(f"[{point.number}/{len(self.sweep.points)}] {self.sweep.run(point)}  {point}  {what}")

    def _start(self, point: Point, slot: int) -> tuple[AnyBackend, RunDir] | None:
        """Starts or resumes a point. None if that failed, which is reported and does not stop the others."""
        from ...errors import LauncherError

        name, with_gpus = self.sweep.run(point), ", ".join(self.slots.gpus[slot])
        try:
            with visible(self.slots.gpus[slot]):
                begun = self._resumed(self.existing[name]) if name in self.existing else self._new(point)
        except LauncherError as error:
            self._tell(point, f"not started: {str(error).splitlines()[0]}")
            return None
        self._tell(point, ("resumed" if name in self.existing else "started") + (f" on GPU {with_gpus}" if with_gpus else ""))
        return begun

    def _resumed(self, run: RunDir) -> tuple[AnyBackend, RunDir]:
        """A run of an earlier command: followed if it runs, else resumed from its newest checkpoint."""
        from ...backends.choose import backend_of
        from ...backends.host import gpus_there
        from ...experiment.files import read_env
        from ...job.resume import job_again

        where = backend_of(run)
        if where.status(run).is_over:
            spec: Any = where.render(job_again(run, gpus_there(read_env(Path.cwd()))))
            where.prepare(spec, self.say)
            where.submit(self._shared(spec), again=True)
        return where, run

    def _new(self, point: Point) -> tuple[AnyBackend, RunDir]:
        from ..rendered import rendered
        from ..start import prepared

        note = self.sweep.note(point, parallel=len(self.slots.gpus), backend=self.backend, **self._marks)
        ready = prepared(rendered(self.sweep.choice_of(point), self.backend, note), self.pairs[point.number])
        ready.where.prepare(ready.spec, self.say)
        ready = replace(ready, spec=self._shared(ready.spec))
        return ready.where, ready.start(self.say)

    @property
    def _marks(self) -> dict[str, Any]:
        """Entries by which other commands find the process that starts the points, and its log."""
        return {"process": _this_process(), "log": str(self.log)}

    def _shared(self, spec: Any) -> Any:
        """``spec`` with its share of this machine's cores."""
        if len(self.slots.gpus) == 1:
            return spec
        share = max(1, int(spec.env["OMP_NUM_THREADS"]) // len(self.slots.gpus))
        return replace(spec, env=MappingProxyType({**spec.env, "OMP_NUM_THREADS": str(share)}))


def sweep_here(sweep: Sweep, backend: str | None, parallel: int | None, data_of: str | None, say: Say) -> Sweeping:
    """A sweep with every point checked and its data read, once for points with the same data. Nothing is started.

    Continues the runs of an earlier command with its name. Raises what ``load_points`` and ``start.prepare`` raise, and
    UsageError for a name that other runs have, and for an experiment that has changed since.
    """
    from ...backends.status.finding import local_runs
    from ..start import prepared

    loaded = load_points(sweep)
    there = {run.name: run for run in local_runs()}
    existing = {name: there[name] for point in sweep.points if (name := sweep.run(point)) in there}
    for point, one in zip(sweep.points, loaded, strict=True):
        if (run := existing.get(sweep.run(point))) is not None:
            _check_same(sweep, point, one.experiment, run)
    slots = Slots.of(parallel, gpus_asked(loaded), gpus_here())
    pairs: dict[int, Pairs] = {}
    first = None
    with visible(slots.gpus[0]):
        read: dict[str, Pairs] = {}
        for point, one in zip(sweep.points, loaded, strict=True):
            if sweep.run(point) not in existing:
                found, pairs[point.number] = _checked(sweep, point, one.experiment, backend, data_of, read, say)
                first = first or prepared(found, pairs[point.number])
    return Sweeping(sweep, backend, slots, pairs, existing, first, _log(sweep, existing, first))


def _log(sweep: Sweep, existing: Mapping[str, RunDir], first: Prepared | None) -> Path:
    """The sweep's log, beside the folder with the runs of its first point's model."""
    run = existing.get(sweep.run(sweep.points[0]))
    if run is None and first is not None:
        run = cast("RunDir", cast("Any", first.spec).run_dir)
    assert run is not None, "a point exists, or is to be started"
    return run.shelf.resolve() / "sweeps" / f"{sweep.name}.log"


def _checked(
    sweep: Sweep, point: Point, e: Experiment, backend: str | None, data_of: str | None, read: dict[str, Pairs], say: Say
) -> tuple[Any, Pairs]:
    """(what would be started, its pairs). ``read``: cache of pairs by the settings that they depend on."""
    from ..rendered import rendered
    from ..start import check_start, read_for

    found = rendered(sweep.choice_of(point), backend)
    check_start(found)
    key = e.model_dump_json(exclude={"hyperparameters", "launch", "health", "topic"})
    if key not in read:
        read[key] = read_for(found, data_of, say)
    return found, read[key]


def _check_same(sweep: Sweep, point: Point, e: Experiment, run: RunDir) -> None:
    record = run.read_record()
    entry = record.get("sweep") or {}
    if entry.get("name") != sweep.name or entry.get("settings") != list(point.settings):
        was = ", ".join(entry.get("settings") or ()) or "no point of a sweep"
        raise UsageError(f"--name {sweep.name}: run {run.name} exists with other settings ({was}); choose another --name")
    if record.get("experiment") != e.model_dump(mode="json"):
        raise UsageError(f"--name {sweep.name}: the experiment has changed since {run.name} was started; choose another --name")


def _this_process() -> dict[str, Any]:
    process = Process.of(os.getpid())
    assert process is not None, "this process is alive"
    return process.record()
