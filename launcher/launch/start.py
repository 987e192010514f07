"""Prepares a run on this machine. Problems with model, data or name are found before anything is created."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import LauncherError, UsageError
from .data import copy_of, reading_for, with_copy

if TYPE_CHECKING:
    from ..backends.choose import AnyBackend
    from ..data.pairs import Pairs, Source
    from ..job.job import Job
    from ..runs.run_dir import RunDir
    from .rendered import Rendered


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start. ``facts``: label -> fact, in display order.

    ``sources``: the files or worksheets that were read.
    """

    where: AnyBackend
    job: Job
    spec: Any
    facts: Mapping[str, str]
    notices: tuple[str, ...]
    sources: tuple[Source, ...] = ()

    def start(self, complain: Callable[[str], None]) -> RunDir:
        """Starts the run. ``complain``: receives a warning if the run cannot be found by name later. Raises what the backend's
        ``submit`` raises.
        """
        from ..runs.finding import remember

        notice = remember(self.where.cwd, self.spec.run_dir)
        if notice is not None:
            complain(f"warning: {notice}")
        return self.where.submit(self.spec)

    def json(self) -> dict[str, Any]:
        return {
            "run": self.job.run,
            "backend": self.where.name,
            "facts": dict(self.facts),
            "notices": list(self.notices),
        }


def prepare(found: Rendered, data_of: str | None, say: Callable[[str], None]) -> Prepared:
    """Reads the data of ``found``, or the snapshot of the run ``data_of``. ``say``: receives progress lines.

    Raises ExperimentError for the model and the output folders, LauncherError for the cache, DataError for the data, UsageError
    for a name that is taken.
    """
    check_start(found)
    return prepared(found, read_for(found, data_of, say))


def check_start(found: Rendered) -> None:
    """Raises what ``prepare`` raises before it reads the data."""
    from ..backends.spec.trust import read_bundle
    from ..experiment.files import read_env
    from ..job.job import check_outputs
    from ..job.model import check_model
    from ..job.starting import check_starting

    assert found.where is not None, "a run on a cluster is submitted"
    where, job, caller = found.where, found.job, read_env(Path.cwd())
    _check_name(job)
    with found.loaded.placed():
        check_model(job.experiment, where.cwd, caller)
        check_starting(job.experiment, where.cwd, caller)
        read_bundle(job.experiment, where.cwd)
        check_outputs(job.experiment, where.cwd)
        _check_cache(caller)


def read_for(found: Rendered, data_of: str | None, say: Callable[[str], None]) -> Pairs:
    """The pairs of ``found``, or of the snapshot of the run ``data_of``. Raises DataError and ExperimentError."""
    from ..data.pairs import read_pairs
    from ..experiment.files import read_env

    assert found.where is not None, "a run on a cluster is submitted"
    spec: Any = found.spec
    job, cwd = found.job, found.where.cwd
    with found.loaded.placed(), copy_of(job.experiment, data_of) as copy:
        return read_pairs(job.experiment, reading_for(job, spec.run_dir, cwd, read_env(Path.cwd()), copy, say))


def prepared(found: Rendered, pairs: Pairs) -> Prepared:
    """The run ``found`` with ``pairs`` that are already read."""
    from ..experiment.files import read_env
    from ..planning.derived import derived
    from ..planning.planned import said_before_run

    assert found.where is not None, "a run on a cluster is submitted"
    spec: Any = found.spec
    where, job = found.where, found.job
    with found.loaded.placed():
        chosen = {"backend": f"host ({found.why_host})"} if found.why_host is not None else {}
        known = derived(job, pairs, spec.run_dir).facts | said_before_run(job.experiment, pairs, Path(), read_env(Path.cwd()))
    notices = (*found.loaded.notices, *pairs.notices, *where.notices(job))
    return Prepared(where, job, with_copy(spec, pairs.spreadsheet), MappingProxyType(chosen | known), notices, pairs.sources)


def _check_cache(caller: Mapping[str, str]) -> None:
    from ..runs.cache import cache_root
    from ..runs.writable import unwritable

    cache = cache_root(caller)
    if (why := unwritable(cache)) is not None:
        raise LauncherError(f"cannot write the cache {cache}: {why}\n    hint:     set DPO_CACHE_ROOT to another folder")


def _check_name(job: Job) -> None:
    from ..backends.status.finding import local_runs

    # The other nodes join a run that the first node created.
    if job.node.rank == 0 and any(known.name == job.run for known in local_runs()):
        raise UsageError(f"--name {job.run}: a run with this name exists")
