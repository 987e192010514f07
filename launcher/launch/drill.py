"""The drill: kills and resumes a shortened experiment. It must end with the same adapter as an uninterrupted run."""

from __future__ import annotations

import itertools
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import LauncherError, UsageError
from ..job.drill import AFTER, BEFORE, Moment, fingerprint, moments, newest_step, short_version, under_way
from ..runs.follow import Metric, Reader, Text, parse
from ..runs.run_dir import RunDir
from .data import read_spreadsheet_once, with_copy

if TYPE_CHECKING:
    from ..backends.choose import AnyBackend
    from ..data.tables.sheets.spreadsheet import Spreadsheet
    from ..job.job import Job
    from .rendered import Rendered

_TICK: Final = 0.05  # seconds between two looks at a run
_QUICK: Final = 0.002  # seconds between two looks for a file
_TRIES: Final = 3  # tries, if a kill came before the first step or after the adapter
_PAUSE: Final = 5.0  # seconds between two lines about a run

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """One interruption and its result. Steps count from 1; 0 is before the first."""

    how: str  # SIGKILL or SIGTERM
    under_way: str  # what it interrupted
    at_step: int  # last logged step before it
    from_step: int  # checkpoint that the run resumed from
    exit_code: int | None  # of the interrupted attempt
    is_same: bool  # whether the adapter is the same, byte for byte

    @property
    def counts(self) -> bool:
        """Whether it interrupted the training. Before the first step or after the adapter it proves nothing."""
        return self.under_way not in (BEFORE, AFTER)

    def json(self) -> Mapping[str, Any]:
        return {**vars(self), "counts": self.counts}

    def __str__(self) -> str:
        told = f"{self.how}, {self.under_way}".ljust(30)
        end = "DIFFERENT ADAPTER" if not self.is_same else "same adapter" if self.counts else "same adapter, which proves nothing"
        return f"{told} exit {self.exit_code}, resumed from step {self.from_step}: {end}"


@dataclass(frozen=True)
class Drilled:
    """The result of a drill. ``kept``: the folder with its runs if an adapter differs, else None."""

    experiment: str
    trials: tuple[Trial, ...]
    kept: Path | None

    @property
    def is_same(self) -> bool:
        """Whether every interruption came during training and changed nothing."""
        return all(trial.is_same and trial.counts for trial in self.trials)

    def json(self) -> dict[str, Any]:
        return {"experiment": self.experiment, "same": self.is_same, "trials": [trial.json() for trial in self.trials]}

    def __str__(self) -> str:
        count, nothing = sum(t.is_same and t.counts for t in self.trials), sum(not t.counts for t in self.trials)
        found = f"{count} of {len(self.trials)} resumed runs ended with the adapter of the uninterrupted run, byte for byte"
        return found + (f"; {nothing} came before the first step or after the adapter, and proves nothing" if nothing else "")


@dataclass(frozen=True)
class Disturbances:
    """How often to kill the shortened run of ``steps`` steps. ``at``: after which step, None for random steps and writes."""

    steps: int
    times: int
    at: int | None
    seed: int | None

    @classmethod
    def of(cls, steps: int, times: int, kill_at: str, seed: int | None) -> Disturbances:
        """``kill_at``: ``random`` or a step. Raises UsageError for anything else."""
        if kill_at == "random":
            return cls(steps, times, None, seed)
        if kill_at.isdecimal() and 0 < int(kill_at) < steps:
            return cls(steps, times, int(kill_at), seed)
        raise UsageError(f"--kill-at: expected random or a step from 1 to {steps - 1}, found {kill_at!r}")


def drill(found: Rendered, wanted: Disturbances, say: Say) -> Drilled:
    """Runs the shortened experiment once without interruption, once with SIGTERM and ``wanted.times`` times with SIGKILL, and
    resumes each.

    ``say``: receives each result, and the progress every five seconds. Raises LauncherError for a run that fails.
    """
    assert found.where is not None, "a drill needs a backend of this machine"
    with found.loaded.placed():
        sheet = read_spreadsheet_once(found.job, found.where.cwd, say)
        begun = _Drill.of(found.where, found.job, wanted.steps, sheet, say)
    trials = []
    for trial in begun.trials(wanted):
        trials.append(trial)
        say(f"{len(trials):>3}  {trial}")
    has_kept = not all(trial.is_same for trial in trials)
    if not has_kept:
        shutil.rmtree(begun.folder, ignore_errors=True)
    return Drilled(found.job.key, tuple(trials), begun.folder if has_kept else None)


