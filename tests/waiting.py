"""How tests wait for what comes: no longer than it takes, but minutes where the machine is busy."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 600  # seconds for a training: a rank of a busy machine takes minutes to import torch


def wait_for(what: Callable[[], object], why: Callable[[], str] = lambda: "it did not come", *, seconds: float = 120) -> None:
    """Returns when ``what`` is true; fails with ``why`` if that takes more than ``seconds``."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why()
        time.sleep(0.01)


def finished(*args: object, **how: object) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run``, without the lines of a launcher that tells on a busy machine what it waits for."""
    done: subprocess.CompletedProcess[str] = subprocess.run(*args, **how)  # type: ignore[call-overload]
    if done.stderr:
        done.stderr = "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith("waiting: "))
    return done
