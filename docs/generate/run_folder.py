"""The tables of a log's fields and of the entries of run.json."""

from __future__ import annotations

from launcher.runs.fields import LOG, RECORD

from .tables import plain, table


def log() -> str:
    rows = [(f"`{name}`", ", ".join(field.lines), plain(field.meaning)) for name, field in LOG.items()]
    return table([("field", "lines", "meaning"), *rows])


def record() -> str:
    return table([("entry", "what"), *((f"`{name}`", plain(meaning)) for name, meaning in RECORD.items())])
