"""The reference that ``sync_ref_model`` moves: saved in every checkpoint, because no cache and no base model has its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from launcher.errors import Warned

FILE: Final = "reference/weights.safetensors"  # below: servers load every *.safetensors beside a model's weights


def keep_reference(trainer: Any, folder: Path) -> None:
    """Writes the reference's weights into the checkpoint ``folder``, if the reference moves."""
    if trainer.args.sync_ref_model and trainer.args.should_save:
        (folder / FILE).parent.mkdir(exist_ok=True)
        save_file({name: weight.contiguous() for name, weight in _weights(trainer).items()}, folder / FILE)


def take_reference(trainer: Any, checkpoint: Path) -> list[str]:
    """Loads the reference's weights from ``checkpoint``; warns if an earlier version left them out."""
    if not trainer.args.sync_ref_model:
        return []
    if not (checkpoint / FILE).is_file():
        what = "lacks the reference that sync_ref_model had moved: it starts again from the weights before the training"
        return [Warned(f"{checkpoint} {what}")]
    saved = load_file(checkpoint / FILE)
    with torch.no_grad():
        for name, weight in _weights(trainer).items():
            weight.copy_(saved[name])
    return []


def _weights(trainer: Any) -> dict[str, torch.Tensor]:
    """Each once, also where embedding and head are one."""
    return {name: p.data for name, p in trainer.accelerator.unwrap_model(trainer.ref_model).named_parameters()}
