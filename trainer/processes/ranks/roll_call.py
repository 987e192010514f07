"""What each rank prints about itself: its start, its device and its end.

Without this, only the first rank's log has lines, and a working rank looks like one that never started.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from ...output import say

_BEGAN = time.monotonic()


def is_called(env: Mapping[str, str] = os.environ) -> bool:
    """Whether this rank prints these lines: the only rank of a run on this machine does not, its other lines show all of it."""
    return int(env.get("WORLD_SIZE", "1")) > 1 or "DPO_CONFIG" in env


def started(env: Mapping[str, str] = os.environ) -> None:
    """Prints the rank, its node and its place there; the variables are torchrun's."""
    if is_called(env):
        rank, world, node = (
            env.get(name, otherwise) for name, otherwise in (("RANK", "0"), ("WORLD_SIZE", "1"), ("GROUP_RANK", "0"))
        )
        local, on_node = env.get("LOCAL_RANK", "0"), env.get("LOCAL_WORLD_SIZE", "1")
        say(f"rank {rank} of {world} started: node {node} ({socket.gethostname()}), local rank {local} of {on_node}")


def device(name: str, env: Mapping[str, str] = os.environ) -> None:
    """``name``: what the rank computes on."""
    if is_called(env):
        say(f"rank {env.get('RANK', '0')} uses {name}")


def ended(code: int, env: Mapping[str, str] = os.environ) -> None:
    """``code``: the rank's exit code. Why it failed is in the lines before."""
    if is_called(env):
        how = {0: "is done", 143: "stopped on request"}.get(code, f"ended with exit code {code}")
        say(f"rank {env.get('RANK', '0')} {how} after {time.monotonic() - _BEGAN:.0f} s")
