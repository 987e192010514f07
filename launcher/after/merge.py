"""``launcher merge``: writes adapter and base model as one model, to a new folder or a bucket."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import UsageError, Warned
from ..experiment.schema import StorageConfig
from ..job.target import Target
from ..planning.weights import uses
from ..runs.cache import cache_root
from ..runs.whole import sync_tree, write_whole
from ..storage import Place, Uploaded, upload_folder
from .tool import Say, Tool, held, tell, tool

if TYPE_CHECKING:
    from ..storage.progress import Listener

_SIZES: Final = {"float32": 4}  # bytes per weight, unless it has 16 bits


@dataclass(frozen=True)
class How:
    """``dtype``: bfloat16, float16, float32, or None for the base's. ``compare``: compare the result with base plus adapter."""

    dtype: str | None = None
    compare: bool = True
    backend: str | None = None


@dataclass(frozen=True)
class Merged:
    """``place``: the folder or s3://… with the model. ``said``: the result of the comparison, None without one."""

    name: str
    place: str
    base: str
    dtype: str
    tensors: int
    changed: int
    bytes: int
    agreement: Mapping[str, Any] | None
    said: str | None
    warnings: tuple[str, ...]
    notices: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        lists = {"warnings": list(self.warnings), "notices": list(self.notices)}
        return {name: value for name, value in vars(self).items() if name != "said"} | lists


def merge(target: Target, output: str, how: How, say: Say, listener: Listener) -> Merged:
    """Merges the adapter of ``target`` into ``output``: a new or empty folder, or s3://….

    The folder appears only when the model is complete and compared. Raises UsageError for whole weights and for a folder with
    files, LauncherError if the adapter cannot be merged or the result differs from base plus adapter, and the errors of
    ``upload_folder``.
    """
    if target.adapter is None:
        raise UsageError(f"{target.name} has whole weights: nothing to merge. Use its folder: {target.weights}")
    if output.startswith("s3://"):
        return _into_bucket(target, Place.parse(output), how, say, listener)
    folder = Path(output).expanduser().absolute()
    _check_new(folder)
    return _into_folder(target, folder, how, say)


def _into_folder(target: Target, folder: Path, how: How, say: Say) -> Merged:
    place = tool(target, how.backend, "merge", say)
    weights = held(place)
    if weights is not None:
        planned = uses.merge(weights, _SIZES.get(how.dtype or ""), compare=how.compare)
        planned.check()
        tell(planned, say)
    with whole(folder) as aside:
        answer = _asked(place, aside, how)
    warnings, notices = (tuple(answer.pop(kind)) for kind in ("warnings", "notices"))
    return Merged(target.name, str(folder), warnings=warnings, notices=notices, **answer)


def _asked(place: Tool, aside: Path, how: How) -> dict[str, Any]:
    asked = json.dumps({"dtype": how.dtype, "compare": how.compare})
    what = f"{place.target.name} is not merged"
    answer: dict[str, Any] = place.ask("merge", [str(aside), asked], writes=[str(aside)], what=what)
    return answer


def _into_bucket(target: Target, place: Place, how: How, say: Say, listener: Listener) -> Merged:
    """Merges into a cache folder, uploads it and removes it. After a failed upload the model stays for the next try."""
    own = target.settings.storage_config
    server = {"endpoint_url": own.endpoint_url, "region": own.region} if own is not None else {}
    storage = StorageConfig(bucket_name=place.bucket, object_prefix=place.prefix, **server)
    env = tool(target, how.backend, "merge", say).caller
    folder = cache_root(env) / "merged" / _key(target, place.uri, how)
    note = folder.with_suffix(".json")
    if folder.is_dir() and note.is_file():
        say(f"{folder} is complete: uploading it")
        found = Merged(**json.loads(note.read_text(encoding="utf-8")))
    else:
        shutil.rmtree(folder, ignore_errors=True)
        found = _into_folder(target, folder.absolute(), how, say)
        write_whole(note, json.dumps(vars(found)))
    sent: Uploaded = upload_folder(folder, storage=storage, prefix_parts=(), env=env, listener=listener)
    note.unlink()  # first: an interrupted removal then leaves no folder that looks complete
    shutil.rmtree(folder)
    warnings = [one for one in sent.notices if isinstance(one, Warned)]
    notices = [one for one in sent.notices if not isinstance(one, Warned)]
    said = {"warnings": (*found.warnings, *warnings), "notices": (*found.notices, *notices)}
    return Merged(**{**vars(found), "place": sent.uri, **said})


def _key(target: Target, uri: str, how: How) -> str:
    """Cache key: the same weights and the same destination give the same key."""
    digest = hashlib.sha256(json.dumps([uri, how.dtype, str(target.weights)]).encode())
    assert target.adapter is not None, "whole weights are not merged"
    for file in sorted(target.adapter.glob("adapter_*")):
        digest.update(f"{file.name} {file.stat().st_mtime_ns} {file.stat().st_size}".encode())
    return digest.hexdigest()[:16]


def _check_new(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"folder {folder} is not empty; name a new one with -o DIR")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a new folder with -o DIR")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder``: renamed to ``folder`` and synced to disk if the block succeeds, else removed.

    Removes the temporary folder of a killed process. Raises UsageError if another process is writing the same folder.
    """
    aside = folder.with_name(f".{folder.name}.unfinished")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}") from error
    handle = os.open(aside, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{folder} is being written by another process") from None
        try:
            _empty(aside)
            yield aside
            sync_tree(aside)
            _check_new(folder)
            aside.rename(folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    finally:
        os.close(handle)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
