"""The verb that repeats a run from its record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .terminal.options import cluster_option, json_option, namespace_option, run_argument
from .terminal.screen import facts, notices, say, this_launcher, typed

if TYPE_CHECKING:
    from ..launch.repeats.again import Compared, Repetition


@click.command("again", short_help="Repeat a run from its record and compare the losses.")
@run_argument
@click.option("--name", "run_name", metavar="NAME", help="Name of the new run (default: RUN-again).")
@click.option("--anyway", is_flag=True, help="Repeat it although this machine differs from the record.")
@click.option("--detach", is_flag=True, help="Start it and return; compare later with --check.")
@click.option("--check", "other", metavar="OTHER", help="Start nothing; compare the losses of RUN with those of the run OTHER.")
@cluster_option
@namespace_option
@json_option
def again(
    name: str,
    run_name: str | None,
    anyway: bool,
    detach: bool,
    other: str | None,
    cluster: bool,
    namespace: str | None,
    as_json: bool,
) -> int:
    """Repeat the run RUN from its record, and print whether the losses came out the same.

    The new run has the same experiment, data (by their hashes), image, model, code and package versions. Whatever differs now is
    named, and nothing is started; --anyway starts it with warnings.
    """
    from ..launch.repeats.again import compared, repetition

    if other is not None:
        _show(compared(name, other, cluster=cluster, namespace=namespace), as_json)
        return 0
    found = repetition(name, anyway=anyway, cluster=cluster, namespace=namespace)
    if as_json:
        raise UsageError("--json needs --check OTHER")
    return _here(found, run_name, detach) if found.there is None else _there(found, run_name, detach)


def _here(found: Repetition, run_name: str | None, detach: bool) -> int:
    from ..launch.repeats.again import compared_runs
    from .runs import start
    from .terminal.live import waiting

    with waiting("reading the data") as told:
        ready = found.prepare(run_name, told)
    facts(ready.facts)
    notices(ready.notices)
    ready.where.prepare(ready.spec, say)
    code = start(ready, detach)
    run = ready.spec.run_dir
    if detach or ready.where.status(run).state != "done":
        _later(found.run.name, run.name)
        return code
    _show(compared_runs(found.where, found.run, ready.where, run))
    return code


def _there(found: Repetition, run_name: str | None, detach: bool) -> int:
    from ..launch.repeats.again import compared_runs
    from .submit import Told, followed

    done = found.submit(run_name, follows=not detach, listener=Told(as_json=False))
    say(typed(f"Submitted {done.run}. Follow it with: launcher logs -f {done.run}"))
    code = 0 if detach else followed(done)
    if detach or done.where.status(done.on_cluster).state != "done":
        _later(found.run.name, done.run)
        return code
    _show(compared_runs(found.where, found.run, done.where, done.on_cluster))
    return code


def _later(run: str, other: str) -> None:
    say(f"When it is done, compare the losses with: {this_launcher()} again {run} --check {other}")


def _show(found: Compared, as_json: bool = False) -> None:
    if as_json:
        import json

        click.echo(json.dumps(found.json(), indent=2))
        return
    say(f"{found.run} and {found.other}: {found.losses.sentence}", indent=4)
    for line in found.why:
        say(f"differs     {line}", indent=12)


VERBS: tuple[click.Command, ...] = (again,)
