"""What a finished run has learned, in a few lines, and what to type next."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_FIGURES = (
    ("eval_rewards/accuracies", "accuracy", ".2f", "share of pairs in which the chosen answer gained more than the rejected one"),
    ("eval_rewards/margins", "margin", "+z.3f", "how much more it gained: beta × the log-probability ratio"),
    ("eval_loss", "loss", "z.4f", "ln 2 = 0.6931 is no preference at all"),
)


def learned(place: str, record: Mapping[str, Any], steps: Sequence[str]) -> Iterator[str]:
    """Lines about the validation figures before and after, the adapter, and the next commands.

    ``place`` is the folder of the run; on a cluster nothing may be known of its ``record``. ``steps`` is what comes next.
    """
    result = record.get("result", {})
    before, after = result.get("before"), result.get("after")
    if before and after:
        yield "learned, on validation pairs that were not trained on:"
        yield f"  {'':<10}{'before':>8}{'after':>9}"
        for name, label, spec, meaning in _FIGURES:
            if name in before and name in after:
                yield f"  {label:<10}{format(before[name], spec):>8}{format(after[name], spec):>9}   {meaning}"
        if abs(before.get("eval_rewards/margins", 1)) < 1e-4:
            yield "  (before: a fresh adapter changes nothing, so no pair has a margin)"
    yield f"adapter  {place}/adapter{_verified(result)}"
    uploaded = record.get("uploaded")
    if uploaded:
        yield f"uploaded {uploaded['uri']}"
    yield "next"
    for step in steps:
        yield f"  {this_launcher()} {step}"


def this_launcher() -> str:
    """The word that starts this program again: its path, where a shell would not find it by name."""
    called = Path(sys.argv[0])
    if called.name != "launcher" or shutil.which("launcher") == str(called.absolute()):
        return "launcher"
    return min(os.path.relpath(called), str(called.absolute()), key=len)


def _verified(result: Mapping[str, Any]) -> str:
    tensors = result.get("verified", {}).get("tensors")
    return "" if tensors is None else f" ({tensors} tensors, read back and compared)"
