"""Spreadsheet: the cells that were read, and their snapshot in a run's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ....errors import DataError, Mistake, StorageError
from ....runs.whole import write_whole

MANIFEST: Final = "spreadsheet.json"
ROLES: Final = ("train", "validation", "prompts")
BUNDLE: Final = "read.json"


@dataclass(frozen=True)
class Worksheet:
    """``values``: the cells as displayed, row by row from the first; a row ends with its last cell that is not empty.

    ``merged``: merged cells of a file, such as A2:A3, whose text ``values`` has in each of their rows.
    """

    role: str
    title: str
    values: tuple[tuple[str, ...], ...]
    merged: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """The cells in the snapshot: one JSON array per row."""
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.values)

    @cached_property
    def sha256(self) -> str:
        """Of :attr:`text` in UTF-8."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def file(self) -> str:
        return f"{self.role}.jsonl"


@dataclass(frozen=True)
class Spreadsheet:
    """Worksheets of the spreadsheet ``id`` that one request has read at ``time`` (UTC, ISO)."""

    id: str
    time: str
    worksheets: tuple[Worksheet, ...]

    @property
    def record(self) -> dict[str, Any]:
        """The entry in a run's record, and the manifest of the snapshot."""
        worksheets = [{"role": w.role, "title": w.title, "rows": len(w.values), "sha256": w.sha256} for w in self.worksheets]
        return {"id": self.id, "read": self.time, "worksheets": worksheets}

    @property
    def files(self) -> dict[str, str]:
        """The snapshot: file name -> text, the manifest last."""
        return {w.file: w.text for w in self.worksheets} | {
            MANIFEST: json.dumps(self.record, indent=2, ensure_ascii=False) + "\n"
        }


def bundle(spreadsheet: Spreadsheet) -> str:
    """The snapshot as one text, for a place without folders (a ConfigMap)."""
    return json.dumps(spreadsheet.files, ensure_ascii=False)


def unpack(file: Path, folder: Path) -> None:
    """Writes the snapshot ``folder`` from the bundle in ``file``, the manifest last; raises DataError for another file, and
    StorageError if it cannot be read.
    """
    try:
        files = json.loads(file.read_text(encoding="utf-8"))
        texts = {f"{role}.jsonl": files[f"{role}.jsonl"] for role in ROLES if f"{role}.jsonl" in files}
        texts[MANIFEST] = files[MANIFEST]
    except OSError as error:
        raise StorageError(f"{file}: cannot unpack the snapshot of the spreadsheet: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(Mistake(str(file), f"cannot unpack the snapshot of the spreadsheet: {error}")) from error
    write_copy(folder, texts)


def write_copy(folder: Path, files: Mapping[str, str]) -> None:
    """Writes ``files``, whose last is the manifest, into ``folder``."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        write_whole(folder / name, text)


def has_copy(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def read_copy(folder: Path) -> Spreadsheet:
    """The snapshot in ``folder``; raises DataError if it is damaged or was changed."""
    manifest = folder / MANIFEST
    try:
        record = json.loads(manifest.read_text(encoding="utf-8"))
        found = Spreadsheet(record["id"], record["read"], tuple(_worksheet(folder, entry) for entry in record["worksheets"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(Mistake(str(manifest), f"cannot read the snapshot of the spreadsheet: {error}")) from error
    changed = [
        Mistake(str(folder / w.file), "the snapshot of the spreadsheet was changed", entry["sha256"], w.sha256)
        for w, entry in zip(found.worksheets, record["worksheets"], strict=True)
        if w.sha256 != entry["sha256"]
    ]
    if changed:
        raise DataError(changed)
    return found


def check_same(found: Spreadsheet, spreadsheet_id: str, wanted: Mapping[str, str], folder: Path) -> None:
    """Raises DataError unless ``found`` has the worksheets ``wanted`` (role -> title) of this spreadsheet."""
    titles = {w.role: w.title for w in found.worksheets}
    if found.id == spreadsheet_id and titles == dict(wanted):
        return
    raise DataError(
        Mistake(
            str(folder),
            "the snapshot has other worksheets than the experiment",
            expected=f"{_worded(wanted)} of spreadsheet {spreadsheet_id}",
            found=f"{_worded(titles)} of spreadsheet {found.id}",
        )
    )


def _worded(titles: Mapping[str, str]) -> str:
    return ", ".join(f"{title!r} ({role})" for role, title in titles.items())


def _worksheet(folder: Path, entry: Mapping[str, Any]) -> Worksheet:
    role = str(entry["role"])
    with (folder / f"{role}.jsonl").open(encoding="utf-8", newline="\n") as lines:
        return Worksheet(role, entry["title"], tuple(tuple(json.loads(line)) for line in lines))
