"""The drill: a short version of an experiment is killed and resumed, and must end with the adapter of an undisturbed run."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import LauncherError, UsageError
from ..job.drill import fingerprint, newest_step, short_version
from ..runs.follow import Metric, Reader, Text
from ..runs.run_dir import RunDir
from .data import read_spreadsheet_once, with_copy

if TYPE_CHECKING:
    from ..backends.choose import AnyBackend
    from ..data.sheets.spreadsheet import Spreadsheet
    from ..job.job import Job
    from .rendered import Rendered

_TICK: Final = 0.05  # seconds between two looks at a run
_PAUSE: Final = 5.0  # seconds between two lines about a run

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """One disturbance and its result; steps are counted from 1, 0 is before the first one."""

    how: str  # SIGKILL or SIGTERM
    at_step: int  # the last step that was logged before it
    from_step: int  # the checkpoint from which the run was resumed
    exit_code: int | None  # of the disturbed attempt
    is_same: bool  # the adapter, byte for byte

    def json(self) -> Mapping[str, Any]:
        return dict(vars(self))

    def __str__(self) -> str:
        told = f"{self.how} after step {self.at_step}".ljust(24)
        end = "same adapter" if self.is_same else "DIFFERENT ADAPTER"
        return f"{told} exit {self.exit_code}, resumed from step {self.from_step}: {end}"


@dataclass(frozen=True)
class Drilled:
    """The result of a drill. ``kept``: the folder with its runs where an adapter differs, else None."""

    experiment: str
    trials: tuple[Trial, ...]
    kept: Path | None

    @property
    def is_same(self) -> bool:
        return all(trial.is_same for trial in self.trials)

    def json(self) -> dict[str, Any]:
        return {"experiment": self.experiment, "same": self.is_same, "trials": [trial.json() for trial in self.trials]}

    def __str__(self) -> str:
        count = sum(trial.is_same for trial in self.trials)
        return f"{count} of {len(self.trials)} resumed runs ended with the adapter of the undisturbed run, byte for byte"


@dataclass(frozen=True)
class Disturbances:
    """How often the short version of ``steps`` steps is killed; ``at``: at which step, None for random moments."""

    steps: int
    times: int
    at: int | None
    seed: int | None

    @classmethod
    def of(cls, steps: int, times: int, kill_at: str, seed: int | None) -> Disturbances:
        """``kill_at`` is ``random`` or a step; raises UsageError for anything else."""
        if kill_at == "random":
            return cls(steps, times, None, seed)
        if kill_at.isdecimal() and 0 < int(kill_at) < steps:
            return cls(steps, times, int(kill_at), seed)
        raise UsageError(f"--kill-at: expected random or a step from 1 to {steps - 1}, found {kill_at!r}")


def drill(found: Rendered, wanted: Disturbances, say: Say) -> Drilled:
    """Runs the short version undisturbed, then once with SIGTERM and ``wanted.times`` times with SIGKILL, and resumes each.

    ``say`` is told each result, and at least every five seconds how far a run is. Raises LauncherError for a run that fails.
    """
    assert found.where is not None, "a drill needs a backend of this machine"
    with found.loaded.placed():
        sheet = read_spreadsheet_once(found.job, found.where.cwd, say)
        begun = _Drill.of(found.where, found.job, wanted.steps, sheet, say)
    trials = []
    for trial in begun.trials(wanted):
        trials.append(trial)
        say(f"{len(trials):>3}  {trial}")
    is_same = all(trial.is_same for trial in trials)
    if is_same:
        shutil.rmtree(begun.folder, ignore_errors=True)
    return Drilled(found.job.key, tuple(trials), None if is_same else begun.folder)


@dataclass(frozen=True)
class _Drill:
    """The short version, where it runs, and whom to tell."""

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
        self._finish(alone, self._told("undisturbed run"))
        took = time.monotonic() - began
        expected = fingerprint(alone.adapter)
        self.say(f"undisturbed run: {wanted.steps} steps in {took:.0f} s on {self.job.devices}, adapter {expected[:12]}")
        half = max(1, wanted.steps // 2)
        yield self._trial("stopped", "SIGTERM", self._until_step(wanted.at or half), expected)
        for number in range(1, wanted.times + 1):
            moment = chance.uniform(0, took)
            until = _until_moment(moment) if wanted.at is None else self._until_step(wanted.at)
            yield self._trial(f"killed-{number}", "SIGKILL", until, expected)

    def _trial(self, name: str, how: str, until: _Until, expected: str) -> Trial:
        from ..backends.state import last_metric

        told, run = self._told(f"run {name}"), self._start(name)
        is_time = until(run)
        while not self.where.status(run).is_over and not is_time():
            told.tell(last_metric(run))
            time.sleep(_TICK)
        last = last_metric(run)
        self.where.stop(run, now=how == "SIGKILL")
        self._ended(run, told)
        code, begun_at = self.where.status(run).exit_code, newest_step(run)
        if self.where.status(run).state != "done":
            self.where.submit(self._spec(run.name), again=True)
            self._finish(run, told)
        return Trial(how, last.step if last else 0, begun_at, code, fingerprint(run.adapter) == expected)

    def _told(self, what: str) -> _Told:
        return _Told(self.say, what)

    def _start(self, name: str) -> RunDir:
        from ..runs.run_dir import new_run_name

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

    def _until_step(self, step: int) -> _Until:
        from ..backends.state import last_metric

        def until(run: RunDir) -> Callable[[], bool]:
            def has_come() -> bool:
                last = last_metric(run)
                return last is not None and last.step >= step

            return has_come

        return until


_Until = Callable[[RunDir], Callable[[], bool]]


def _until_moment(seconds: float) -> _Until:
    def until(run: RunDir) -> Callable[[], bool]:
        end = time.monotonic() + seconds
        return lambda: time.monotonic() >= end

    return until


@dataclass
class _Told:
    """Tells a listener what a run does: at once, and then every five seconds."""

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
