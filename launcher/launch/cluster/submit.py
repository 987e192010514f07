"""Creates a run on a cluster, from an experiment's name or to repeat another run."""

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
    """Creates the run ``choice`` on the cluster of the current context.

    ``registry``: where to push this machine's image. ``data_of``: the run whose spreadsheet snapshot is reused. ``anyway``:
    preflight findings are only warnings. ``follows``: the caller will read the run's log. ``notes``: for the run's record, see
    ``Job``. ``copy``: a folder with the spreadsheet's cells. ``local``: this machine's files, if they are already read and
    hashed.

    Raises ExperimentError and DataError before contacting the cluster, NotReady for preflight findings, and HalfWay if creating
    an object fails; then all created objects are removed.
    """
    from ...experiment.files import read_env

    caller = read_env(Path.cwd())
    job, loaded = cluster_job(choice.experiment, choice.overrides, choice.run_name, choice.file)
    job, is_named = replace(job, notes={**job.notes, **notes}), choice.run_name is not None
    one = Submitting(job, loaded, caller, registry, anyway, follows, is_named=is_named, told=listener or Silent(), copy=copy)
    one.local = local
    return one.submit(data_of)


def check_here(choice: Choice, data_of: str | None, copy: Path | None) -> Local:
    """This machine's files that the run needs. Raises what ``submit`` raises before contacting the cluster."""
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
    """Creates the run ``job`` like ``submit``, with ``image`` if given.

    ``check_data`` is called with the data's sources before the cluster is contacted.
    """
    from ...experiment.files import read_env

    caller = read_env(Path.cwd())
    one = Submitting(job, loaded, caller, None, anyway, follows, is_named=True, told=listener, image=image, check=check_data)
    return one.submit(data_of)
