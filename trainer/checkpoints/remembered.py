"""Automatic choices of a run in its checkpoint's trainer_state.json: their names, and reading them back.

A resume repeats these choices, because others round differently.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

TOKENS: Final = "tokens"  # trained on so far
LOSSES: Final = "sum_of_losses"  # of all steps so far
PATH: Final = "dpo_path"  # the path that the run has taken
COMPILED: Final = "compiled_layers"  # whether its decoder layers are compiled; GRAPHED: and its rows replayed
GRAPHED: Final = "graphs"
CHECKPOINTING: Final = "gradient_checkpointing"  # whether it recomputes activations
BUDGETS: Final = "row_budgets"  # tokens of a row, by rank
MICRO: Final = "micro_batch"  # pairs that a rank computes at once on the plain path
PENDING: Final = "evaluation_is_pending"  # a stop cut the evaluation of the checkpoint's step short


def remembered(checkpoint: Path | None, name: str) -> Any:
    """The choice ``name`` in the checkpoint; None without a checkpoint or such a choice."""
    return None if checkpoint is None else (_state(checkpoint).get("stateful_callbacks") or {}).get(name)


def step_of(checkpoint: Path) -> int:
    """The step at which ``checkpoint`` was written, whatever its folder's name."""
    return int(_state(checkpoint)["global_step"])


def _state(checkpoint: Path) -> dict[str, Any]:
    return dict(json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8")))
