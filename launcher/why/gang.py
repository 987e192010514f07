"""Orders the pods of a run that failed together: the first failure before its consequences. Pure."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from .evidence import Pod

# What a rank reports that lost another one: its own failure is a consequence.
_OF_A_PEER: Final = re.compile(
    r"\brank \d+ is gone:|\brank \d+ has ended with exit code|the first node is gone:|the first node restarted while"
    r"|a peer is gone|Connection closed by peer|Connection reset by peer|DistBackendError|nccl(?:Remote|System)Error"
    r"|NCCL (?:error|communicator was aborted)"
)
_SLACK: Final = 5.0  # seconds by which the clocks of two machines, which are read in whole seconds, may differ
_WAITED: Final = ("hung", "rendezvous")  # for another rank, which may have been killed before


def is_of_a_peer(text: str) -> bool:
    """Whether a rank's sentence or last log lines blame another rank."""
    return _OF_A_PEER.search(text) is not None


def ended_at(pod: Pod) -> str:
    """When the container of ``pod`` ended, UTC in ISO form; empty if unknown."""
    return pod.container.ended if pod.container is not None else ""


def order(pod: Pod, cause: str, others: list[tuple[Pod, str]]) -> tuple[int, str]:
    """Sort key for the (pod, cause) of a gang: the explanation comes first. ``others``: all pods of the gang with their causes.

    A pod with a cause of its own comes before those that were killed or failed without one; a rank that waited for others until a
    timeout comes before these only if it ended before; one that lost a peer comes after both, and one that was stopped is last.
    """
    at = ended_at(pod)
    if cause in ("peer", "stopped"):
        return 3 if cause == "peer" else 4, at
    if cause in ("failed", "killed"):
        return 1, at
    if cause in _WAITED:
        fell = [ended_at(other) for other, why in others if why in ("failed", "killed")]
        return (0 if all(_is_before(at, one) for one in fell) else 2), at
    return 0, at


def _is_before(one: str, other: str) -> bool:
    if not one or not other:
        return False
    return (datetime.fromisoformat(other) - datetime.fromisoformat(one)).total_seconds() > _SLACK
