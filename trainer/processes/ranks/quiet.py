"""Hides libraries' warnings about themselves, which nobody who trains can act on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Whatever imports PEFT imports bitsandbytes too, whose CPU part, which no run needs, asks for one more package on processors with
# AVX-512 BF16.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def ignore_deprecations() -> None:
    """From here on, in the whole process: deprecations inside the libraries that only their next versions can fix."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\.")


@contextmanager
def without_deprecations() -> Iterator[None]:
    """As ``ignore_deprecations``, and then the caller's own filters again: for a process that is not ours."""
    with warnings.catch_warnings():
        ignore_deprecations()
        yield
