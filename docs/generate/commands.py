"""The page of commands, from the command line itself: an index by purpose, then each command with its options."""

from __future__ import annotations

from collections.abc import Iterator

import click

from launcher.cli import PURPOSES, launcher

from .tables import anchor, plain, table


def commands() -> str:
    """Each command has a heading; its options are a list, which a phone wraps."""
    every = [_entry(path, command) for path, command in _walked(("launcher",), launcher)]
    return "\n\n".join((*_index(), *every))


def _index() -> Iterator[str]:
    for purpose, verbs in PURPOSES.items():
        every = [found for verb in verbs for found in _walked((verb,), launcher.commands[verb])]
        those = {" ".join(path): command for path, command in every if not isinstance(command, click.Group)}
        rows = [
            (f"[`launcher {name}`](#launcher-{anchor(name)})", plain(one.get_short_help_str(100))) for name, one in those.items()
        ]
        yield f"## {purpose}\n\n{table([('command', 'what it does'), *rows])}"


def _walked(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from _walked((*path, name), below)


def _entry(path: tuple[str, ...], command: click.Command) -> str:
    context = None
    for name in path:
        context = click.Context(command, info_name=name, parent=context, **launcher.context_settings)
    assert context is not None
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [f"## {' '.join(path)}", f"```text\n{' '.join(usage.split())}\n```", *_paragraphs(command.help or "")]
    options = [record for param in command.get_params(context) if (record := param.get_help_record(context)) is not None]
    parts.append("\n".join(f"- `{names}`: {plain(' '.join(help.split()))}" for names, help in options))
    return "\n\n".join(part for part in parts if part)


def _paragraphs(text: str) -> Iterator[str]:
    """The help's paragraphs; those that click does not wrap are lines to be typed."""
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.strip("\n")
        if lines.lstrip().startswith("\b"):
            yield "```text\n" + "\n".join(line.rstrip() for line in lines.replace("\b", "").strip("\n").splitlines()) + "\n```"
        else:
            yield plain(" ".join(lines.split()))
