"""Writes the generated parts of the reference: ``python -m docs.generate.reference``."""

from __future__ import annotations

from typing import Final

from . import errors, keys, run_folder, trl
from .commands import commands
from .pages import DOCS, write_part

REFERENCE: Final = DOCS / "reference"
# Page, the name of its part, and what writes that.
PARTS: Final = (
    ("experiment-file.md", "keys", keys.overview),
    ("keys.md", "details", keys.details),
    ("trl-fields.md", "fields", trl.fields),
    ("commands.md", "commands", commands),
    ("errors.md", "codes", errors.codes),
    ("errors.md", "runs", errors.runs),
    ("errors.md", "experiments", errors.experiments),
    ("errors.md", "data", errors.data),
    ("errors.md", "health", errors.health),
    ("errors.md", "others", errors.others),
    ("run-folder.md", "log", run_folder.log),
    ("run-folder.md", "record", run_folder.record),
    ("python-api.md", "errors", errors.classes),
)


def main() -> None:
    for page, name, written in PARTS:
        write_part(REFERENCE / page, name, written())


if __name__ == "__main__":
    main()
