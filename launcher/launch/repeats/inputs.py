"""The inputs of a recorded run that are available now: files by their hashes, the image by its id, code and packages."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...digest import sha256_of
from ...errors import CredentialError, ExperimentError, UnreachableError
from ...experiment.sections.data_file import file_of, split_sheet
from ...experiment.sections.hub_data import HUB, REMOTE, HubData, recorded_commit
from ...runs.made_of import Change, code_changes, data_changes, files_of, package_changes

if TYPE_CHECKING:
    from ...backends.choose import AnyBackend
    from ...backends.kubernetes.follow.archive import Archive
    from ...backends.kubernetes.follow.run import ClusterRun
    from ...data.pairs import Source
    from ...experiment.schema import Experiment
    from ...job.resume import Recorded
    from ...runs.run_dir import RunDir

# Path below the run's folder -> (address of that folder, SHA-256 of its files by name).
Kept = Callable[[Path], tuple[str, Mapping[str, str]]]
_FILES: Final = {"train": "train_filename", "validation": "validation_filename", "prompts": "prompt_filename"}
_PYTHON: Final = "python"


def gpus_as_recorded(recorded: Recorded, there: int) -> int:
    """The number of GPUs for ``gpus: auto``: as in the recorded run, if this machine has that many."""
    had = recorded.record.get("hardware") or {}
    if recorded.experiment.launch.gpus != "auto" or "gpus" not in had:
        return there
    return min(there, int(had.get("ranks", 1)) // recorded.experiment.launch.nodes if had["gpus"] else 0)


def changes_of_machine(record: Mapping[str, Any], where: AnyBackend) -> Iterator[Change]:
    """What differs in this machine's code and packages. A container brings its own."""
    from ...backends.host import Host, gpus_there
    from ...backends.spec.record import code_revision
    from ...experiment.files import read_env

    if isinstance(where, Host):
        root = str(Path(__file__).parents[3])
        yield from code_changes(record.get("code") or {}, code_revision(), root)
        recorded = record.get("packages") or {}
        yield from package_changes(recorded, {name: _version(name) for name in recorded})
    had, there = record.get("hardware") or {}, gpus_there(read_env(Path.cwd()))
    nodes = int(((record.get("experiment") or {}).get("launch") or {}).get("nodes") or 1)
    if had.get("gpus") and (wanted := int(had.get("ranks", 1)) // nodes) > there:
        yield Change("GPUs", str(wanted), str(there), "repeat it on a machine with as many GPUs")


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    if package == _PYTHON:
        return platform.python_version()
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def image_of_run(record: Mapping[str, Any], where: AnyBackend) -> tuple[str | None, list[Change]]:
    """The id of the run's image if the engine has it, else its reference by digest; None for a run without a container."""
    from ...backends.host import Host

    if isinstance(where, Host):
        return None, []
    reference, identity = str(record.get("image")), (record.get("container") or {}).get("image")
    if identity is not None and where.has(identity):
        return str(identity), []
    if "@sha256:" in reference:
        return reference, []
    revision = str((record.get("code") or {}).get("revision") or "unknown")[:12]
    called = where.has(reference)
    found = "not on this engine" if called is None else f"{called[:19]} under this name"
    hint = f"build it from revision {revision}, or load it: docker load"
    return None, [Change("image", f"{reference} ({str(identity)[:19]})", found, hint)]


def inputs_of_run(recorded: Recorded, root: Path, kept: Kept) -> tuple[Experiment, list[str], list[Change]]:
    """(the experiment with files of the recorded hashes and the checkpoint that the run began from, notices about renamed files
    and copies, what is missing). ``kept``: returns the run's copies of files that were changed or removed.
    """
    e, notices, changes = recorded.experiment, list[str](), list[Change]()
    data = recorded.record.get("data") or []
    if (e.datasets_path or "").startswith(HUB):
        e, notices = _of_hub(e, data, kept)
    elif e.datasets_path is not None and not e.datasets_path.startswith((*REMOTE, "/dpo/")):
        e, notices, changes = _same_files(e, data, root)
        if changes and (copied := _copies(e, data, kept)) is not None:
            e, changes = copied, []
            notices = [
                f"{recorded.run}'s copies of its data files are used: those in {recorded.experiment.datasets_path} changed"
            ]
    e, copied_adapter, changed = _same_adapter(e, recorded.record.get("adapter") or {}, root, kept)
    notices, changes = [*notices, *copied_adapter], [*changes, *changed]
    h = e.hyperparameters
    if h.resume_from_checkpoint is not False and "resumed_from" in recorded.record:
        began = recorded.record["resumed_from"] or False
        e = e.model_copy(update={"hyperparameters": h.model_copy(update={"resume_from_checkpoint": began})})
    elif h.resume_from_checkpoint is True:
        changes.append(Change("checkpoint", "the newest one of that time", "no name in the record", "set resume_from_checkpoint"))
    return e, notices, changes


def _same_adapter(
    experiment: Experiment, recorded: Mapping[str, Any], root: Path, kept: Kept
) -> tuple[Experiment, list[str], list[Change]]:
    """``experiment`` with the run's copy of the adapter that it started from, if the adapter's files have changed.

    An adapter on a hub is pinned by the record's commit; one in a bucket is compared by the run.
    """
    from ...experiment.sections.hub_data import is_remote
    from ...runs.run_dir import RunDir, expanded

    name, wanted = experiment.adapter, recorded.get("sha256")
    if name is None or not wanted or is_remote(name) or recorded.get("revision") is not None:
        return experiment, [], []
    found = {file: _sha256(root / expanded(name) / file) for file in wanted}
    if found == wanted:
        return experiment, [], []
    folder, hashes = kept(RunDir(Path()).start)
    if all(hashes.get(file) == digest for file, digest in wanted.items()):
        said = f"the run's copy of adapter {name} is used: that folder changed"
        return experiment.model_copy(update={"adapter": folder}), [said], []
    if name.startswith("/dpo/") or "data" in experiment.launch.kubernetes.volumes:
        return experiment, [], []  # on a claim; the run compares it
    there = ", ".join(f"{file} {digest[:12]}" if digest else f"{file} not found" for file, digest in found.items())
    then = ", ".join(f"{file} {digest[:12]}" for file, digest in wanted.items())
    return experiment, [], [Change("adapter", then, there, f"restore the files of {name}")]


def _of_hub(experiment: Experiment, sources: Sequence[Mapping[str, Any]], kept: Kept) -> tuple[Experiment, list[str]]:
    """``experiment`` with the dataset commit that the run read, or with the run's copies and a notice if the commit is gone."""
    from ...data.tables.hub_files import open_data
    from ...data.tables.reading import Reading
    from ...experiment.files import read_env

    commit = recorded_commit(sources)
    if commit is None:  # it ended before it read them
        return experiment, []
    pinned = HubData.parse(str(experiment.datasets_path)).at(commit)
    try:
        open_data(pinned, Reading(env=read_env(Path.cwd())))
    except (ExperimentError, CredentialError, UnreachableError) as error:
        copied = _copies(experiment, sources, kept)
        if copied is None:
            raise
        return copied, [f"{str(error).splitlines()[0]}; the run's copies of its data files are used"]
    return experiment.model_copy(update={"datasets_path": str(pinned)}), []


def _same_files(
    experiment: Experiment, sources: Sequence[Mapping[str, Any]], root: Path
) -> tuple[Experiment, list[str], list[Change]]:
    """``experiment`` with files of the recorded hash in place of those that were changed or removed."""
    from ...runs.run_dir import expanded

    folder = root / expanded(str(experiment.datasets_path))
    updates, notices, changes = dict[str, Any](), list[str](), list[Change]()
    for source in files_of(sources):
        role, wanted = str(source["role"]), str(source["sha256"])
        name = getattr(experiment, _FILES[role]) or Path(str(source["name"])).name
        found = _sha256(folder / file_of(name))
        if found == wanted:
            continue
        other = next((path.name for path in sorted(folder.glob("*")) if _sha256(path) == wanted), None)
        if other is not None:
            sheet = split_sheet(name)[1]
            updates[_FILES[role]] = other if sheet is None else f"{other}#{sheet}"
            notices.append(f"{role} data: {other} has the recorded SHA-256, {name} has another")
            continue
        there = "file not found" if found is None else f"SHA-256 {found[:12]}"
        hint = f"restore the file with this SHA-256: {wanted}"
        changes.append(Change(f"{role} data", f"{source['name']}, {source['rows']} rows, SHA-256 {wanted[:12]}", there, hint))
    return experiment.model_copy(update=updates), notices, changes


def _copies(experiment: Experiment, sources: Sequence[Mapping[str, Any]], kept: Kept) -> Experiment | None:
    """``experiment`` with the run's copies of its data files; None if one is missing or differs."""
    from ...runs.run_dir import RunDir

    folder, hashes = kept(RunDir(Path()).source)
    sources = files_of(sources)
    names = {str(source["role"]): Path(str(source["name"])).name for source in sources}
    if any(hashes.get(file_of(names[str(source["role"])])) != source["sha256"] for source in sources):
        return None
    return experiment.model_copy(update={"datasets_path": folder, **{_FILES[role]: name for role, name in names.items()}})


def kept_here(run: RunDir, root: Path, inside: Path) -> tuple[str, Mapping[str, str]]:
    """See ``Kept``. Returns a path relative to ``root`` if it is inside."""
    folder = (run.path / inside).resolve()
    place = str(folder.relative_to(root.resolve()) if folder.is_relative_to(root.resolve()) else folder)
    return place, {file.name: found for file in folder.glob("*") if (found := _sha256(file)) is not None}


def kept_there(archive: Archive, run: ClusterRun, inside: Path) -> tuple[str, Mapping[str, str]]:
    """The folder on the claim, as pods see it, and its hashes."""
    folder = run.path / inside
    said = archive.output(["sh", "-c", f"cd {shlex.quote(str(folder))} && sha256sum ./*"]) or b""
    lines = [line.partition("  ./") for line in said.decode("utf-8", "replace").splitlines()]
    return str(folder), {name: digest for digest, _, name in lines}


def _sha256(file: Path) -> str | None:
    """None if the file cannot be read."""
    try:
        return sha256_of(file)
    except OSError:
        return None


def changes_of_data(recorded: Recorded, sources: Sequence[Source]) -> Iterator[Change]:
    if sources:
        yield from data_changes(recorded.record.get("data") or [], [asdict(source) for source in sources])
