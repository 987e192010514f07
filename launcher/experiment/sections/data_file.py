"""A data file with an optional worksheet: ``preferences.xlsx#Train``."""

from __future__ import annotations

from typing import Final

TEXT: Final = (".csv", ".tsv", ".tab")
JSON: Final = (".jsonl", ".ndjson", ".json")
ARROW: Final = (".parquet", ".arrow", ".feather")
WORKBOOK: Final = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
SUFFIXES: Final = (*TEXT, *JSON, *ARROW, *WORKBOOK)


def split_sheet(name: str) -> tuple[str, str | None]:
    """``preferences.xlsx#Train`` -> (file, title of the worksheet or None)."""
    file, mark, sheet = name.rpartition("#")
    return (file, sheet) if mark and file.lower().endswith(WORKBOOK) else (name, None)


def file_of(name: str) -> str:
    """The file without the worksheet."""
    return split_sheet(name)[0]
