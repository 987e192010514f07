"""The verb that checks a run with the health rules, and how findings are printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .terminal.options import cluster_option, json_option, namespace_option, run_argument
from .terminal.screen import facts, say

if TYPE_CHECKING:
    from ..health import Finding


@click.command("health", short_help="Check a run's metrics with the health rules.")
@run_argument
@json_option
@cluster_option
@namespace_option
def health(name: str, as_json: bool, cluster: bool, namespace: str | None) -> None:
    """Check a run's metrics and data with the health rules, also while it runs.

    RUN is a name or the beginning of one, an experiment (its newest run) or `latest`. Thresholds and actions are those of the
    experiment's `health` section.
    """
    from ..backends.status.finding import find
    from ..backends.status.health import health_of

    found = health_of(*find(name, cluster=cluster, namespace=namespace))
    if as_json:
        click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))
        return
    if not found.findings:
        say(f"no findings up to step {found.step} ({found.lines} lines of the log)")
    for one in found.findings:
        say(f"warning: {one.rule} ({one.steps}): {one.sentence}", indent=4)
        say(f"    what to do: {one.suggestion}", indent=4)


def drawn(found: Sequence[Finding] | None, above: str = "") -> None:
    """Prints findings among a run's facts; None: unknown. A sentence or an advice that is part of ``above`` is not repeated."""
    if found is None:
        return
    lines = [
        ": ".join((f"{one.rule} ({one.steps})", *(text for text in (one.sentence, one.suggestion) if text not in above)))
        for one in found
    ]
    facts({"health": "\n".join(lines or ["no findings"])})


VERBS: tuple[click.Command, ...] = (health,)
