"""The reference's log-probabilities in a checkpoint: a resumed run has the same numbers, whatever has become of the cache.

Computed again, in other rows or on another machine, they round differently, and so would every later step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file, save_file
from torch import Tensor

from . import origin

FILE: Final = "reference/logps.safetensors"  # below: servers load every *.safetensors beside a model's weights


def keep_logps(trainer: Any, folder: Path) -> None:
    """Writes the log-probabilities into the checkpoint ``folder``; nothing if a run has none or computes them in every step."""
    if trainer.reference_logps and trainer.args.should_save:
        (folder / FILE).parent.mkdir(exist_ok=True)
        save_file({role: logps.contiguous() for role, logps in trainer.reference_logps.items()}, folder / FILE)


def kept_logps(checkpoint: Path | None, made_of: Mapping[str, Any], key: str) -> dict[str, Tensor]:
    """role -> [n, 2] float64, of ``train`` and ``validation``; without those of other pairs than a run of ``made_of`` has.

    Empty where the checkpoint holds none, or where ``key`` says that other numbers are wanted.
    """
    if checkpoint is None or not (checkpoint / FILE).is_file():
        return {}
    then = origin.read(checkpoint) or {}
    if then.get("reference") != key:
        return {}
    return {role: logps for role, logps in load_file(checkpoint / FILE).items() if then["data"][role] == made_of["data"][role]}
