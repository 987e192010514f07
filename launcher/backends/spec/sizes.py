"""Memory sizes of experiments, as ``64Gi`` or ``64GB``, in bytes and as Kubernetes quantities. Pure."""

from __future__ import annotations

import re
from typing import Final

GIB: Final = 2**30
_SIZE: Final = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>[KMGT]?)(?P<binary>i?)B?")


def size_in_bytes(size: str) -> int:
    """``size``: of an experiment, checked by pydantic."""
    found = _SIZE.fullmatch(size)
    assert found is not None, f"{size!r} is no size"
    base = 1024 if found["binary"] else 1000
    return int(float(found["number"]) * base ** " KMGT".index(found["unit"] or " "))


def quantity(size: int) -> str:
    """A number of bytes as Kubernetes writes it: in the largest unit of which it is a whole number."""
    for power, unit in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{unit}"
    return str(size)
