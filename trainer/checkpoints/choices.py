"""What a resumed run computes otherwise than the run of its checkpoint, though its settings may differ in that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from launcher.errors import ExperimentError, Mistake, Warned
from launcher.experiment.other_tools.trl_fields import BATCHED
from launcher.experiment.schema import Experiment

from .remembered import MICRO, PATH, remembered

_ROUNDS = "sums round differently, and the result is not bit for bit that of an uninterrupted run"


def other_choices(experiment: Experiment, checkpoint: Path | None, micro: int) -> Iterator[str]:
    """A sentence for another path, and for micro-batches of another size, of ``micro`` pairs.

    Raises ExperimentError if a loss over a micro-batch would be another one. Where memory has run out it is only a warning.
    """
    h = experiment.hyperparameters
    path, before = remembered(checkpoint, PATH), remembered(checkpoint, MICRO)
    if h.dpo_path != "auto" and path not in (None, h.dpo_path):
        yield f"dpo_path: {h.dpo_path}, but the checkpoint's run took the {path} path: {_ROUNDS}"
    losses = ", ".join(name for name in h.loss_type if name in BATCHED)
    wanted = h.per_device_train_batch_size
    if losses and micro != wanted and micro != before:
        yield Warned(
            f"micro-batches of {micro} pairs, as memory has run out: loss_type {losses} compares fewer pairs with each other"
        )
    elif losses and before not in (None, micro):
        what = f"{checkpoint} was trained on other micro-batches, over which loss_type {losses} is another loss"
        hint = "restore the old value, or start over with resume_from_checkpoint: false"
        raise ExperimentError(Mistake("hyperparameters.per_device_train_batch_size", what, str(before), str(wanted), hint))
    elif path == "plain" and before not in (None, micro):
        yield f"micro-batches of {micro} pairs instead of {before} in the checkpoint's run: {_ROUNDS}"
