"""Data that the launcher reads for a run: a spreadsheet's cells are copied to the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..backends.kubernetes.backend import Kubernetes
    from ..backends.kubernetes.follow.run import ClusterRun
    from ..backends.kubernetes.render.spec import KubernetesSpec
    from ..data.tables.reading import Reading
    from ..data.tables.sheets.spreadsheet import Spreadsheet
    from ..experiment.schema import Experiment
    from ..job.job import Job
    from ..runs.run_dir import RunDir


def reading_for(
    job: Job, run: RunDir, root: Path, caller: Mapping[str, str], copy: Path | None, say: Callable[[str], None]
) -> Reading:
    """How to read the data of the new run ``run``: from ``copy`` if given.

    Nodes after the first wait for the first node's copy, so that a spreadsheet is read once.
    """
    if copy is None and job.node.rank and job.experiment.spreadsheet_id is not None:
        run.wait_for_first_node()
        copy = run.spreadsheet
    from ..data.tables.reading import Reading

    return Reading(root, caller, copy=copy, say=say)


@contextmanager
def copy_of(experiment: Experiment, earlier: str | None) -> Iterator[Path | None]:
    """A folder with the spreadsheet cells that the run ``earlier`` read, here or on the cluster; None without ``earlier``.

    Raises UsageError if that run has no copy.
    """
    import tempfile

    from ..backends.status.finding import find, on_cluster
    from ..data.tables.sheets.spreadsheet import has_copy

    if earlier is None:
        yield None
        return
    if experiment.spreadsheet_id is None:
        raise UsageError(
            "--data-of: the experiment reads no spreadsheet; the hashes of the files that a run read are in its run.json"
        )
    where, run = find(earlier)
    there = on_cluster(where, run)
    with tempfile.TemporaryDirectory() as folder:
        copy = run.spreadsheet if there is None else _brought(*there, Path(folder) / "read")
        if not has_copy(copy):
            raise _no_copy(run.name, str(copy))
        yield copy


def _brought(where: Kubernetes, run: ClusterRun, to: Path) -> Path:
    """The copy of a run on the cluster, fetched from its claim."""
    from ..backends.kubernetes.follow.bring import NotThere, bring
    from ..runs.run_dir import RunDir

    folder = run.path / RunDir(Path()).spreadsheet
    try:
        bring(where.archive(run), folder, to, lambda done, of: None)
    except NotThere:
        raise _no_copy(run.name, str(folder)) from None
    return to


def _no_copy(run: str, expected: str) -> UsageError:
    return UsageError(f"--data-of: {run} has no snapshot of a spreadsheet (expected in {expected})")


def read_spreadsheet_once(job: Job, root: Path, say: Callable[[str], None]) -> Spreadsheet | None:
    """The spreadsheet's cells for several runs of ``job``; None if the experiment reads no spreadsheet."""
    from ..data.tables.reading import Reading
    from ..data.tables.rows import read_tables
    from ..experiment.files import read_env

    if job.experiment.spreadsheet_id is None:
        return None
    return read_tables(job.experiment, Reading(root, read_env(Path.cwd()), say=say)).spreadsheet


def with_copy(spec: Any, spreadsheet: Spreadsheet | None) -> Any:
    """``spec`` with the copy in the run's folder.

    For pods it is part of the ConfigMap if it fits; otherwise the first rank reads the spreadsheet again.
    """
    if spreadsheet is None:
        return spec
    from ..backends.kubernetes.render.spec import KubernetesSpec

    if isinstance(spec, KubernetesSpec):
        return replace(spec, objects=tuple(_with_bundle(spec.job, obj, spreadsheet) for obj in spec.objects))
    copy = {spec.run_dir.spreadsheet / name: text for name, text in spreadsheet.files.items()}
    record = {**spec.record, "spreadsheet": spreadsheet.record}
    return replace(spec, files=MappingProxyType({**spec.files, **copy}), record=MappingProxyType(record))


def _with_bundle(job: str, obj: Mapping[str, Any], spreadsheet: Spreadsheet) -> Mapping[str, Any]:
    from ..backends.kubernetes.render.placement import SMALL
    from ..data.tables.sheets.spreadsheet import BUNDLE, bundle

    if obj["kind"] != "ConfigMap" or obj["metadata"]["name"] != job:
        return obj
    data = {**obj["data"], BUNDLE: bundle(spreadsheet)}
    fits = sum(len(text.encode()) for text in data.values()) <= SMALL
    return {**obj, "data": data} if fits else obj


def check_travels(spec: KubernetesSpec, spreadsheet: Spreadsheet | None) -> None:
    """Raises UsageError if an earlier run's copy does not fit into the ConfigMap: the pods would read the current spreadsheet."""
    from ..backends.kubernetes.render.placement import SMALL
    from ..data.tables.sheets.spreadsheet import BUNDLE

    if spreadsheet is not None and not any(BUNDLE in obj.get("data", {}) for obj in with_copy(spec, spreadsheet).objects):
        raise UsageError(
            f"--data-of: the snapshot is larger than the {SMALL >> 10} KiB of a ConfigMap, and pods would read the current "
            "spreadsheet; save its worksheets as CSV files and set datasets_path to their folder"
        )
