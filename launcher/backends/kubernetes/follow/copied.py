"""Copied: the folder of a run whose pods have only disks of their own, read from its copies in ``checkpoint_to``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from ....errors import LauncherError
from ..api.cluster import Cluster
from .archive import Archive, NoReader
from .run import ClusterRun

if TYPE_CHECKING:
    from ....storage import Mirrored

_TAIL: Final = 1 << 16  # bytes


class NoCopy(NoReader):
    """Neither a pod nor this machine can read the run's folder."""

    def __init__(self, run: ClusterRun, why: str):
        LauncherError.__init__(
            self,
            f"cannot read the folder of {run.name}: its pods have only local disks, and its copies in {run.copies} "
            f"cannot be read here: {why}",
        )


def archive_of(cluster: Cluster, run: ClusterRun) -> Archive:
    """What can be read of the run's folder: through the reader pod, or from its copies."""
    return Archive(cluster, run.namespace) if run.copies is None else Copied(cluster, run)


def with_copies(run: ClusterRun, obj: Mapping[str, Any]) -> ClusterRun:
    """``run`` with the place of its copies, as its Job or JobSet ``obj`` names it."""
    of = ClusterRun.of(obj)
    return replace(run, copies=of.copies, store=of.store, region=of.region)


class Copied(Archive):
    """The files of one run as they were at its newest checkpoint, or at its end. Raises NoCopy where they cannot be read."""

    def __init__(self, cluster: Cluster, run: ClusterRun):
        super().__init__(cluster, run.namespace)
        self._run = run

    def reader(self) -> str:
        return self._inside or ""

    def stream(self, command: Sequence[str]) -> Iterator[bytes]:
        raise NoCopy(self._run, "only its adapter, checkpoints, metrics and logs are there; download them with an S3 client")
        yield b""

    def output(self, command: Sequence[str]) -> bytes | None:
        """The files of the run's folder that the command names, one after the other."""
        below = f"{self._run.path}/"
        found = [self._read(one.removeprefix(below)) for one in command if one.startswith(below)]
        return b"".join(one for one in found if one is not None) or None

    def copied(self, aside: Path) -> Path | None:
        """Its logs, metrics and record, and its adapter, if it has one; no checkpoints. Raises NoCopy and StorageError."""
        from ....storage.checkpoints.mirrored import ADAPTER
        from ....storage.manifest import MANIFEST

        if self._inside is None:
            raise NoCopy(self._run, "no checkpoint was uploaded yet")
        try:
            if MANIFEST in self._place.names(ADAPTER):
                self._place.fetch_folder(ADAPTER, aside / ADAPTER)
            for name in (one for one in self._files if one != MANIFEST):
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                (aside / name).write_bytes(self._read(name) or b"")
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        return aside

    def log(self, run: ClusterRun, rank: int, begin: int = 0) -> bytes | None:
        found = self._read(f"logs/rank-{rank}.log")
        return None if found is None else found[begin:]

    def entry_log(self, run: ClusterRun, lines: int) -> str:
        said = (self._read("logs/entry.log") or b"").decode("utf-8", "replace").rstrip("\n")
        return "\n".join(said.splitlines()[-lines:])

    def steps(self, run: ClusterRun) -> list[str]:
        return (self._read("logs/dpo_train_steps.jsonl") or b"")[-_TAIL:].decode("utf-8", "replace").splitlines()

    def record(self, run: ClusterRun) -> dict[str, Any]:
        try:
            return self._place.record() or {}
        except LauncherError as error:
            raise NoCopy(self._run, str(error)) from error

    def file(self, run: ClusterRun, path: str) -> str | None:
        found = self._read(path)
        return None if found is None else found.decode("utf-8", "replace")

    def checkpoints(self, run: ClusterRun) -> list[str]:
        try:
            return [f"checkpoint-{step}" for step in self._place.steps()]
        except LauncherError as error:
            raise NoCopy(self._run, str(error)) from error

    def _names(self, folder: PurePosixPath) -> list[str]:
        below = folder.relative_to(self._run.path).as_posix()
        return [name.removeprefix(f"{below}/") for name in self._files if name.startswith(f"{below}/")]

    @property
    def _place(self) -> Mirrored:
        from ....experiment.files import read_env
        from ....storage import Mirrored

        run = self._run
        return Mirrored.at(str(run.copies), run.store, run.region, read_env(Path.cwd()))

    @cached_property
    def _inside(self) -> str | None:
        """Where the newest files are, below the run's place; None where there are none yet."""
        try:
            return self._place.newest_files()
        except LauncherError as error:
            raise NoCopy(self._run, str(error)) from error

    @cached_property
    def _files(self) -> list[str]:
        return [] if self._inside is None else self._place.names(self._inside)

    def _read(self, name: str) -> bytes | None:
        if self._inside is None:
            return None
        try:
            return self._place.read(f"{self._inside}/{name}")
        except LauncherError as error:
            raise NoCopy(self._run, str(error)) from error
