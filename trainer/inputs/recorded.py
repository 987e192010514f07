"""What a run that repeats another one must be made of, as its record's ``again`` names it: checked where the launcher cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from launcher.data.pairs import Pairs
from launcher.errors import DataError, ExperimentError, Mistake, Warned
from launcher.experiment.schema import Experiment
from launcher.runs.made_of import data_changes
from launcher.runs.run_dir import RunDir

from .hub import at_commit


def check_recorded_data(run: RunDir, pairs: Pairs) -> list[str]:
    """Warnings about data that are not those of the run that this one repeats; raises DataError without --anyway."""
    again = run.read_record().get("again") or {}
    if not again.get("data"):
        return []
    changes = list(data_changes(again["data"], [asdict(source) for source in pairs.sources]))
    if changes and not again.get("anyway"):
        what = f"the data differ from those of {again['of']}"
        raise DataError([Mistake(one.what, what, one.recorded, one.found, one.hint) for one in changes])
    return [Warned(one.sentence) for one in changes]


def recorded_base(run: RunDir, experiment: Experiment, path: str) -> tuple[str, list[str]]:
    """Where the base model is loaded from, and notices: of a hub id ``path`` the folder with the commit that this run, or the run
    that it repeats, was trained on, also where the hub has a newer one; otherwise ``path``.

    Raises what ``at_commit`` raises; with --anyway a commit that does not exist any more is a warning.
    """
    record = run.read_record()
    again = record.get("again") or {}
    commit = ((record.get("model") or {}).get("revision")) or ((again.get("model") or {}).get("revision"))
    if commit is None or Path(path).is_dir():
        return path, []
    try:
        return str(at_commit(path, commit, experiment.hyperparameters.model_cache_dir)), []
    except ExperimentError as error:
        if not again.get("anyway"):
            raise
        return path, [Warned(f"{error.mistakes[0].what}: the newest one is used")]


def check_recorded_model(run: RunDir, found: Mapping[str, Any]) -> list[str]:
    """The same of the base weights, ``found``: ``identity`` and ``revision``; raises ExperimentError without --anyway."""
    again = run.read_record().get("again") or {}
    recorded = again.get("model") or {}
    if not recorded or recorded["identity"] == found["identity"]:
        return []
    then, now = (_named(made) for made in (recorded, found))
    if not again.get("anyway"):
        what = f"the base weights differ from those of {again['of']}"
        raise ExperimentError(Mistake("model_name", what, then, now, "restore the model's files"))
    return [Warned(f"the base weights differ from those of {again['of']}: recorded {then}, found {now}")]


def recorded_commit(run: RunDir) -> str | None:
    """The commit of the hub's adapter that this run, or the run that it repeats, started from, also where a newer one exists."""
    record = run.read_record()
    found = [made.get("adapter") or {} for made in (record, record.get("again") or {})]
    return next((str(one["revision"]) for one in found if one.get("revision")), None)


def check_recorded_adapter(run: RunDir, found: Mapping[str, Any]) -> list[str]:
    """The same of the files of the adapter that the training starts from, ``found``: its entry in the record."""
    again = run.read_record().get("again") or {}
    recorded = again.get("adapter") or {}
    if not recorded or recorded["sha256"] == found["sha256"]:
        return []
    what = f"the adapter's files differ from those of {again['of']}"
    then, now = (", ".join(f"{name} {sha256[:12]}" for name, sha256 in made["sha256"].items()) for made in (recorded, found))
    if not again.get("anyway"):
        raise ExperimentError(Mistake("adapter", what, then, now, f"restore the files of {recorded['name']}"))
    return [Warned(f"{what}: recorded {then}, found {now}")]


def _named(made: Mapping[str, Any]) -> str:
    commit = made.get("revision")
    return f"weights {str(made['identity'])[:12]}" + (f" (revision {commit[:12]})" if commit else "")
