"""Exit code and sentence for errors that are not the launcher's own."""

from __future__ import annotations

import errno
import os
import re
from typing import Final

from launcher.errors import ExperimentError, MemoryShortage
from launcher.hub import of_network
from launcher.runs.writable import DISK_FAILS

from .kills import Kills, killed

_SHORTAGE: Final = re.compile(
    r"OutOfMemoryError|\bMemoryError|CUDA out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED|can't allocate memory"
)
_PEER: Final = re.compile(
    r"Connection closed by peer|Connection reset by peer|Broken pipe|\[.*gloo/transport|NCCL|ProcessGroup|DistBackendError"
    r"|DistNetworkError|DistStoreError|Timed out waiting .* for recv operation"
)


# How DeepSpeed and torch's extensions say that they want to compile something and cannot.
_COMPILES: Final = re.compile(
    r"Unable to JIT load the (\w+) op|CUDA_HOME does not exist, unable to compile|Ninja is required to load C\+\+ extensions"
    r"|Error building extension '(\w+)'"
)
_WORKER: Final = re.compile(r"DataLoader worker \(pid.*\) is killed by signal: Killed")
_HINT: Final = "remove what needs it from the file in configs/deepspeed; `zero2_offload` and `zero3_offload` need none"
_AT_START: Final = Kills.now()
_OS_ERROR: Final = re.compile(r"\(os error (\d+)\)")


def is_of_a_peer(error: BaseException) -> bool:
    """Whether another rank's end is the likely cause, because a collective operation failed."""
    return isinstance(error, RuntimeError) and _PEER.search(f"{type(error).__name__}: {error}") is not None


def how_it_failed(error: BaseException) -> tuple[int, str]:
    """(exit code, sentence) of any error."""
    return explained(error) or (1, f"{type(error).__name__}: {error}")


def explained(error: BaseException) -> tuple[int, str] | None:
    """(exit code, sentence) of an error with a known cause, which libraries may wrap in their own errors."""
    cause: BaseException | None = error
    while cause is not None:
        if _SHORTAGE.search(f"{type(cause).__name__}: {cause}"):
            sentence = f"out of memory: lower max_seq_length or use gradient checkpointing ({cause})"
            return MemoryShortage.exit_code, sentence
        if sentence := _disk(cause):
            return 1, sentence
        if found := _COMPILES.search(str(cause)):
            what = f"its extension {found[1] or found[2]}" if found[1] or found[2] else "an extension"
            return ExperimentError.exit_code, f"DeepSpeed cannot compile {what} here (no nvcc, C++ compiler or ninja): {_HINT}"
        if _WORKER.search(str(cause)):
            return 1, killed("a data-loader process", _AT_START, Kills.now())
        cause = cause.__cause__ or cause.__context__
    away = of_network(error)
    return None if away is None else (away.exit_code, str(away))


def _disk(error: BaseException) -> str | None:
    """The disk's problem as a sentence; libraries in Rust have the errno only in their text."""
    number, name = getattr(error, "errno", None), getattr(error, "filename", None)
    if number is None and (found := _OS_ERROR.search(str(error))):
        number = int(found[1])
    where = f": {name}" if name else ""
    if number == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
        return f"the disk is full{where}; make room, then resume"
    if number == errno.EDQUOT:
        return f"the disk is full (disk quota exceeded){where}; make room, then resume"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no access to {name or 'a file'}: {error}"
    if number == errno.EFBIG:
        return f"cannot write{where}: file too large for this file system or for the limit of this process (ulimit -f)"
    if isinstance(number, int) and number in DISK_FAILS:
        return f"the disk or its file system failed{where}: {os.strerror(number).lower()}"
    return None
