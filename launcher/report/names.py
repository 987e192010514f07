"""Short names for runs: without what all of them share. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile


def short_names(names: Sequence[str]) -> list[str]:
    """``…083222-e7eb`` for names that begin alike; whole names where nothing is gained or only one is given."""
    if len(names) < 2:
        return list(names)
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = re.sub(r"[^-._]*$", "", "".join(letters[0] for letters in alike))
    if len(shared) < 8 or any(len(name) == len(shared) for name in names):
        return list(names)
    return [f"…{name[len(shared) :]}" for name in names]
