"""One part as a process: prints a line of figures after each thing that it has measured."""

from __future__ import annotations

import json
import traceback
from typing import Any

from .checks import marked_tests, resume, resumed, shortage, ways
from .launches import launches
from .parts import Place, Skipped, part_of
from .running import MARK
from .speed import speed, speed_of_trl

MEASURES = {
    found.__name__: found for found in (launches, speed, speed_of_trl, resume, resumed, shortage, ways, marked_tests)
}  # fmt: skip


def work(name: str, place: Place) -> int:
    """Measures the part ``name``; an exit code."""
    part = part_of(name)
    try:
        for figures in MEASURES[part.measure](place, part.model, **part.settings):
            say(figures)
    except Skipped as reason:
        say({"status": "skipped", "sentence": str(reason)})
    except Exception as error:
        traceback.print_exc()
        say({"status": "failed", "sentence": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
        return 1
    return 0


def say(figures: dict[str, Any]) -> None:
    print(MARK + json.dumps(figures), flush=True)
