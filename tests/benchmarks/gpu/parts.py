"""The parts of the GPU check, the most informative first, and where they work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final


class Skipped(Exception):
    """A part that cannot be measured here, and why."""


@dataclass(frozen=True)
class Place:
    """Where a part works: ``folder`` has the models, the data and the runs; ``tiny``: with models of a few weights."""

    folder: Path
    device: str  # cuda or cpu
    tiny: bool = False


@dataclass(frozen=True)
class Part:
    """``limit``: seconds, after which it is ended and keeps what it has said; ``title`` and ``model`` as the table shows them."""

    name: str
    title: str
    limit: float
    measure: str  # the function of ``worker``
    model: str = "0.6B"
    settings: dict[str, Any] = field(default_factory=dict)  # of the function


PARTS: Final = (
    Part("launches", "kernels' share of a step, launches, syncs", 90, "launches"),
    Part("ours", "this project, eager", 60, "speed", settings={"compile": "off"}),
    Part("ours-compiled", "this project, compiled layers", 110, "speed", settings={"compile": "layers"}),
    Part("trl-tuned", "TRL tuned", 60, "speed_of_trl", settings={"variant": "trl tuned"}),
    Part("trl", "TRL at its defaults", 70, "speed_of_trl", settings={"variant": "trl"}),
    Part("graphs", "this project, CUDA graphs", 110, "speed", settings={"compile": "graphs"}),
    Part("pytest", "pytest -m gpu", 90, "marked_tests", model=""),
    Part("resume", "resume bit for bit with full_determinism", 75, "resume", model="small"),
    Part("shortage", "out of memory, then shorter rows", 60, "shortage", model="small"),
    Part("ways", "all weights, fp16, 4 bits, recomputed: which path", 120, "ways", model="small"),
    Part("4b-compiled", "this project, compiled layers", 120, "speed", model="4B", settings={"compile": "layers"}),
    Part("4b", "this project, eager", 75, "speed", model="4B", settings={"compile": "off"}),
    Part("4b-trl-tuned", "TRL tuned", 75, "speed_of_trl", model="4B", settings={"variant": "trl tuned"}),
    Part("long", "long prompts, gradient checkpointing", 60, "speed", settings={"shape": "long prompt", "recompute": True}),
)
# Not a part of its own: the second process of ``resume``.
HIDDEN: Final = (Part("resumed", "", 60, "resumed", model="small"),)


def names(*, hidden: bool = False) -> list[str]:
    return [part.name for part in (*PARTS, *(HIDDEN if hidden else ()))]


def part_of(name: str) -> Part:
    return next(part for part in (*PARTS, *HIDDEN) if part.name == name)
