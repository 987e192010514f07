"""The verb that explains a run."""

from __future__ import annotations

import json

import click

from .health import drawn
from .terminal.options import cluster_option, json_option, namespace_option, run_argument
from .terminal.screen import facts, typed


@click.command("why", short_help="Explain why a run waits, runs or failed.")
@run_argument
@json_option
@cluster_option
@namespace_option
def why(name: str, as_json: bool, cluster: bool, namespace: str | None) -> None:
    """Explain in one sentence why a run waits, runs or failed, and how to fix it.

    RUN is a name or the beginning of one, an experiment (its newest run), `latest`, a sweep, or a server of `launcher serve
    --backend kubernetes` (serve-RUN). It reads what the host, Docker or
    the cluster shows: conditions, events, exit codes, queues and the last lines of the log.
    """
    from ..backends.status.state import Explained, explained
    from ..launch.served import find_or_server
    from ..launch.sweeps.found import Swept

    there = find_or_server(name, cluster=cluster, namespace=namespace)
    if isinstance(there, Swept):
        from .points import show_why

        show_why(there, as_json)
        return
    found = there if isinstance(there, Explained) else explained(*there)
    if as_json:
        click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))
        return
    facts({"why": found.why.sentence, "what to do": typed(found.why.suggestion)})
    drawn(found.health or None, above=f"{found.why.sentence}\n{found.why.suggestion}")
    for what in found.unseen:
        facts({"not seen": what})


VERBS: tuple[click.Command, ...] = (why,)
