"""Slots: how many points of a sweep run at the same time on this machine, and the GPUs of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import UsageError

if TYPE_CHECKING:
    from ...experiment.loaded import Loaded

_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Slots:
    """The GPUs of each slot; none on a CPU."""

    gpus: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, wanted: int | None, each: int | None, there: list[str]) -> Slots:
        """``each``: GPUs per point, None for ``auto``. ``there``: visible GPUs. ``wanted``: ``--parallel``.

        By default as many points as the GPUs allow. Raises UsageError if there are too few GPUs.
        """
        if not there or each == 0:
            return cls(((),) * (wanted or 1))
        count = wanted or max(1, len(there) // (each or 1))
        size = each or max(1, len(there) // count)
        if count * size > len(there) and wanted is not None:
            most = len(there) // size
            raise UsageError(f"--parallel {wanted}: must be at most {most} ({len(there)} GPUs, {size} a point)")
        return cls(tuple(tuple(there[slot * size : (slot + 1) * size]) for slot in range(count)))


def gpus_asked(loaded: list[Loaded]) -> int | None:
    """The largest number of GPUs that a point requests; None for ``auto``."""
    asked = [one.experiment.launch.gpus for one in loaded]
    return None if "auto" in asked else max(int(one) for one in asked)


def gpus_here() -> list[str]:
    """CUDA's names of the GPUs that this process can see."""
    from ...backends.host import gpus_there
    from ...experiment.files import read_env

    caller = read_env(Path.cwd())
    named = [name.strip() for name in caller.get(_VISIBLE, "").split(",") if name.strip()]
    count = gpus_there(caller)
    return named[:count] if named else [str(number) for number in range(count)]


@contextmanager
def visible(gpus: tuple[str, ...]) -> Iterator[None]:
    """Makes only ``gpus`` visible to what is planned and started inside; an empty tuple changes nothing."""
    before = os.environ.get(_VISIBLE)
    if gpus:
        os.environ[_VISIBLE] = ",".join(gpus)
    try:
        yield
    finally:
        if gpus and before is None:
            del os.environ[_VISIBLE]
        elif gpus and before is not None:
            os.environ[_VISIBLE] = before
