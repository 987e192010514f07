"""Prints generated text on a terminal word by word, wrapped beside a label; elsewhere as whole lines."""

from __future__ import annotations

import re
from typing import Final

import click

from .screen import LABEL, columns

# Line breaks and tabs are text; other control characters could move the cursor or change the terminal.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Flow:
    """One text with a label. It receives pieces as they are generated, and prints each word once it is complete."""

    def __init__(self, label: str):
        self._width = columns(err=False)
        self._word, self._space = "", ""
        self._column, self._is_empty = LABEL, True
        click.echo(click.style(f"{label:<{LABEL}}", bold=True), nl=False)

    def add(self, piece: str) -> None:
        for part in re.split(r"([ \t\n])", _CONTROL.sub("", piece)):
            if part not in (" ", "\t", "\n"):
                self._word += part
                continue
            self._put()
            if self._is_empty:
                continue  # a space only between words
            if part == "\n":
                self._break()
            else:
                self._space += " "

    def end(self) -> None:
        self._put()
        click.echo()

    def _put(self) -> None:
        if not self._word:
            return
        word, space = self._word, self._space
        self._word, self._space, self._is_empty = "", "", False
        if self._width is not None and self._column > LABEL and self._column + len(space) + len(word) > self._width:
            self._break()
            space = ""
        click.echo(space + word, nl=False)
        self._column += len(space) + len(word)

    def _break(self) -> None:
        self._space = ""
        click.echo(f"\n{'':<{LABEL}}", nl=False)
        self._column = LABEL
