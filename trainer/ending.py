"""How a training failed: the exit code and the sentence of an error that is none of the launcher's own."""

from __future__ import annotations

import re
from typing import Final

from launcher.errors import MemoryShortage

_SHORTAGE: Final = re.compile(
    r"OutOfMemoryError|\bMemoryError|CUDA out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED|can't allocate memory"
)


def how_it_failed(error: BaseException) -> tuple[int, str]:
    """(exit code, sentence); libraries wrap a shortage of memory in errors of their own."""
    cause: BaseException | None = error
    while cause is not None:
        if _SHORTAGE.search(f"{type(cause).__name__}: {cause}"):
            sentence = f"out of memory: lower per_device_train_batch_size or max_seq_length ({cause})"
            return MemoryShortage.exit_code, sentence
        cause = cause.__cause__ or cause.__context__
    return 1, f"{type(error).__name__}: {error}"
