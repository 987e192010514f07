"""Kubernetes quantities like ``64Gi``, ``500m`` and ``1e3``, as numbers and in readable units. Pure."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from ...spec.sizes import quantity

_FORM: Final = re.compile(r"(?P<number>[+-]?(\d+(\.\d*)?|\.\d+))(?P<unit>n|u|m|k|[MGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
_SMALL: Final = {"n": -3, "u": -2, "m": -1}


def number(text: object) -> Fraction:
    """The exact value of a quantity, in bytes, cores or pieces; raises ValueError if it is not a quantity."""
    found = _FORM.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is not a quantity")
    value, unit = Fraction(found["number"]), found["unit"] or ""
    if not unit:
        return value
    if unit in _SMALL:
        return value * Fraction(1000) ** _SMALL[unit]
    if unit[:1] in "eE" and unit[1:].lstrip("+-").isdecimal():
        return value * Fraction(10) ** int(unit[1:])
    base = 1024 if unit.endswith("i") else 1000
    return value * Fraction(base) ** ("kMGTPE".index("k" if unit == "Ki" else unit[0]) + 1)


def shown(resource: str, value: Fraction) -> str:
    """``value`` of ``resource`` in readable units."""
    if resource.rpartition(".")[2] in ("memory", "storage", "ephemeral-storage"):
        for power, unit in ((3, "Gi"), (2, "Mi")):
            if abs(value) >= 1024**power:
                return f"{float(value / 1024**power):.4g}{unit}"
        return quantity(int(value))
    return f"{float(value):g}"
