"""What a run that repeats another one must be made of, as its record's ``again`` names it: checked where the launcher cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from launcher.data.pairs import Pairs
from launcher.errors import DataError, ExperimentError, Mistake, Warned
from launcher.runs.made_of import data_changes
from launcher.runs.run_dir import RunDir


def check_recorded_data(run: RunDir, pairs: Pairs) -> list[str]:
    """Warnings about data that are not those of the run that this one repeats; raises DataError without --anyway."""
    again = run.read_record().get("again") or {}
    if not again.get("data"):
        return []
    changes = list(data_changes(again["data"], [asdict(source) for source in pairs.sources]))
    if changes and not again.get("anyway"):
        what = f"other data than those of {again['of']}"
        raise DataError([Mistake(one.what, what, one.recorded, one.found, one.hint) for one in changes])
    return [Warned(one.sentence) for one in changes]


def check_recorded_model(run: RunDir, found: Mapping[str, Any]) -> list[str]:
    """The same of the base weights, ``found``: ``identity`` and ``revision``; raises ExperimentError without --anyway."""
    again = run.read_record().get("again") or {}
    recorded = again.get("model") or {}
    if not recorded or recorded["identity"] == found["identity"]:
        return []
    then, now = (_named(made) for made in (recorded, found))
    if not again.get("anyway"):
        commit = recorded.get("revision")
        hint = "restore the model's files"
        if commit:
            hint = f"download that revision, and train its folder: hf download MODEL --revision {commit} --local-dir FOLDER"
        raise ExperimentError(Mistake("model_name", f"other base weights than those of {again['of']}", then, now, hint))
    return [Warned(f"other base weights than those of {again['of']}: recorded {then}, found {now}")]


def _named(made: Mapping[str, Any]) -> str:
    commit = made.get("revision")
    return f"weights {str(made['identity'])[:12]}" + (f" (revision {commit[:12]})" if commit else "")
