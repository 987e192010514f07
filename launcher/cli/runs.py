"""The verbs that start, watch and stop runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import backend_option, data_of_option, experiment_argument, file_option, json_option, name_option, set_option
from .render import rendered

if TYPE_CHECKING:
    from ..job import Job
    from ..run_dir import RunDir
    from .backends import AnyBackend
    from .known_runs import Known

_run_argument = click.argument("name", metavar="RUN")


@click.command("run")
@experiment_argument()
@click.option("--local", is_flag=True, help="On this machine: in a container where Docker is, else on the host.")
@backend_option
@click.option("--detach", is_flag=True, help="Start it and return; `launcher logs -f RUN` follows it.")
@click.option("--dry-run", is_flag=True, help="Print what would be started, as `launcher render` does.")
@set_option
@name_option
@data_of_option
@file_option
def run(
    experiment: str,
    local: bool,
    backend: str | None,
    detach: bool,
    dry_run: bool,
    overrides: tuple[str, ...],
    run_name: str | None,
    data_of: str | None,
    file: Path | None,
) -> int:
    """Train the experiment EXP and follow it to its end.

    Ctrl-C stops it after a checkpoint, a second Ctrl-C at once. The exit code is the run's: 0 done, 42 the experiment is wrong,
    43 the data, 143 stopped on request, 130 aborted.
    """
    where, job, loaded, why = rendered(experiment, backend, overrides, run_name, file)
    with loaded.placed():
        spec: Any = where.render(job)
    if dry_run:
        click.echo(where.text(spec), nl=False)
        return 0
    from ..config import read_env
    from ..job import check_model
    from ..pairs import read_pairs
    from .data import reading_for, with_copy
    from .derived import derived
    from .plan import said_before_run

    caller = read_env(Path.cwd())
    with loaded.placed():
        check_model(job.experiment.model_name, where.cwd)
        earlier = _run(data_of) if data_of is not None else None
        pairs = read_pairs(job.experiment, reading_for(job, spec.run_dir, where.cwd, caller, earlier))
    if run_name is not None and job.node.rank == 0 and any(known.name == run_name for known in _runs()):
        raise UsageError(f"--name {run_name}: a run of that name exists already")
    if why is not None:
        click.echo(why)
    click.echo("\n".join(said_before_run(job.experiment, pairs, Path(), caller)))
    where.prepare(spec, click.echo)
    click.echo("\n".join(derived(job, pairs, spec.run_dir)))
    for notice in (*pairs.notices, *where.notices(job)):
        click.echo(f"notice: {notice}")
    return _start(where, job, with_copy(spec, pairs.spreadsheet), detach)


@click.command("resume")
@_run_argument
@click.option("--detach", is_flag=True, help="Start it and return; `launcher logs -f RUN` follows it.")
def resume(name: str, detach: bool) -> int:
    """Start a run again that was stopped or killed, or has failed: in its own folder, from its newest checkpoint.

    It ends with the adapter that it would have had. With other settings, start a new run with
    --set hyperparameters.resume_from_checkpoint=true.
    """
    from ..backends.host import gpus_there
    from ..config import read_env
    from ..resume import job_again
    from .backends import backend_of

    run = _run(name)
    where = backend_of(run)
    now = where.status(run)
    if not now.is_over:
        raise UsageError(f"{run.name} is {now.state}: `launcher logs -f {run.name}` follows it")
    if now.state == "done":
        raise UsageError(f"{run.name} is done: there is nothing to go on with")
    job = job_again(run, gpus_there(read_env(Path.cwd())))
    spec: Any = where.render(job)
    if spec.run_dir.path.resolve() != run.path.resolve():
        raise UsageError(f"{run.path}: go to the directory where the run was started, and resume it there")
    where.prepare(spec, click.echo)
    newest = run.checkpoints()[-1:]
    click.echo(f"{run.name} goes on from {newest[0].name if newest else 'its beginning: it has no checkpoint yet'}")
    return _start(where, job, spec, detach, again=True)


@click.command("ps")
@json_option
@click.option("-a", "--all", "every", is_flag=True, help="All runs, not the ten newest and those that run.")
def ps(as_json: bool, every: bool) -> None:
    """List runs, newest first."""
    from .known_runs import known

    found = [known(run) for run in _runs_and_containers()]
    shown = [run for number, run in enumerate(found) if every or number < 10 or not run.is_over]
    if as_json:
        _echo_json([run.json() for run in shown])
        return
    if not shown:
        click.echo("no run yet: `launcher run EXP` makes one")
        return
    rows = [("RUN", "STATE", "STEP", "LOSS", "STARTED (UTC)", "TOOK")]
    rows += [
        (run.run, _state(run), run.progress, "-" if run.loss is None else f"{run.loss:.4f}", _minute(run.created), run.took)
        for run in shown
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(shown) < len(found):
        click.echo(f"… and {len(found) - len(shown)} older (ps -a)")


@click.command("status")
@_run_argument
@json_option
def status(name: str, as_json: bool) -> None:
    """Say how one run is. RUN is a name or its beginning, an experiment (its newest run) or `latest`."""
    from .known_runs import known

    run = _run(name)
    now = known(run)
    if as_json:
        _echo_json({**now.json(), "record": run.read_record()})
        return
    attempts = len(run.read_record().get("attempts", []))
    facts = {
        "run": now.run,
        "experiment": now.experiment,
        "state": _state(now),
        "because": now.sentence,
        "step": now.progress,
        "loss": None if now.loss is None else f"{now.loss:.4f}",
        "started": f"{_minute(now.created)} UTC",
        "took": now.took,
        "attempts": str(attempts),
        "folder": now.folder,
    }
    for label, fact in facts.items():
        if fact is not None:
            click.echo(f"{label:<12}{fact}")


@click.command("logs")
@_run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over; Ctrl-C leaves it alone.")
@click.option("--rank", type=click.IntRange(0), default=0, help="Whose log (default: 0).")
def logs(name: str, follow: bool, rank: int) -> int:
    """Print what a run has said, from its first line."""
    from .backends import backend_of
    from .watch import show_log

    run = _run(name)
    return show_log(backend_of(run), run, rank=rank, follow=follow)


@click.command("stop")
@_run_argument
@click.option("--now", is_flag=True, help="Kill it at once, without a checkpoint.")
def stop(name: str, now: bool) -> int:
    """Stop a run after a checkpoint and wait for its end."""
    from .backends import backend_of
    from .watch import stop_and_wait

    run = _run(name)
    return stop_and_wait(backend_of(run), run, now=now)


@click.command("tensorboard")
@click.argument("names", metavar="[RUN]...", nargs=-1)
@click.option("--port", type=click.IntRange(1, 65535), default=6006, help="Port of this machine (default: 6006).")
@click.option(
    "--backend",
    type=click.Choice(["host", "docker"]),
    help="Where it runs (default: host if it is installed here, else a container).",
)
def tensorboard(names: tuple[str, ...], port: int, backend: str | None) -> int:
    """Show runs side by side in TensorBoard until Ctrl-C; with no RUN, all of them."""
    from ..config import read_env
    from .known_runs import choose
    from .tensorboard import serve

    runs = _runs()
    return serve([choose(name, runs) for name in names] if names else runs, port, backend, read_env(Path.cwd()))


def _start(where: AnyBackend, job: Job, spec: Any, detach: bool, *, again: bool = False) -> int:
    from .watch import Interrupts, watch

    log = spec.run_dir.rank_log(0)
    begin = log.stat().st_size if again and log.is_file() else 0
    if detach:
        where.submit(spec, again=again)
        click.echo(f"{job.run} has begun: launcher logs -f {job.run}")
        return 0
    with Interrupts() as interrupts:
        run = where.submit(spec, again=again)
        return watch(where, run, interrupts, pairs_a_step=job.experiment.global_batch, begin=begin)


def _runs() -> list[RunDir]:
    from .known_runs import newest_first, output_dirs

    return newest_first(output_dirs(Path.cwd()))


def _runs_and_containers() -> list[RunDir]:
    """The runs below this directory, and those elsewhere that have a container."""
    from .backends import folders_of_containers
    from .known_runs import newest_first, output_dirs

    return newest_first(output_dirs(Path.cwd()), folders_of_containers())


def _run(name: str) -> RunDir:
    """The run that a person means, below this directory; elsewhere only by its whole name."""
    from .known_runs import choose

    try:
        return choose(name, _runs())
    except UsageError:
        elsewhere = [run for run in _runs_and_containers() if run.name == name]
        if len(elsewhere) != 1:
            raise
        return elsewhere[0]


def _state(run: Known) -> str:
    return run.state if run.exit_code in (None, 0) else f"{run.state} ({run.exit_code})"


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _echo_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


VERBS: tuple[click.Command, ...] = (run, resume, ps, status, logs, stop, tensorboard)
