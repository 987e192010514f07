"""What `launcher resume` does with a finished run, in the same words at its end, in `launcher status` and `launcher why`."""

from __future__ import annotations

from collections.abc import Sequence

from .evidence import Evidence


def begins(checkpoints: Sequence[str] | None) -> str:
    """How a resumed run begins. ``checkpoints``: names of the complete ones, oldest first; None if unknown."""
    if checkpoints is None:
        return "resumes from its newest checkpoint, if it has one"
    return f"resumes from {checkpoints[-1]}" if checkpoints else "starts from the beginning: it has no checkpoint"


def resuming(seen: Evidence) -> str:
    """The command that resumes a run that has ended, and where it begins."""
    if seen.checkpoints is not None and not seen.checkpoints:
        return f"start it again with: launcher resume {seen.run} (from the beginning: it has no checkpoint)"
    where = "its newest checkpoint, if it has one" if seen.checkpoints is None else seen.checkpoints[-1]
    return f"resume it with: launcher resume {seen.run} (from {where})"
