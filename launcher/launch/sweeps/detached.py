"""Continues a sweep without its terminal, in its own process, which writes to the sweep's log."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ...errors import LauncherError

if TYPE_CHECKING:
    from .local import Sweeping

_TICK: Final = 0.05  # seconds between two looks at the process


def detach(found: Sweeping, work: Callable[[], int]) -> None:
    """Calls ``work``, which runs the sweep, in a new process. Returns when that process has started or resumed a point.

    The process leads its own session, like a run on the host, so closing the terminal does not end it. Raises LauncherError
    with the last lines of the sweep's log if it ends early.
    """
    found.log.parent.mkdir(parents=True, exist_ok=True)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    pid = os.fork()  # forked, so the data that were read are there: a spreadsheet is not read twice
    if pid == 0:
        _continue(found, work)
    while not found.is_begun_by(pid):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended and not found.is_begun_by(pid):
            words = found.log.read_text(encoding="utf-8").splitlines()[-15:]
            error = LauncherError(f"{found.sweep.name} did not start:\n" + "\n".join(f"    {line}" for line in words))
            error.exit_code = os.waitstatus_to_exitcode(status) or 1
            raise error
        if ended:
            return
        time.sleep(_TICK)


def _continue(found: Sweeping, work: Callable[[], int]) -> None:
    """The new process; never returns."""
    code = 1
    try:
        os.setsid()
        nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(found.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for old, new in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(old, new)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, encoding="utf-8", closefd=False) for number in (1, 2))
        code = work()
    except LauncherError as error:
        code = error.exit_code
        sys.stderr.write(f"error: {error}\n")
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
