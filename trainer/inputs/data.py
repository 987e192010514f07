"""Reads and checks a run's data, and keeps copies in the run's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from accelerate.utils import gather_object

from launcher.data.pairs import Pairs, Source, read_pairs, write_processed
from launcher.data.survey import survey
from launcher.data.tables.reading import Reading
from launcher.data.tables.sheets.spreadsheet import BUNDLE, MANIFEST, has_copy, unpack, write_copy
from launcher.data.tables.table import Joined
from launcher.errors import LauncherError, StorageError
from launcher.experiment.files import read_env
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.data_file import file_of
from launcher.experiment.sections.hub_data import HubData, is_remote, recorded_commit
from launcher.runs.run_dir import RunDir, expanded
from launcher.runs.whole import write_whole

from ..output import Stage, say
from ..processes.ranks.join import is_there
from ..processes.waiting import AT_ONCE, Waiting

COPIED: Final = 256 << 20  # bytes
_LOOKED_AT: Final = 1000  # pairs looked at for their own system messages


def read_data(
    experiment: Experiment,
    run: RunDir,
    *,
    root: Path,
    data_root: Path,
    cache: Path,
    first: bool,
    waiting: Waiting = AT_ONCE,
    progress: Stage | None = None,
) -> Pairs:
    """The pairs of every rank. The first rank downloads remote data and stores them; the others read the stored data.

    A spreadsheet is read from the run's copy if there is one, and a hub dataset at the commit that the run read before, because
    both may have changed since. ``root``: base of output_processed_dir. ``waiting``: waits for a server that is down.
    ``progress``: receives the progress.
    """
    is_far = experiment.spreadsheet_id is not None or is_remote(experiment.datasets_path)
    if is_far and not first:
        gather_object([None])
        if experiment.spreadsheet_id is not None and not is_there(run.spreadsheet / MANIFEST):
            raise LauncherError(f"{run.spreadsheet}: not found on this rank; all nodes need the same run folder")
    if first and not has_copy(run.spreadsheet) and (run.path / BUNDLE).is_file():  # from a pod's ConfigMap
        unpack(run.path / BUNDLE, run.spreadsheet)
    reading = Reading(data_root, read_env(Path()) if is_far else {}, cache, run.spreadsheet, _Told(progress), _commit(run))
    pairs = waiting(lambda: read_pairs(experiment, reading))
    if first:
        _keep(experiment, run, root, reading, pairs)
        if is_far:
            gather_object([None])
    if is_far:
        _check_equal(pairs)
    return pairs


@dataclass(frozen=True)
class _Told:
    """Listener for reading: lines and progress."""

    progress: Stage | None

    def __call__(self, line: str) -> None:
        say(line)

    def rows(self, done: int, total: int, what: str) -> None:
        if self.progress is not None:
            self.progress.at(done, total, "rows")


def _commit(run: RunDir) -> str | None:
    """The dataset commit that this run, or the run that it repeats, has read, even if a newer one exists."""
    record = run.read_record()
    return recorded_commit(record.get("data") or (record.get("again") or {}).get("data") or ())


def _check_equal(pairs: Pairs) -> None:
    """Raises StorageError if a bucket changed between the reads of two ranks; a restart fixes that."""
    mine = [(source.name, source.sha256) for source in pairs.sources]
    everyone = gather_object([mine])
    other = next((found for found in everyone if found != everyone[0]), None)
    if other is not None:
        name = next((one[0] for one, another in zip(everyone[0], other, strict=False) if one != another), everyone[0][0][0])
        raise StorageError(f"{name}: the data changed while the ranks read them; start again")


def _keep(experiment: Experiment, run: RunDir, root: Path, reading: Reading, pairs: Pairs) -> None:
    """Writes the data that were read, with hashes, to the run's folder, and to output_processed_dir if set."""
    if pairs.spreadsheet is not None:
        if not has_copy(run.spreadsheet):
            write_copy(run.spreadsheet, pairs.spreadsheet.files)
        run.update_record(spreadsheet=pairs.spreadsheet.record)
    sources = [source.json() for source in pairs.sources]
    write_processed(pairs, run.data)
    found = [asdict(one) for one in pairs.found]
    report = {"sources": sources, "notices": pairs.notices, "found": found, "survey": survey(pairs).json()}
    write_whole(run.data / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if pairs.prompt is not None:
        has_own = any(pair.chat is not None and pair.chat.has_system for pair in islice(pairs.train, _LOOKED_AT))
        kept = asdict(replace(pairs.prompt, has_own=has_own))
        write_whole(run.prompt, json.dumps(kept, ensure_ascii=False) + "\n")
    run.update_record(data=sources)
    _keep_files(experiment, run, reading, pairs)
    if experiment.save_processed_dataset:
        folder = root / expanded(experiment.output_processed_dir) / f"exp_{experiment.experiment_id}"
        say(f"rendered pairs: {folder}")
        write_processed(pairs, folder)


def _keep_files(experiment: Experiment, run: RunDir, reading: Reading, pairs: Pairs) -> None:
    """Copies files of at most ``COPIED`` bytes that are unchanged since they were read, for `launcher again`.

    Not needed for buckets and spreadsheets, which have their own copies; not done for splits of many files.
    """
    for source, file in _files(experiment, reading, pairs):
        name = file_of(Path(source.name).name)
        if not file.is_file() or file.stat().st_size > COPIED or (run.source / name).exists():
            continue
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() == source.sha256:
            run.source.mkdir(exist_ok=True)
            write_whole(run.source / name, content)


def _files(experiment: Experiment, reading: Reading, pairs: Pairs) -> Iterator[tuple[Source, Path]]:
    """The sources that are a single file, with its path on this machine."""
    if experiment.datasets_path is None or experiment.datasets_path.startswith("s3://"):
        return
    for source in pairs.sources:
        if source.hub is None:
            yield source, reading.root / expanded(experiment.datasets_path) / file_of(Path(source.name).name)
        elif not isinstance(source.name, Joined):
            from launcher.data.tables.hub_files import open_data

            data = HubData(str(source.hub["name"]), source.hub["revision"])
            file = source.name.removeprefix(f"{data.name}/")
            found = open_data(data, reading)
            if file in found.files:  # not packed
                yield source, found.path(file)
