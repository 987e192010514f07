"""A run is created on a cluster, from an experiment's name or as the repetition of another run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..rendered import Choice, cluster_job
from .submission import Listener, Silent, Submission
from .submitting import Submitting

if TYPE_CHECKING:
    from ...backends.kubernetes.render.placement import Local
    from ...data.pairs import Source
    from ...experiment.loaded import Loaded
    from ...job.image import Image
    from ...job.job import Job


def submit(
    choice: Choice,
    *,
    registry: str | None = None,
    data_of: str | None = None,
    anyway: bool = False,
    follows: bool = False,
    listener: Listener | None = None,
    notes: Mapping[str, Any] = MappingProxyType({}),
    copy: Path | None = None,
    local: Local | None = None,
) -> Submission:
    """Creates the run that ``choice`` means on the cluster of the current context.

    ``registry``: where an image of this machine is pushed to; ``data_of``: the run whose snapshot of the spreadsheet is reused;
    ``anyway``: findings of the preflight checks are warnings; ``follows``: the caller will read the run's log; ``notes``:
    for the run's record, see ``Job``; ``copy``: a folder with the cells of the spreadsheet; ``local``:
    the files of this machine, where they were read and hashed already.

    Raises ExperimentError and DataError before a cluster is asked, NotReady for what the preflight checks find, and HalfWay
    where the creation fails: then every object that was created is removed again.
    """
    from ...experiment.files import read_env

    caller = read_env(Path.cwd())
    job, loaded = cluster_job(choice.experiment, choice.overrides, choice.run_name, choice.file)
    job, is_named = replace(job, notes={**job.notes, **notes}), choice.run_name is not None
    one = Submitting(job, loaded, caller, registry, anyway, follows, is_named=is_named, told=listener or Silent(), copy=copy)
    one.local = local
    return one.submit(data_of)


def check_here(choice: Choice, data_of: str | None, copy: Path | None) -> Local:
    """The files of this machine that the run needs; raises what ``submit`` raises before a cluster is asked."""
    from ...experiment.files import read_env

    job, loaded = cluster_job(choice.experiment, choice.overrides, choice.run_name, choice.file)
    one = Submitting(job, loaded, read_env(Path.cwd()), None, False, False, is_named=True, told=Silent(), copy=copy)
    return one.check_here(data_of)[0]


def submit_job(
    job: Job,
    loaded: Loaded,
    *,
    image: Image | None,
    check_data: Callable[[Sequence[Source]], None],
    data_of: str | None,
    anyway: bool,
    follows: bool,
    listener: Listener,
) -> Submission:
    """Creates the run ``job`` as ``submit`` does, in ``image`` if that is given.

    ``check_data`` is called with what was read on this machine, before a cluster is asked.
    """
    from ...experiment.files import read_env

    caller = read_env(Path.cwd())
    one = Submitting(job, loaded, caller, None, anyway, follows, is_named=True, told=listener, image=image, check=check_data)
    return one.submit(data_of)
