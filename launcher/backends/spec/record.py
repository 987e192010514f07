"""run.json of a run on a machine: its first entries, and its outcome where the run's entry could not write one."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...job.image import source_hash
from ...job.job import Job
from ...runs.run_dir import RunDir


def first_record(job: Job, run: RunDir, backend: str) -> dict[str, Any]:
    """The part of the record that is known when rendering."""
    return {
        "run": job.run,
        "key": job.key,
        "experiment_id": job.experiment.experiment_id,
        "topic": job.experiment.topic,
        "model_name": job.experiment.model_name,
        "backend": backend,
        "folder": str(run.path),
        "gpus": job.gpus * job.topology.nodes,
        "origin": job.origin,
        "experiment": job.experiment.model_dump(mode="json"),
        **job.notes,
    }


def user_name(caller: Mapping[str, str]) -> str:
    """Who starts a run on this machine: DPO_USER of ``caller``'s environment or .env, else the name of the account."""
    try:
        return caller.get("DPO_USER") or caller.get("USER") or getpass.getuser()
    except (KeyError, OSError):  # the uid need not exist in passwd
        return "unknown"


def started(caller: Mapping[str, str]) -> dict[str, Any]:
    """The part of the record that a start by ``caller`` adds."""
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {
        "created": created,
        "started": created,
        "user": user_name(caller),
        "code": code_revision(),
        "attempts": [],
        "outcome": {"state": "starting"},
    }


def outcome(state: str, exit_code: int, sentence: str) -> dict[str, Any]:
    return {
        "state": state,
        "exit_code": exit_code,
        "sentence": sentence,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def end_attempts(run: RunDir, ended: str) -> list[dict[str, Any]]:
    """The run's attempts; those without an end end now."""
    return [{**attempt, "ended": attempt.get("ended") or ended} for attempt in run.read_record().get("attempts", [])]


def code_revision() -> dict[str, Any]:
    """The git revision of this checkout and whether it was changed; else the version of the distribution.

    ``content`` is a hash of our own code: an experiment that is committed beside it changes the revision alone.
    """
    root = Path(__file__).parents[3]
    content = source_hash(root)
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch"]
        with suppress(OSError, subprocess.SubprocessError, StopIteration):
            said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
            head = next(line.split()[2] for line in said if line.startswith("# branch.oid "))
            return {"revision": head, "dirty": any(not line.startswith("#") for line in said), "content": content}
    from importlib.metadata import version

    return {"version": version("dpo-launcher"), "content": content}
