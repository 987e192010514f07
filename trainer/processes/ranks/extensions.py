"""DeepSpeed's C++ and CUDA extensions: torch compiles them on first use, one process at a time."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from torch.utils.file_baton import FileBaton


def outlive_builders() -> None:
    """Lets this process compile an extension even if an earlier one was killed while compiling it."""
    from torch.utils import cpp_extension

    cpp_extension.FileBaton = Baton


class Baton(FileBaton):  # type: ignore[misc] # torch's class has no types
    """torch's lock on an extension's folder: a file without an owner, which a killed process leaves behind for ever.

    Who makes that file holds a lock of the kernel beside it, which ends with the process. Who gets that lock and still finds
    the file knows that its maker is dead, and compiles; who finds none loads what was compiled while it waited.
    """

    _handle: int | None = None

    def try_acquire(self) -> bool:
        """Whether this process must compile. Waits while another one does."""
        try:
            self._handle = os.open(f"{self.lock_file_path}.held", os.O_RDWR | os.O_CREAT, 0o666)
            must_wait = not _locked(self._handle)
            if must_wait:
                fcntl.flock(self._handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, or a file of another user
            self._unlock()
            return bool(super().try_acquire())
        is_left = Path(self.lock_file_path).exists()
        if must_wait and not is_left:
            self._unlock()
            return False
        while _is_open(Path(self.lock_file_path)):  # of a program that takes torch's file alone
            time.sleep(self.wait_seconds)
        with suppress(FileNotFoundError):
            Path(self.lock_file_path).unlink()
        is_mine = bool(super().try_acquire())
        if not is_mine:
            self._unlock()
        return is_mine

    def release(self) -> None:
        super().release()
        self._unlock()

    def _unlock(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _locked(handle: int) -> bool:
    """Whether this process got the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_open(path: Path) -> bool:
    """Whether a process that can be seen from here has ``path`` open."""
    with suppress(FileNotFoundError):
        wanted = path.stat()
        for handle in Path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):  # ended meanwhile, or another user's
                if os.path.samestat(handle.stat(), wanted):
                    return True
    return False
