"""Decides how an attempt ended: from its ranks' exit notes, else from torchrun's code and output."""

from __future__ import annotations

import json
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from launcher.runs.run_dir import RunDir

from .children import Children
from .kills import Kills, killed, memory_used

# What torchrun prints when the nodes do not meet.
_WAITED = re.compile(r"after (?P<seconds>\d+) seconds waiting for clients\. (?P<came>\d+)/(?P<all>\d+) clients joined")
_NO_ANSWER = re.compile(r"timed out after \d+ms while trying to connect to \((?P<host>[^,]+), (?P<port>\d+)\)")


@dataclass(frozen=True)
class Ending:
    """How an attempt ended; ``can_split``: memory ran out, and smaller micro-batches may help; ``is_new``: not reported yet;
    ``is_consequence``: another node of the run ended before, and this one could not continue without it."""

    state: str
    code: int
    sentence: str
    can_split: bool = False
    is_new: bool = True
    is_consequence: bool = False


def exit_notes(run: RunDir, attempt: int) -> list[dict[str, Any]]:
    """The ranks' exit notes {"code", "sentence", "time"}, earliest first."""
    notes = []
    for path in run.attempt(attempt).glob("rank-*.exit.json"):
        with suppress(ValueError):  # cut off while it was written
            notes.append(json.loads(path.read_text(encoding="utf-8")))
    return sorted(notes, key=lambda note: note["time"])


def judge(notes: list[dict[str, Any]], nproc: int, returned: int, children: Children, words: str, before: Kills) -> Ending:
    """How the attempt ended, from the ranks' notes, else from torchrun's code and output. ``before``: kills counted at its start.

    The earliest note counts; notes of ranks that only ended because another rank had ended come last.
    """
    failed = [note for note in notes if note["code"] != 0]
    first = next((note for note in failed if not note.get("is_consequence")), None)
    if first is not None:
        state = "stopped" if first["code"] == 143 else "failed"
        return Ending(state, int(first["code"]), str(first["sentence"]), bool(first.get("can_split")))
    if notes and not failed and (returned == 0 or len(notes) >= nproc):
        return Ending("done", 0, str(notes[0]["sentence"]))
    if children.were_given_up:
        return _fallen("the first node restarted while this node waited for it: this node restarts, too")
    if children.was_forced:
        return Ending("failed", 137, f"did not stop within {children.grace} s and was killed")
    rank_killed = re.search(r"exitcode\s*:\s*-9\b|Signal 9 \(SIGKILL\)", words) is not None
    if (rank_killed or returned == -signal.SIGKILL) and children.stop_wanted:
        return Ending("failed", 137, "a rank was killed during the stop, before it had written a checkpoint")
    if rank_killed or returned == -signal.SIGKILL:
        # The ranks of a torchrun that was killed have not ended below it: how much they used is unknown.
        what, used = ("a rank", memory_used()) if rank_killed else ("torchrun", "")
        return Ending("failed", 137, killed(what, before, Kills.now(), used))
    if returned == -signal.SIGBUS or re.search(r"exitcode\s*:\s*-7\b|Signal 7 \(SIGBUS\)", words):
        return Ending("failed", 135, "a bus error: shared memory (/dev/shm) ran out; raise launch.shm_size")
    if failed:
        return _fallen(str(failed[0]["sentence"]), int(failed[0]["code"]))
    if children.stop_wanted:
        return Ending("stopped", 143, "stopped before the first step: nothing to resume")
    if found := _WAITED.search(words):
        came = f"only {found['came']} of {found['all']} nodes joined within {found['seconds']} s"
        return _fallen(f"{came}: see the logs of the others")
    if found := _NO_ANSWER.search(words):
        return _fallen(f"cannot connect to the first node at {found['host']}:{found['port']}: see its log")
    if returned == 0:
        return Ending("failed", 1, "torchrun ended without an error, but no rank left an exit note")
    return Ending("failed", returned if returned > 0 else 128 - returned, "torchrun failed: see logs/entry.log")


def _fallen(sentence: str, code: int = 1) -> Ending:
    """The end of a node that failed because another one did."""
    return Ending("failed", code, sentence, is_consequence=True)
