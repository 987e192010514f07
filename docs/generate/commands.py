"""The page of commands, from the command line itself: an index by purpose, then each command with its options."""

from __future__ import annotations

from collections.abc import Iterator

import click

from launcher.cli import PURPOSES, launcher

from .tables import anchor, plain, table


def commands() -> str:
    """Each command has a heading; its options are a list, which a phone wraps."""
    every = [_entry(context) for context in _contexts(launcher, None, "launcher")]
    return "\n\n".join((*_index(), *every))


def _index() -> Iterator[str]:
    for purpose, verbs in PURPOSES.items():
        those = {name: one for verb in verbs for name, one in _verbs(verb, launcher.commands[verb])}
        rows = [
            (f"[`launcher {name}`](#launcher-{anchor(name)})", plain(one.get_short_help_str(100))) for name, one in those.items()
        ]
        yield f"## {purpose}\n\n{table([('command', 'what it does'), *rows])}"


def _verbs(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
    else:
        for below, one in sorted(command.commands.items()):
            yield from _verbs(f"{name} {below}", one)


def _contexts(command: click.Command, parent: click.Context | None, name: str) -> Iterator[click.Context]:
    """That of a command as help needs it, then those of the commands below."""
    context = click.Context(command, info_name=name, parent=parent, **launcher.context_settings)
    yield context
    if isinstance(command, click.Group):
        for below, one in sorted(command.commands.items()):
            yield from _contexts(one, context, below)


def _entry(context: click.Context) -> str:
    command = context.command
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [f"## {context.command_path}", f"```text\n{' '.join(usage.split())}\n```", *_paragraphs(command.help or "")]
    options = [record for param in command.get_params(context) if (record := param.get_help_record(context)) is not None]
    parts.append("\n".join(f"- `{names}`: {plain(' '.join(help.split()))}" for names, help in options if help))
    return "\n\n".join(part for part in parts if part)


def _paragraphs(text: str) -> Iterator[str]:
    """The help's paragraphs; those that click does not wrap are lines to be typed."""
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.strip("\n")
        if lines.lstrip().startswith("\b"):
            yield "```text\n" + "\n".join(line.rstrip() for line in lines.replace("\b", "").strip("\n").splitlines()) + "\n```"
        else:
            yield plain(" ".join(lines.split()))
