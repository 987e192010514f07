"""The verb completion, and what a shell completes: experiments, runs, and settings of --set."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from . import shells

shells.register()
Completed = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
_VARIABLE: Final = "_LAUNCHER_COMPLETE"  # click's name of the variable


@click.command("completion", short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, experiments, runs and settings in a shell.

    \b
    bash:  eval "$(launcher completion bash)"                               in ~/.bashrc
    zsh:   eval "$(launcher completion zsh)"                                in ~/.zshrc
    fish:  launcher completion fish > ~/.config/fish/completions/launcher.fish
    """
    of_shell = get_completion_class(shell)
    assert of_shell is not None
    click.echo(of_shell(context.find_root().command, {}, "launcher", _VARIABLE).source())


def _silent(complete: Completed) -> Completed:
    """Completes nothing if files are invalid: the command itself reports the mistakes."""

    @wraps(complete)
    def completed(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        try:
            return complete(context, parameter, begun)
        except Exception:
            return []

    return completed


@_silent
def experiments(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Keys of the experiments, with their topics."""
    from ...experiment.shown import list_experiments

    rows = list_experiments(file=context.params.get("file")).rows
    return [CompletionItem(row.key, help=row.topic) for row in rows if row.key.startswith(begun)]


@_silent
def recipes(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of the recipes."""
    from ...planning.recipes import matching

    return [CompletionItem(name) for name in matching("") if name.startswith(begun)]


@_silent
def runs(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of the runs in this folder, newest first."""
    from ...runs.finding import newest_first, output_dirs, remembered

    root = Path()
    return [CompletionItem(run.name) for run in newest_first(output_dirs(root), remembered(root)) if run.name.startswith(begun)]


@_silent
def settings(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Keys for --set, with ``=``; after it the values of a key with few values."""
    from ...experiment.explain.json_schema import json_schema

    definitions: dict[str, Any] = json_schema()["$defs"]
    key, sign, value = begun.partition("=")
    found = _keys(definitions, definitions["Experiment"], "")
    if sign:
        return [CompletionItem(f"{key}={choice}") for choice in _choices(found.get(key, {})) if choice.startswith(value)]
    named = [name for name in found if name.startswith(begun)] or [name for name in found if name.endswith(f".{begun}")]
    named = named or _only([name for name in found if name.rpartition(".")[2].startswith(begun)])
    return [CompletionItem(f"{name}=", help=found[name].get("description")) for name in named]


def _only(names: list[str]) -> list[str]:
    """``names`` if there is only one: bash would otherwise replace the typed text with their common prefix."""
    return names if len(names) == 1 else []


def _keys(definitions: dict[str, Any], definition: dict[str, Any], prefix: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, of in definition.get("properties", {}).items():
        inner = definitions.get(str(of.get("$ref", "")).rpartition("/")[2], {})
        if "properties" in inner:
            found |= _keys(definitions, inner, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = {**inner, **of}
    return found


def _choices(of: dict[str, Any]) -> list[str]:
    choices: list[str] = []
    for one in (of, *of.get("anyOf", [])):
        values = one.get("enum", [one["const"]] if "const" in one else [True, False] if one.get("type") == "boolean" else [])
        choices += [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    return list(dict.fromkeys(choices))


VERBS = (completion,)
