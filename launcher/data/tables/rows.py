"""An experiment's data -> tables: files of a folder, here or on S3, a dataset on the hub, or worksheets of a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...errors import DataError, ExperimentError, Mistake, StorageError, nearest
from ...experiment.schema import Experiment
from ...experiment.sections.data_file import SUFFIXES, file_of
from ...experiment.sections.hub_data import HUB
from ...runs.cache import cache_root
from ...runs.run_dir import expanded
from ...runs.writable import DISK_FAILS
from .formats import read_table
from .reading import Reading
from .sheet_table import sheet_table
from .sheets.spreadsheet import Spreadsheet, check_same, has_copy, read_copy
from .table import Table, Tables

PROMPT_FILENAME: Final = "prompt_data.csv"
_S3: Final = "s3://"
_OUR_FOLDERS: Final = ("data", "datasets")  # `data/mine` is no owner's dataset
_HUB_ID: Final = re.compile(r"\w[\w.-]*/[\w.-]+")


def read_tables(experiment: Experiment, reading: Reading) -> Tables:
    """The experiment's tables; raises DataError with every mistake of every table at once, and what ``read_readable`` raises."""
    tables, mistakes = read_readable(experiment, reading)
    if mistakes or tables is None:
        raise DataError(mistakes)
    return tables


def read_readable(experiment: Experiment, reading: Reading) -> tuple[Tables | None, list[Mistake]]:
    """The tables without those that have mistakes, None without the training pairs; and the mistakes.

    Raises ExperimentError for a place that cannot hold data, and CredentialError if access is denied.
    """
    mistakes: list[Mistake] = []
    tables = _worksheets(experiment, reading, mistakes) if experiment.spreadsheet_id else _files(experiment, reading, mistakes)
    return tables, mistakes


def _worksheets(experiment: Experiment, reading: Reading, mistakes: list[Mistake]) -> Tables | None:
    spreadsheet = _spreadsheet(experiment, reading)
    found = {sheet.role: sheet_table(sheet, mistakes) for sheet in spreadsheet.worksheets}
    train = found["train"]
    return None if train is None else Tables(train, found.get("validation"), found.get("prompts"), spreadsheet)


def _spreadsheet(experiment: Experiment, reading: Reading) -> Spreadsheet:
    spreadsheet_id, wanted = _checked_id(experiment), wanted_worksheets(experiment)
    if reading.copy is not None and has_copy(reading.copy):
        found = read_copy(reading.copy)
        check_same(found, spreadsheet_id, wanted, reading.copy)
        return found
    from .sheets.client import read_spreadsheet  # gspread and google-auth are slow to import

    return read_spreadsheet(spreadsheet_id, wanted, reading.env, reading.say)


def wanted_worksheets(experiment: Experiment) -> dict[str, str]:
    """Role -> title of the worksheets that the experiment names."""
    titles = {"train": experiment.train_sheet, "validation": experiment.validation_sheet, "prompts": experiment.prompt_sheet}
    return {role: title for role, title in titles.items() if title is not None}


def _checked_id(experiment: Experiment) -> str:
    """``spreadsheet_id``, which becomes part of an address; raises ExperimentError for what is not an id."""
    found = experiment.spreadsheet_id or ""
    if re.fullmatch(r"[A-Za-z0-9_-]+", found):
        return found
    inside = re.search(r"/d/([A-Za-z0-9_-]{20,})", found)
    hint = f"the id is {inside[1]}" if inside else "the id is between /d/ and /edit in the spreadsheet's address"
    raise ExperimentError(Mistake("spreadsheet_id", "not a spreadsheet id", "letters, digits, '-' and '_'", found, hint))


@dataclass(frozen=True)
class _Folder:
    """``name``: the folder in mistakes, as the prefix of a file's name."""

    path: Path
    name: str

    def file(self, filename: str) -> str:
        return f"{self.name}{filename}"


