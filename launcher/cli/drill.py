"""``launcher drill``: kills a short version of an experiment, resumes it, and compares what comes out."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import LauncherError, UsageError
from .options import backend_option, experiment_argument, file_option, json_option, set_option

if TYPE_CHECKING:
    from ..backends.choose import AnyBackend
    from ..data.sheets.spreadsheet import Spreadsheet
    from ..job.drill import Trial
    from ..job.job import Job
    from ..runs.run_dir import RunDir

_TICK = 0.05


@click.command("drill", short_help="Kill and resume a short EXP, and compare the adapters.")
@experiment_argument()
@backend_option
@click.option("--steps", type=click.IntRange(3), default=6, show_default=True, help="Length of the short version.")
@click.option(
    "--kill-at", default="random", metavar="STEP|random", help="When to kill it: at a step, or at any moment (default)."
)
@click.option("--times", type=click.IntRange(1), default=3, show_default=True, help="How often to kill it; one more is stopped.")
@click.option("--seed", type=int, default=None, help="Seed of the random moments.")
@set_option
@json_option
@file_option
def drill(
    experiment: str,
    backend: str | None,
    steps: int,
    kill_at: str,
    times: int,
    seed: int | None,
    overrides: tuple[str, ...],
    as_json: bool,
    file: Path | None,
) -> int:
    """Prove that EXP survives: kill a short version of it, resume it, compare the adapters.

    One run is left alone. The others are killed (SIGKILL to every process at once), one is stopped (SIGTERM, as an eviction
    does), and each is resumed. All must end with the same adapter, byte for byte. Exit code 0 if they do, 1 if not.
    """
    from ..launch.data import read_spreadsheet_once
    from ..launch.rendered import rendered
    from .screen import complain

    at = _step(kill_at, steps)
    where, job, loaded, why = rendered(experiment, backend, overrides, None, file)
    with loaded.placed():
        sheet = read_spreadsheet_once(job, where.cwd, complain)
        begun = Drill.of(where, job, steps, sheet, say=(lambda _: None) if as_json else click.echo)
    if why is not None and not as_json:
        click.echo(why)
    trials = []
    for trial in begun.trials(times, at, random.Random(seed)):
        trials.append(trial)
        if not as_json:
            click.echo(_line(len(trials), trial))
    is_same = all(trial.is_same for trial in trials)
    if as_json:
        import json

        click.echo(json.dumps({"experiment": job.key, "same": is_same, "trials": [trial.json() for trial in trials]}, indent=2))
    else:
        count = sum(trial.is_same for trial in trials)
        click.echo(f"{count} of {len(trials)} resumed runs ended with the adapter of the undisturbed one, byte for byte")
    begun.close(keep=not is_same)
    return 0 if is_same else 1


def _step(kill_at: str, steps: int) -> int | None:
    if kill_at == "random":
        return None
    if kill_at.isdecimal() and 0 < int(kill_at) < steps:
        return int(kill_at)
    raise UsageError(f"--kill-at: expected random, or a step from 1 to {steps - 1}; found {kill_at!r}")


def _line(number: int, trial: Trial) -> str:
    end = "the same adapter" if trial.is_same else "ANOTHER ADAPTER"
    told = f"{trial.how} after step {trial.at_step}".ljust(24)
    return f"{number:>3}  {told} exit {trial.exit_code}, went on from step {trial.from_step}: {end}"


@dataclass(frozen=True)
class Drill:
    """The short version, where it runs, and the fingerprint of the undisturbed run's adapter."""

    where: AnyBackend
    job: Job
    folder: Path
    spreadsheet: Spreadsheet | None
    say: Callable[[str], None]

    @classmethod
    def of(cls, where: AnyBackend, job: Job, steps: int, spreadsheet: Spreadsheet | None, say: Callable[[str], None]) -> Drill:
        from dataclasses import replace

        from ..job.drill import short_version

        short = short_version(job.experiment, steps, full_determinism=job.gpus > 0)
        folder = where.cwd / short.hyperparameters.model_output_dir
        return cls(where, replace(job, experiment=short, key=f"drill-{job.key}"), folder, spreadsheet, say)

    def trials(self, times: int, at: int | None, chance: random.Random) -> Iterator[Trial]:
        """First the undisturbed run, then SIGTERM once and SIGKILL ``times`` times."""
        from ..job.drill import fingerprint

        began = time.monotonic()
        alone = self._start("alone")
        self._finish(alone)
        took = time.monotonic() - began
        expected = fingerprint(alone.adapter)
        self.say(f"undisturbed: {self._steps} steps in {took:.0f} s on {self.job.devices}, adapter {expected[:12]}")
        yield self._trial("stopped", "SIGTERM", lambda run: self._until_step(run, at or max(1, self._steps // 2)), expected)
        for number in range(times):
            moment = chance.uniform(0, took)
            wait = self._moment(moment) if at is None else lambda run: self._until_step(run, at)
            yield self._trial(f"killed-{number + 1}", "SIGKILL", wait, expected)

    def close(self, *, keep: bool) -> None:
        """Removes the drill's runs, unless somebody will want to look at them."""
        if keep:
            self.say(f"the runs are kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _steps(self) -> int:
        steps = self.job.experiment.hyperparameters.max_steps
        assert steps is not None, "a short version has a length"
        return steps

    def _trial(self, name: str, how: str, wait: Callable[[RunDir], None], expected: str) -> Trial:
        from ..backends.finding import last_metric
        from ..job.drill import Trial, fingerprint, newest_step

        run = self._start(name)
        wait(run)
        last = last_metric(run)
        self.where.stop(run, now=how == "SIGKILL")
        self._ended(run)
        code, begun_at = self.where.status(run).exit_code, newest_step(run)
        if self.where.status(run).state != "done":
            self.where.submit(self._spec(run.name), again=True)
            self._finish(run)
        return Trial(how, last.step if last else 0, begun_at, code, fingerprint(run.adapter) == expected)

    def _start(self, name: str) -> RunDir:
        from ..runs.run_dir import new_run_name

        spec = self._spec(new_run_name(name))
        self.where.prepare(spec, self.say)
        return self.where.submit(spec)

    def _spec(self, run: str) -> Any:
        from dataclasses import replace

        from ..launch.data import with_copy

        return with_copy(self.where.render(replace(self.job, run=run)), self.spreadsheet)

    def _finish(self, run: RunDir) -> None:
        self._ended(run)
        now = self.where.status(run)
        if now.state != "done":
            raise LauncherError(f"the drill's run {run.path} {now.state} (exit {now.exit_code}): {now.sentence}")

    def _ended(self, run: RunDir) -> None:
        for _ in self.where.follow(run):
            pass

    def _until_step(self, run: RunDir, step: int) -> None:
        from ..backends.finding import last_metric

        while not self.where.status(run).is_over:
            last = last_metric(run)
            if last is not None and last.step >= step:
                return
            time.sleep(_TICK)

    def _moment(self, seconds: float) -> Callable[[RunDir], None]:
        def wait(run: RunDir) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until and not self.where.status(run).is_over:
                time.sleep(_TICK)

        return wait


VERBS: tuple[click.Command, ...] = (drill,)
