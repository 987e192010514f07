"""The paths of an experiment in a container: the layout of this machine below three roots. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ...errors import ExperimentError, Mistake
from ...experiment.schema import Experiment
from ...experiment.sections.hub_data import is_remote
from ..session import Work
from ..spec.container import HOME

# A mount there would hide the image's own files, or the kernel's.
_TAKEN: Final = (
    "/bin", "/boot", "/dev", "/dpo", "/etc", "/lib", "/lib32", "/lib64",
    "/opt", "/proc", "/run", "/sbin", "/sys", "/usr",
)  # fmt: skip


@dataclass(frozen=True)
class Mount:
    """A folder or file of this machine and its path in the container."""

    source: Path
    target: str
    read_only: bool


@dataclass(frozen=True)
class Layout:
    """The three roots in a container and what is mounted.

    ``output``: the folder of runs below the first root; for a process that works with trained weights the folder of these.
    """

    runs: str
    data: str
    cache: str
    output: str
    mounts: tuple[Mount, ...]


@dataclass(frozen=True)
class _Place:
    """A path of the experiment: its setting, its root, and whether the run only reads it."""

    setting: str
    path: str
    root: str
    read_only: bool


def layout(experiment: Experiment, cwd: Path, home: Path, cache: Path, is_folder: Callable[[Path], bool]) -> Layout:
    """The roots and mounts of a run that is started in ``cwd`` by a user with the home directory ``home``.

    A relative path keeps its place below a root, which is as deep as the path climbs out of ``cwd``; an absolute path is
    unchanged; ``~`` is the container's home. Raises ExperimentError for a path that would hide files of the image.
    """
    h, places = experiment.hyperparameters, list(_read(experiment, cwd, home, is_folder))
    if experiment.datasets_path is not None and not is_remote(experiment.datasets_path):
        places.append(_Place("datasets_path", experiment.datasets_path, "data", read_only=True))
    output = _Place("model_output_dir", h.model_output_dir, "runs", read_only=False)
    places.append(output)
    if experiment.save_processed_dataset:
        places.append(_Place("output_processed_dir", experiment.output_processed_dir, "runs", read_only=False))
    if isinstance(h.resume_from_checkpoint, str):
        places.append(_Place("resume_from_checkpoint", h.resume_from_checkpoint, "runs", read_only=True))
    return _laid(places, output, cwd, home, cache)


def work_layout(
    experiment: Experiment, work: Work, cwd: Path, home: Path, cache: Path, is_folder: Callable[[Path], bool]
) -> Layout:
    """The same for a process that works with trained weights, whose folder is mounted apart from the paths of the experiment."""
    places = list(_read(experiment, cwd, home, is_folder)) if work.has_base else []
    places += [_Place(path, path, "data", read_only=True) for path in work.reads]
    places += [_Place(path, path, "data", read_only=False) for path in work.writes]
    target = f"/dpo/target/{work.target.name}"
    found = _laid(places, None, cwd, home, cache)
    return replace(found, output=target, mounts=(*found.mounts, Mount(work.target, target, read_only=True)))


def _read(experiment: Experiment, cwd: Path, home: Path, is_folder: Callable[[Path], bool]) -> Iterator[_Place]:
    """The model, the adapter that the training started from, and what else whoever loads them reads."""
    cache_dir = experiment.hyperparameters.model_cache_dir
    if not experiment.model_name.startswith("s3://") and is_folder(_source(experiment.model_name, cwd, home)):
        yield _Place("model_name", experiment.model_name, "data", read_only=True)
    adapter = experiment.adapter
    if adapter is not None and not adapter.startswith("s3://") and is_folder(_source(adapter, cwd, home)):
        yield _Place("adapter", adapter, "data", read_only=True)
    if cache_dir is not None:
        yield _Place("model_cache_dir", cache_dir, "data", read_only=False)


def _laid(places: list[_Place], output: _Place | None, cwd: Path, home: Path, cache: Path) -> Layout:
    roots = {root: _root(root, cwd, [p.path for p in places if p.root == root]) for root in ("runs", "data")}
    found: dict[str, Mount] = {}
    for place in places:
        target = _target(place, roots[place.root])
        before = found.get(target)
        read_only = place.read_only and (before is None or before.read_only)
        found[target] = Mount(_source(place.path, cwd, home), target, read_only)
    mounts = sorted([*found.values(), Mount(cache, "/dpo/cache", read_only=False)], key=lambda mount: mount.target)
    return Layout(
        roots["runs"], roots["data"], "/dpo/cache", "" if output is None else _target(output, roots["runs"]), tuple(mounts)
    )


def _root(name: str, cwd: Path, paths: list[str]) -> str:
    climbs = [posixpath.normpath(path).split("/").count("..") for path in paths if not path.startswith(("/", "~"))]
    kept = cwd.parts[1:][-climb:] if (climb := max(climbs, default=0)) else ()
    return "/".join((f"/dpo/{name}", *kept))


def _source(path: str, cwd: Path, home: Path) -> Path:
    if path == "~" or path.startswith("~/"):
        return home / path[2:]
    return Path(posixpath.normpath(cwd / path))


def _target(place: _Place, root: str) -> str:
    if place.path.startswith("~"):
        if place.path != "~" and not place.path.startswith("~/"):
            raise _refused(place, "is another user's home directory, which a container does not have", "an absolute path")
        return posixpath.normpath(f"{HOME}/{place.path[2:]}")
    if not place.path.startswith("/"):
        target = posixpath.normpath(posixpath.join(root, place.path))
        if target.startswith("/dpo/"):
            return target
        raise _refused(place, "leaves the file system's root", "a path of this machine")
    target = posixpath.normpath(place.path)
    if target == "/" or any(target == taken or target.startswith(f"{taken}/") for taken in _TAKEN):
        raise _refused(place, "would hide files of the image", "a folder elsewhere, or --backend host")
    return target


def _refused(place: _Place, what: str, expected: str) -> ExperimentError:
    return ExperimentError(Mistake(place.setting, f"{what} in a container" if "hide" in what else what, expected, place.path))
