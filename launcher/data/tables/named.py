"""Named: the training data that a person means by one text: a file, a dataset on the hub, a file in a bucket, a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from ...errors import UsageError, nearest
from ...experiment.sections.data_file import SUFFIXES, split_sheet
from ...experiment.sections.hub_data import EXPECTED, HUB, HubData
from ...runs.run_dir import expanded
from .reading import Reading
from .rows import PROMPT_FILENAME

TRAINING: Final = ("training_data", "training", "train")  # stems of files whose folder has the telling name
VALIDATION: Final = ("validation_data", "validation", "valid", "val", "eval", "dev")
_HELD_OUT: Final = ("validation", "valid", "val", "dev", "test", "eval")  # words of splits and worksheets
_LISTED: Final = 6  # files of a folder, splits, worksheets
_S3: Final = "s3://"
_GOOGLE: Final = "docs.google.com"
_KINDS: Final = "a file, hf://owner/name, s3://bucket/folder/file, or the address of a Google spreadsheet"


@dataclass(frozen=True)
class Named:
    """``settings``: of an experiment that reads it, with validation data that belong to it; ``stem``: a name for it."""

    settings: Mapping[str, str]
    stem: str
    shown: str


def named(name: str, reading: Reading) -> Named:
    """What ``name`` means; a file may end with ``#Worksheet``, a dataset with ``#split``.

    Raises UsageError for a text that means nothing or several things, and what a server's client raises.
    """
    if name.startswith(HUB):
        return _of_hub(name, reading)
    if name.startswith(_S3):
        return _of_bucket(name)
    if "://" in name:
        parts = urlsplit(name)
        if parts.hostname != _GOOGLE:
            raise UsageError(f"--data reads {_KINDS}, not {name}; download the file first")
        return _of_spreadsheet(name, reading)
    return _of_file(_file(name, reading.root), reading.root)


def _of_file(name: str, root: Path) -> Named:
    file, sheet = split_sheet(name)
    path, folder = root / expanded(file), Path(file).parent
    settings = {"datasets_path": str(folder), "train_filename": Path(file).name + ("" if sheet is None else f"#{sheet}")}
    beside = next((one for one in VALIDATION if path.stem != one and path.with_name(one + path.suffix).is_file()), None)
    if beside is not None:
        settings["validation_filename"] = beside + path.suffix
    return Named(settings, folder.name if path.stem in TRAINING and folder.name else path.stem, name)


def _file(name: str, root: Path) -> str:
    """The file that is ``name``, or the only one of the folder."""
    path = root / expanded(split_sheet(name)[0])
    if path.is_file():
        return name
    if not path.is_dir():
        others = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        how = nearest(path.name, others) or "name the file of your data, such as data/pairs.csv"
        raise UsageError(f"no file {name}; {how}")
    files = sorted(one.name for one in path.iterdir() if one.suffix.lower() in SUFFIXES and one.name != PROMPT_FILENAME)
    telling = [one for one in files if Path(one).stem in TRAINING] or files
    if len(telling) != 1:
        there = f"it has {_some(files)}" if files else "it has no file of data"
        raise UsageError(f"{name} is a folder; name the file of your data ({there})")
    return str(Path(name, telling[0]))


def _of_bucket(name: str) -> Named:
    folder, _, file = name.removeprefix(_S3).rpartition("/")
    if not folder or not split_sheet(file)[0].lower().endswith(SUFFIXES):
        raise UsageError(f"{name} is no file of data; name it: s3://bucket/folder/pairs.csv")
    return Named({"datasets_path": f"{_S3}{folder}", "train_filename": file}, Path(split_sheet(file)[0]).stem, name)


def _of_hub(name: str, reading: Reading) -> Named:
    uri, _, split = name.partition("#")
    try:
        data = HubData.parse(uri)
    except ValueError:
        raise UsageError(f"{name} is not {EXPECTED}; the split of the training pairs may follow as #train") from None
    from .hub_files import open_data  # loads the hub's client where it is used

    splits = list(open_data(data, reading).layout.splits)
    if split and split not in splits:
        raise UsageError(f"{data} has no split {split}; it has {_some(splits)}")
    train = split or _training(splits)
    if train is None:
        raise UsageError(f"{data} has the splits {_some(splits)}; name that of the training pairs: --data '{uri}#{splits[0]}'")
    settings = {"datasets_path": uri, "train_filename": train}
    held_out = _held_out(train, splits)
    if held_out is not None:
        settings["validation_filename"] = held_out
    return Named(settings, data.name.rpartition("/")[2], f"{uri}, split {train}")


def _of_spreadsheet(address: str, reading: Reading) -> Named:
    parts = urlsplit(address)
    found = re.search(r"/d/([A-Za-z0-9_-]+)", parts.path)
    if found is None:
        raise UsageError(f"{address} is no address of a spreadsheet, which has /spreadsheets/d/ and an id")
    from .sheets.client import worksheets  # gspread and google-auth are slow to import

    titles = worksheets(found[1], reading.env, reading.say)
    wanted = next(iter(parse_qs(parts.query).get("gid") or parse_qs(parts.fragment).get("gid") or ()), None)
    names = list(titles.values())
    train = titles.get(wanted) if wanted is not None else names[0] if len(names) == 1 else _training(names)
    if train is None:
        what = f"the spreadsheet has no worksheet with gid={wanted}" if wanted else f"the spreadsheet has {_some(names)}"
        raise UsageError(f"{what}; copy the address while the worksheet of the training pairs is open: it ends with gid=…")
    settings = {"spreadsheet_id": found[1], "train_sheet": train}
    held_out = _held_out(train, names)
    if held_out is not None:
        settings["validation_sheet"] = held_out
    return Named(settings, train, f"worksheet {train!r}")


def _training(names: Collection[str]) -> str | None:
    """The one of ``names`` that says training; of several that of preferences (train_prefs beside train_sft)."""
    found = [name for name in names if name.lower() in TRAINING] or [name for name in names if "train" in name.lower()]
    found = found if len(found) == 1 else [name for name in found if re.search("pref|dpo", name.lower())]
    return found[0] if len(found) == 1 else None


def _held_out(train: str, names: Sequence[str]) -> str | None:
    """The one of ``names`` that is called as ``train``, with a word for validation: test_prefs beside train_prefs."""
    others = {name.lower(): name for name in names if name != train}
    wanted = (re.sub("training|train", word, train.lower()) for word in (*_HELD_OUT, "held out"))
    return next((others[name] for name in wanted if name in others), None)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")
