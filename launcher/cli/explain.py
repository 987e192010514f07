"""``launcher explain``: describes a key of an experiment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from .terminal.options import json_option
from .terminal.screen import facts, say

if TYPE_CHECKING:
    from ..experiment.explain.explained import Key


_WHERE: Final = {"host": "host", "docker": "Docker", "kubernetes": "Kubernetes", "fast": "fast path", "plain": "plain path"}


@click.command("explain", short_help="Explain a key of an experiment.")
@click.argument("key", metavar="[KEY]", default="")
@json_option
def explain(key: str, as_json: bool) -> None:
    """Explain KEY: type, default, meaning, an example, and what differs on a backend or a path of the DPO step.

    KEY is a path such as launch.nodes, or the last part of one.

    Without KEY: the keys at the top of an experiment.
    """
    from ..experiment.explain.explained import explain as find

    found = find(key)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    elif key:
        for place, one in enumerate(found):
            if place:
                say("")
            _explain(one)
    else:
        _list_keys(found)
        say("\nExplain one with: launcher explain KEY, for example launcher explain hyperparameters")


def _explain(key: Key) -> None:
    say(key.path)
    default = "required" if key.is_required else key.default or None
    facts(
        {
            "type": key.type.replace("`", ""),
            "default": default,
            "meaning": key.meaning.replace("`", "") or None,
            "example": key.example or None,
            **{_WHERE[place]: text for place, text in key.effects.items()},
            "no effect": f"with {' or '.join(key.idle_with)}" if key.idle_with else None,
        }
    )
    if key.below:
        say("\nkeys")
        _list_keys(key.below)


def _list_keys(keys: Sequence[Key]) -> None:
    wide = max(len(key.name) for key in keys)
    for key in keys:
        default = f" (default {key.default})" if key.default else ""
        say(f"{key.name:<{wide}}  {key.meaning.replace('`', '')}{default}", indent=wide + 2)


VERBS: tuple[click.Command, ...] = (explain,)
