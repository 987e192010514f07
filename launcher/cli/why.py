"""The verb that explains a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .options import json_option

if TYPE_CHECKING:
    from ..why import Evidence


@click.command("why")
@click.argument("name", metavar="RUN")
@json_option
def why(name: str, as_json: bool) -> None:
    """Say in a sentence why a run is as it is, and what to do about it.

    RUN is a name or its beginning, an experiment (its newest run) or `latest`. What Docker, a host or a cluster shows of it is
    looked at: conditions, events, exit codes, queues, and its last lines.
    """
    from ..why import explain

    seen = _seen(name)
    found = explain(seen)
    if as_json:
        told = {"run": seen.run, "backend": seen.backend, "state": seen.state, "exit_code": seen.exit_code}
        click.echo(json.dumps({**told, **asdict(found), "unseen": list(seen.unseen)}, indent=2, ensure_ascii=False))
        return
    click.echo(f"{'why':<12}{found.sentence}")
    click.echo(f"{'what to do':<12}{found.suggestion}")
    for what in seen.unseen:
        click.echo(f"{'not seen':<12}{what}")


def _seen(name: str) -> Evidence:
    from ..backends.evidence import gather
    from .backends import backend_of
    from .found import local_run

    run = local_run(name)
    return gather(run, backend_of(run).status(run))


VERBS: tuple[click.Command, ...] = (why,)
