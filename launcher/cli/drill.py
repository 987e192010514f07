"""The verb that kills and resumes a short version of an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .terminal.options import backend_option, choice, json_option
from .terminal.screen import complain, say, this_launcher

if TYPE_CHECKING:
    from ..launch.rendered import Choice


@click.command("drill", short_help="Kill and resume a short EXP, and compare the adapters.")
@click.option("--steps", type=click.IntRange(3), default=6, show_default=True, help="Length of the short version.")
@click.option("--kill-at", default="random", metavar="STEP|random", help="Kill after this step, or in random steps and writes.")
@click.option("--times", type=click.IntRange(1), default=3, show_default=True, help="Runs to kill; one more is stopped.")
@click.option("--seed", type=int, default=None, help="Seed of the random kills.")
@backend_option
@choice(name=False)
@json_option
def drill(choice: Choice, backend: str | None, steps: int, kill_at: str, times: int, seed: int | None, as_json: bool) -> int:
    """Prove that EXP survives a kill: kill a short version, resume it, compare the adapters.

    One run is not interrupted. The others are killed in a step or while a checkpoint or the adapter is written (SIGKILL to every
    process at once), and one is stopped (SIGTERM, like an eviction); each is resumed. All must end with the same adapter
    folder, byte for byte. Exits 1 if one differs, or if a kill came before the first step three times.
    """
    from ..launch.drill import Disturbances
    from ..launch.drill import drill as drilled
    from ..launch.rendered import rendered

    wanted = Disturbances.of(steps, times, kill_at, seed)
    if backend == "kubernetes":
        raise UsageError("a drill runs on this machine: use --backend host or docker")
    found = drilled(rendered(choice, backend), wanted, complain if as_json else say)
    if as_json:
        import json

        click.echo(json.dumps(found.json(), indent=2))
        return 0 if found.is_same else 1
    say(str(found))
    say(f"Train it with: {this_launcher()} run {choice}" if found.kept is None else f"The runs are kept in {found.kept}")
    return 0 if found.is_same else 1


VERBS: tuple[click.Command, ...] = (drill,)
