"""Names of runs: generated from experiment and time, or given by the user and checked."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime

from ..errors import UsageError

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def new_run_name(experiment: str, now: datetime | None = None) -> str:
    """``<experiment>-<UTC yyyymmdd-hhmmss>-<4 hex>``."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%d-%H%M%S")
    return f"{experiment}-{stamp}-{os.urandom(2).hex()}"


def check_run_name(name: str) -> str:
    """``name``, if it can name a folder, a container and a label; raises UsageError otherwise."""
    if not _RUN_NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r}: must be letters, digits, '.', '_' and '-', at most 100, and start with a letter or digit"
        )
    return name
