"""The files on this machine that a run on a cluster needs, and the hashes of their contents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ....data.tables.rows import PROMPT_FILENAME
from ....errors import LauncherError
from ....experiment.schema import Experiment
from ....experiment.sections.data_file import file_of
from ....experiment.sections.hub_data import REMOTE
from ....runs.run_dir import expanded
from ...spec.trust import read_bundle
from .placement import SMALL, Folder, Local


def look(experiment: Experiment, cwd: Path) -> Local:
    """Reads the CSV files, a local model and a local adapter once, to hash them; raises LauncherError if they cannot be read."""
    try:
        data = _data(experiment, cwd)
        is_small = data is not None and data.size <= SMALL
        contents = {name: (data.path / name).read_bytes() for name in data.files} if data is not None and is_small else {}
        model, adapter = _whole(experiment.model_name, cwd), _whole(experiment.adapter, cwd)
        return Local(data, contents, model, adapter, read_bundle(experiment, cwd))
    except OSError as error:
        raise LauncherError(f"cannot read {error.filename}: {(error.strerror or str(error)).lower()}") from error


def _data(experiment: Experiment, cwd: Path) -> Folder | None:
    path = experiment.datasets_path
    if path is None or path.startswith((*REMOTE, "/dpo/")):
        return None
    folder = cwd / expanded(path)
    if not folder.is_dir():
        return None
    names = (experiment.train_filename, experiment.validation_filename, experiment.prompt_filename or PROMPT_FILENAME)
    files = [file_of(name) for name in names if name is not None]
    return _folder(folder, [file for file in files if (folder / file).is_file()])


def _whole(name: str | None, cwd: Path) -> Folder | None:
    """The folder ``name`` with all its files, if it is on this machine."""
    if name is None or name.startswith(("s3://", "/dpo/")):
        return None
    folder = cwd / expanded(name)
    if not folder.is_dir():
        return None
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return _folder(folder, [path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)])


def _folder(path: Path, names: Iterable[str]) -> Folder:
    files: dict[str, int] = {}
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        with (path / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
            files[name] = file.seek(0, 2)
        digest.update(f"{content} {name}\n".encode())
    return Folder(path.resolve(), files, digest.hexdigest())
