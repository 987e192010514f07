"""Quiet: warnings of libraries about their own next versions, which nobody who trains can act on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def ignore_deprecations() -> None:
    """From here on, in the whole process: deprecations inside the libraries that only their next versions can fix."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\.")


@contextmanager
def without_deprecations() -> Iterator[None]:
    """As ``ignore_deprecations``, and then the caller's own filters again: for a process that is not ours."""
    with warnings.catch_warnings():
        ignore_deprecations()
        yield
