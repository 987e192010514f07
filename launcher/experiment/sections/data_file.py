"""The name of a file of data, and the worksheet that is meant in it: ``preferences.xlsx#Train``."""

from __future__ import annotations

from typing import Final

TEXT: Final = (".csv", ".tsv", ".tab")
JSON: Final = (".jsonl", ".ndjson", ".json")
ARROW: Final = (".parquet", ".arrow", ".feather")
WORKBOOK: Final = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
SUFFIXES: Final = (*TEXT, *JSON, *ARROW, *WORKBOOK)


def split_sheet(name: str) -> tuple[str, str | None]:
    """The file, and the title of the worksheet that follows ``#`` behind a workbook's name."""
    file, mark, sheet = name.rpartition("#")
    return (file, sheet) if mark and file.lower().endswith(WORKBOOK) else (name, None)


def file_of(name: str) -> str:
    """The file alone."""
    return split_sheet(name)[0]
