"""What a run is given to train on, where the launcher reads it: a spreadsheet's cells go into the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from ..experiment import Experiment
    from ..job import Job
    from ..rows import Reading
    from ..run_dir import RunDir
    from ..sheets.spreadsheet import Spreadsheet


def reading(root: Path, caller: Mapping[str, str]) -> Reading:
    """Reading at a command: what takes long is said on standard error."""
    from ..rows import Reading

    return Reading(root, caller, say=lambda line: click.echo(line, err=True))


def reading_for(job: Job, run: RunDir, root: Path, caller: Mapping[str, str], earlier: RunDir | None) -> Reading:
    """Reading for ``run``, which is about to be made: of the copy in ``earlier``, where that is given.

    Another node than the first waits for the first one's copy, so that a spreadsheet is read once. Raises UsageError where there
    is no copy to read.
    """
    here = reading(root, caller)
    if earlier is not None:
        check_copy(job.experiment, earlier)
        return replace(here, copy=earlier.spreadsheet)
    if job.node.rank and job.experiment.spreadsheet_id is not None:
        run.wait_for_first_node()
        return replace(here, copy=run.spreadsheet)
    return here


def check_copy(experiment: Experiment, earlier: RunDir) -> None:
    """Raises UsageError unless ``earlier`` keeps the cells that the experiment is to be trained on again."""
    from ..sheets.spreadsheet import has_copy

    if experiment.spreadsheet_id is None:
        raise UsageError("--data-of: the experiment reads no spreadsheet; run.json has the hashes of the files that a run read")
    if not has_copy(earlier.spreadsheet):
        raise UsageError(f"--data-of: {earlier.name} keeps no copy of a spreadsheet (expected in {earlier.spreadsheet})")


def read_spreadsheet_once(job: Job, root: Path) -> Spreadsheet | None:
    """What several runs of ``job`` are to be trained on, where the experiment's data are in a spreadsheet."""
    from pathlib import Path

    from ..config import read_env
    from ..rows import read_tables

    if job.experiment.spreadsheet_id is None:
        return None
    return read_tables(job.experiment, reading(root, read_env(Path.cwd()))).spreadsheet


def with_copy(spec: Any, spreadsheet: Spreadsheet | None) -> Any:
    """``spec``, with the copy among the files that its run's folder is made with.

    A pod's come in the ConfigMap, if they fit; else its first rank reads the spreadsheet again.
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
    from ..sheets.spreadsheet import BUNDLE, bundle

    if obj["kind"] != "ConfigMap" or obj["metadata"]["name"] != job:
        return obj
    data = {**obj["data"], BUNDLE: bundle(spreadsheet)}
    fits = sum(len(text.encode()) for text in data.values()) <= SMALL
    return {**obj, "data": data} if fits else obj
