"""Which files of a dataset are which split: by the ``configs`` of its card, else by the names of its files. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...experiment.sections.data_file import JSON, SUFFIXES, TEXT

PACKED: Final = ".gz"
_DEFAULT: Final = "default"
_NOT_DATA: Final = re.compile(r"(?:^|/)(?:dataset_infos?|dataset_dict|state|config|metadata|\..*)\.jsonl?$")
_SHARD: Final = re.compile(r"(?:^|/)(?P<split>\w+(?:[.-]\w+)*?)-\d{5}-of-\d{5}(?:-\w+)?\.\w+$")
_CONVERTED: Final = re.compile(r"(?:^|/)(?:partial-)?(?P<split>[^/]+)/\d{4}\.parquet$")  # the hub's own conversion
_WORDS: Final = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


@dataclass(frozen=True)
class Layout:
    """``configs``: the names of all; ``config``: the one whose ``splits`` (name -> files, in their order) these are.

    ``config`` is None if there is none by that name, or none is the default; it has no splits then.
    """

    configs: tuple[str, ...]
    config: str | None
    splits: Mapping[str, tuple[str, ...]]


def layout_of(files: Iterable[str], card: Mapping[str, Any] | None, config: str | None) -> Layout:
    """The layout of a repository with ``files``; ``card``: the metadata of its README.md, ``config``: None for the default.

    The rules are those of the library ``datasets``: `configs` in the card first (huggingface.co/docs/hub/datasets-manual-
    configuration), then the names of files and folders (…/datasets-file-names-and-splits).
    """
    data = sorted(filter(is_data, files))
    described = [one for one in (card or {}).get("configs") or () if isinstance(one, Mapping) and _has_files(one)]
    if described:
        known = {str(one.get("config_name", _DEFAULT)): one for one in described}
        wanted = config or _default_of(known)
        return Layout(tuple(known), wanted if wanted in known else None, _described(known.get(wanted or ""), data))
    folders = _folders(data)
    if config is None and len(folders) > 1 and _DEFAULT not in folders:
        return Layout(tuple(folders), None, {})
    chosen = config or (next(iter(folders)) if len(folders) == 1 else _DEFAULT)
    is_all = chosen == _DEFAULT and not folders
    inside = [file for file in data if is_all or file.startswith(f"{chosen}/")]
    configs = tuple(folders) or tuple(dict.fromkeys(file.partition("/")[0] for file in data if "/" in file))
    return Layout(configs, chosen, by_names(inside)) if inside else Layout(configs, None, {})


def is_data(file: str) -> bool:
    """Whether ``file`` is a file of data by its name, and in a format that is read."""
    name = file.lower()
    is_read = name.endswith(SUFFIXES) or name.removesuffix(PACKED).endswith((*TEXT, *JSON))
    return is_read and _NOT_DATA.search(file) is None


def _has_files(config: Mapping[str, Any]) -> bool:
    return "data_files" in config or "data_dir" in config


def _default_of(configs: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The one that is marked as the default, is called so, or is the only one."""
    marked = [name for name, one in configs.items() if one.get("default") is True]
    names = [*marked, *([_DEFAULT] if _DEFAULT in configs else []), *(configs if len(configs) == 1 else ())]
    return next(iter(names), None)


def _folders(data: Sequence[str]) -> dict[str, None]:
    """The configs of the hub's own conversion to Parquet: the folders above its splits."""
    is_converted = bool(data) and all(file.count("/") == 2 and _CONVERTED.search(file) for file in data)
    return dict.fromkeys(file.partition("/")[0] for file in data) if is_converted else {}


def _described(config: Mapping[str, Any] | None, data: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    if config is None:
        return {}
    folder = str(config.get("data_dir") or "").strip("/")
    below = f"{folder}/" if folder not in ("", ".") else ""
    wanted = config.get("data_files")
    if wanted is None:
        return by_names([file for file in data if file.startswith(below)])
    found: dict[str, tuple[str, ...]] = {}
    for split, patterns in _patterns(wanted):
        matches = re.compile("|".join(_pattern(below + pattern.removeprefix("./")) for pattern in patterns))
        found[split] = (*found.get(split, ()), *(file for file in data if matches.fullmatch(file)))
    return {split: files for split, files in found.items() if files}


def _patterns(wanted: Any) -> Iterator[tuple[str, list[str]]]:
    """(split, patterns) of ``data_files``: a pattern, a list of them, split -> patterns, or a list of {split, path}."""
    if isinstance(wanted, Mapping):
        for split, paths in wanted.items():
            yield str(split), _listed(paths)
    elif isinstance(wanted, list) and all(isinstance(one, Mapping) for one in wanted):
        for one in wanted:
            yield str(one.get("split", "train")), _listed(one.get("path"))
    else:
        yield "train", _listed(wanted)


def _listed(paths: Any) -> list[str]:
    return [str(one) for one in (paths if isinstance(paths, list) else [paths]) if one is not None]


def _pattern(glob: str) -> str:
    from fsspec.utils import glob_translate  # comes with the hub's client

    return str(glob_translate(glob))


def by_names(files: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Splits by the names of ``files``: shards, the hub's conversion, words such as ``train`` and ``dev``; else all is train."""
    for pattern in (_SHARD, _CONVERTED):
        splits: dict[str, list[str]] = {}
        for file in files:
            if found := pattern.search(file):
                splits.setdefault(found["split"], []).append(file)
        if splits:
            return {split: tuple(some) for split, some in splits.items()}
    kind = Counter(_kind(file) for file in files).most_common(1)[0][0]  # a card's example beside the data is no data
    some = [file for file in files if _kind(file) == kind]
    for part in (2, 0):  # the names of files, then those of their folders
        named = {split: tuple(one for one in some if _has(one.rpartition("/")[part], words)) for split, words in _WORDS.items()}
        if any(named.values()):
            return {split: found for split, found in named.items() if found}
    return {"train": tuple(some)}


def _kind(file: str) -> str:
    return file.lower().removesuffix(PACKED).rpartition(".")[2]


def _has(text: str, words: Sequence[str]) -> bool:
    """Whether one of ``words`` is a separate word in ``text``, as in ``my-train_1.csv``."""
    return re.search(rf"(?:^|[-._ /\d])(?:{'|'.join(words)})(?:[-._ /\d]|$)", text, re.IGNORECASE) is not None
