"""The only clock that a chat template sees: fixed at the start of a day, without locale and time zone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from accelerate.utils import gather_object

from launcher.runs.run_dir import RunDir

FIELD: Final = "template_date"  # of the run's record
_CODE: Final = re.compile(r"%([-_0^#]*)[EO]?([A-Za-z%+])")  # E and O ask for a locale's own digits and eras
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
# What the C library would look up: names and orders of the locale, the zone and the seconds since 1970 of the environment's TZ.
_LOCAL: Final[dict[str, Callable[[datetime], str]]] = {
    "a": lambda t: _DAYS[t.weekday()][:3],
    "A": lambda t: _DAYS[t.weekday()],
    "b": lambda t: _MONTHS[t.month - 1][:3],
    "h": lambda t: _MONTHS[t.month - 1][:3],
    "B": lambda t: _MONTHS[t.month - 1],
    "p": lambda t: "AM" if t.hour < 12 else "PM",
    "P": lambda t: "am" if t.hour < 12 else "pm",
    "c": lambda t: f"{_DAYS[t.weekday()][:3]} {_MONTHS[t.month - 1][:3]} {t.day:2d} {t:%H:%M:%S} {t.year}",
    "x": lambda t: f"{t:%m/%d/%y}",
    "X": lambda t: f"{t:%H:%M:%S}",
    "r": lambda t: f"{t:%I:%M:%S} {'AM' if t.hour < 12 else 'PM'}",
    "Z": lambda t: "UTC",
    "z": lambda t: "+0000",
    "s": lambda t: str(int(t.timestamp())),
}


class Clock:
    """``day`` at 00:00 UTC, whenever and wherever it is read; ``was_read``: whether a template has read it."""

    def __init__(self, day: date):
        self.day = day
        self.was_read = False
        self._at = datetime(day.year, day.month, day.day, tzinfo=UTC)

    def strftime_now(self, form: str) -> str:
        """The time in the format ``form`` of the C locale; what chat templates call ``strftime_now``."""
        self.was_read = True
        return _CODE.sub(self._written, form)

    def _written(self, code: re.Match[str]) -> str:
        flags, letter = code.groups()
        local = _LOCAL.get(letter)
        text = self._at.strftime(f"%{flags}{letter}") if local is None else local(self._at)
        return text.upper() if "^" in flags else text.swapcase() if "#" in flags and local is not None else text


def today() -> date:
    """The day in UTC: that of a run's first start."""
    return datetime.now(UTC).date()


def _first_start(record: Mapping[str, Any]) -> str | None:
    """The day of a run that has started before and made no tokens, or was left by a version that kept no day."""
    started = next(iter(record.get("attempts", [])), {}).get("started")
    return None if started is None else datetime.fromisoformat(started).astimezone(UTC).date().isoformat()


def day_of_run(run: RunDir, wanted: str | None, before: str | None, *, first: bool) -> date:
    """The day that the chat template sees, the same on every rank and in every attempt of ``run``.

    It is ``wanted`` (the setting template_date), else that of the checkpoint (``before``) or of the run's first start, which its
    record keeps. Dates are ISO's. The first rank decides.
    """
    kept = None
    if first and wanted is None:
        record = run.read_record()
        kept = before or record.get(FIELD) or _first_start(record) or today().isoformat()
        if record.get(FIELD) != kept:
            run.update_record(**{FIELD: kept})
    return date.fromisoformat(str(wanted or gather_object([kept])[0]))