@dataclass(frozen=True)
class _Drill:
    """The shortened experiment, its backend, and the listener."""

    where: AnyBackend
    job: Job
    folder: Path
    spreadsheet: Spreadsheet | None
    say: Say

    @classmethod
    def of(cls, where: AnyBackend, job: Job, steps: int, spreadsheet: Spreadsheet | None, say: Say) -> _Drill:
        short = short_version(job.experiment, steps, full_determinism=job.gpus > 0)
        folder = where.cwd / short.hyperparameters.model_output_dir
        return cls(where, replace(job, experiment=short, key=f"drill-{job.key}"), folder, spreadsheet, say)

    def trials(self, wanted: Disturbances) -> Iterator[Trial]:
        began, chance = time.monotonic(), random.Random(wanted.seed)
        alone = self._start("alone")
        self._finish(alone, self._told("uninterrupted run"))
        took, step_took = time.monotonic() - began, _seconds_of_a_step(alone)
        expected = fingerprint(alone.adapter)
        self.say(f"uninterrupted run: {wanted.steps} steps in {took:.0f} s on {self.job.devices}, adapter {expected[:12]}")
        half = Moment("step", (wanted.at or max(1, wanted.steps // 2)) + 1)
        yield self._trial("stopped", "SIGTERM", half, 0.0, wanted.steps, expected)
        drawn = moments(wanted.steps, chance) if wanted.at is None else itertools.repeat(half)
        for number, moment in enumerate(itertools.islice(drawn, wanted.times), 1):
            for left in reversed(range(_TRIES)):
                later = chance.uniform(0, step_took) if moment.what == "step" else 0.0
                trial = self._trial(f"killed-{number}", "SIGKILL", moment, later, wanted.steps, expected)
                if trial.counts or not trial.is_same or not left:
                    break
                self.say(f"     {trial}; trying again")
            yield trial

    def _trial(self, name: str, how: str, moment: Moment, later: float, steps: int, expected: str) -> Trial:
        """``later``: seconds to wait after ``moment`` has come."""
        told, run = self._told(f"run {name}"), self._start(name)
        self._wait(run, moment, later, told)
        before = under_way(run, _last_step(run), steps)
        self.where.stop(run, now=how == "SIGKILL")
        self._ended(run, told)
        code, begun_at, last = self.where.status(run).exit_code, newest_step(run), _last_step(run)
        # A killed run is as it was at the kill; a stopped one has continued to a checkpoint.
        what = under_way(run, last, steps) if how == "SIGKILL" else before
        if self.where.status(run).state != "done":
            self.where.submit(self._spec(run.name), again=True)
            self._finish(run, told)
        return Trial(how, what, last, begun_at, code, fingerprint(run.adapter) == expected)

    def _wait(self, run: RunDir, moment: Moment, later: float, told: _Told) -> None:
        """Waits until ``later`` seconds after ``moment``, or until the run is over. Polls fast, because a write may be short."""
        from ..backends.status.state import last_metric

        while not self.where.status(run).is_over:
            last = last_metric(run)
            told.tell(last)
            look = time.monotonic() + _TICK
            while time.monotonic() < look:
                if moment.has_come(run, last.step if last is not None and last.kind == "train" else 0):
                    time.sleep(later)
                    return
                time.sleep(_TICK if moment.what == "step" else _QUICK)

    def _told(self, what: str) -> _Told:
        return _Told(self.say, what)

    def _start(self, name: str) -> RunDir:
        from ..runs.names import new_run_name

        spec = self._spec(new_run_name(name))
        self.where.prepare(spec, self.say)
        return self.where.submit(spec)

    def _spec(self, run: str) -> Any:
        return with_copy(self.where.render(replace(self.job, run=run)), self.spreadsheet)

    def _finish(self, run: RunDir, told: _Told) -> None:
        self._ended(run, told)
        now = self.where.status(run)
        if now.state != "done":
            raise LauncherError(f"the drill's run {run.path} {now.state} (exit {now.exit_code}): {now.sentence}")

    def _ended(self, run: RunDir, told: _Told) -> None:
        reader = Reader()
        for piece in self.where.follow(run):
            for event in reader.feed(piece):
                told.hear(event)
            told.tell()


def _last_step(run: RunDir) -> int:
    from ..backends.status.state import last_metric

    last = last_metric(run)
    return last.step if last is not None and last.kind == "train" else 0


def _seconds_of_a_step(run: RunDir) -> float:
    """Median time between two lines of a run's steps; 0 if unknown."""
    lines = [metric for line in run.steps.read_text(encoding="utf-8").splitlines() if (metric := parse(line)) is not None]
    times = [seconds for one in lines if one.kind == "train" and (seconds := one.number("seconds")) is not None]
    return statistics.median([0.0, *(after - before for before, after in itertools.pairwise(times))])


@dataclass
class _Told:
    """Reports what a run does: at once, then every five seconds."""

    say: Say
    what: str
    _now: str = "starting"
    _last: float = field(default=float("-inf"))

    def hear(self, event: Text | Metric) -> None:
        if isinstance(event, Text):
            self._now = event.line.strip()[:100] or self._now
        elif event.kind == "train":
            self._now = f"step {event.step} of {event.total}"

    def tell(self, metric: Metric | None = None) -> None:
        if metric is not None:
            self.hear(metric)
        if time.monotonic() - self._last >= _PAUSE:
            self._last = time.monotonic()
            self.say(f"{self.what}: {self._now}")
