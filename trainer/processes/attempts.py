"""A run's attempts: their numbers and folders, and each start and end in the run's record."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from launcher.runs.processes import Process
from launcher.runs.run_dir import RunDir
from launcher.runs.whole import write_whole

from .pods.memory_note import silent
from .pods.pod import itself
from .pods.rendezvous import marker_of
from .verdict import Ending


def next_attempt(run: RunDir, address: str = "") -> int:
    """The number of this node's next attempt, counted from 1; its folder exists afterwards.

    The nodes of a run share the folder, and each writes a marker with its ``address`` into it. The first node to arrive creates
    the folder; a later one joins the newest attempt that lacks its marker.
    """
    names = [path.name.removeprefix("attempt-") for path in run.path.glob("attempt-*")]
    newest = max((int(name) for name in names if name.isdigit()), default=0)
    is_mine = newest == 0 or marker_of(run, newest, run.node).exists()
    number = newest + 1 if is_mine else newest
    run.attempt(number).mkdir(exist_ok=True)
    write_whole(marker_of(run, number, run.node), address)
    return number


def write_start(run: RunDir, number: int) -> None:
    """Records this process and its attempt ``number`` in the run's record."""
    process = Process.of(os.getpid())
    assert process is not None, "this process lives"
    begun = {"number": number, "started": _now(), "ended": None, "exit_code": None, **itself()}
    attempts = [*(silent(run, one) for one in run.closed_attempts()), begun]
    run.update_record(process=process.record(), attempts=attempts, outcome={"state": "running"})


def write_end(run: RunDir, ending: Ending) -> None:
    """Records how the newest attempt ended."""
    ended = _now()
    *earlier, last = run.read_record()["attempts"]
    run.update_record(
        attempts=[*earlier, {**last, "ended": ended, "exit_code": ending.code, **_told(ending)}],
        outcome={"state": ending.state, "exit_code": ending.code, "sentence": ending.sentence, "ended": ended},
    )


def _told(ending: Ending) -> dict[str, Any]:
    """How an attempt ended, with its pod, as a line that survives the next attempt."""
    falls = {"is_consequence": True} if ending.is_consequence else {}
    return {"state": ending.state, "sentence": ending.sentence, **falls}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