def _files(experiment: Experiment, reading: Reading, mistakes: list[Mistake]) -> Tables | None:
    if (experiment.datasets_path or "").startswith(HUB):
        from .hub_table import hub_tables  # loads the hub's client where it is used

        return hub_tables(experiment, reading, PROMPT_FILENAME, mistakes)
    folder = _folder(experiment, reading)
    prompts = experiment.prompt_filename
    if prompts is None and (folder.path / PROMPT_FILENAME).is_file():
        prompts = PROMPT_FILENAME
    train = _read(folder, experiment.train_filename, mistakes)
    without = "to hold out training pairs for it, write validation_split: 0.1 in place of validation_filename"
    validation = _read(folder, experiment.validation_filename, mistakes, [experiment.train_filename], without)
    prompt_table = _read(folder, prompts, mistakes)
    return None if train is None else Tables(train, validation, prompt_table)


def _folder(experiment: Experiment, reading: Reading) -> _Folder:
    path = experiment.datasets_path
    assert path is not None, "an experiment has one source of data"
    if path.startswith(_S3):
        from ...storage import fetch_folder  # boto3 is slow to import

        names = [experiment.train_filename, experiment.validation_filename, experiment.prompt_filename or PROMPT_FILENAME]
        cache = reading.cache if reading.cache is not None else cache_root(reading.env)
        wanted = list(dict.fromkeys(file_of(name) for name in names if name is not None))
        there = fetch_folder(path, storage=experiment.storage_config, env=reading.env, cache=cache, names=wanted)
        return _Folder(there, path.rstrip("/") + "/")
    if "://" in path:
        what, hint = "must be a folder, s3://bucket/folder or hf://owner/name", "download the files first"
        raise ExperimentError(Mistake("datasets_path", what, found=path, hint=hint))
    folder = reading.root / expanded(path)
    if not folder.is_dir():
        what = "datasets_path is a file, not a folder" if folder.exists() else "folder not found (datasets_path)"
        others = [p.name for p in _children(folder.parent) if p.is_dir()]
        where = _name(folder, reading.root)
        is_ours = folder.parent.is_dir() or path.split("/")[0] in _OUR_FOLDERS
        is_hub_id = not is_ours and _HUB_ID.fullmatch(path) is not None
        how = nearest(folder.name, others) or (f"for a dataset on the hub write {HUB}{path}" if is_hub_id else None)
        raise DataError(Mistake(where, what, expected=f"a folder with {file_of(experiment.train_filename)}", hint=how))
    return _Folder(folder, _name(folder / "_", reading.root)[:-1])


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _name(path: Path, data_root: Path) -> str:
    return str(path.relative_to(data_root) if path.is_relative_to(data_root) else path)


def _read(
    folder: _Folder, filename: str | None, mistakes: list[Mistake], taken: Sequence[str] = (), without: str | None = None
) -> Table | None:
    """The table of one file, or None with its mistakes added to ``mistakes``.

    If it is missing, the hint names the nearest file that is not among ``taken``, else it is ``without``.
    """
    if filename is None:
        return None
    path, name = folder.path / file_of(filename), folder.file(filename)
    try:
        return read_table(name, path, mistakes)
    except FileNotFoundError:
        mistakes.append(_missing(path, name, [file_of(one) for one in taken], without))
        return None
    except OSError as error:
        if error.errno in DISK_FAILS:  # nothing of the data is wrong
            raise StorageError(f"{name}: cannot read the file: {(error.strerror or str(error)).lower()}") from error
        mistakes.append(
            Mistake(name, f"cannot read the file: {(error.strerror or str(error)).lower()}", expected="a file of data")
        )
        return None


def _missing(path: Path, name: str, taken: Sequence[str], without: str | None) -> Mistake:
    there = [p.name for p in _children(path.parent) if p.suffix.lower() in SUFFIXES]
    found = f"the folder has {', '.join(there)}" if there else "the folder has no file of data"
    how = nearest(path.name, [file for file in there if file not in taken]) or without
    return Mistake(name, "file not found", found=found, hint=how)
