"""Conflicts: which settings of the flat section contradict each other, or have no effect together. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    pass

SMOOTHED: Final = frozenset({"sigmoid", "robust", "exo_pair", "aot", "aot_unpaired"})
