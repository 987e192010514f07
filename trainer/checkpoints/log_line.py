"""What the next line of the log averages, in a checkpoint: a resumed run writes the lines of an uninterrupted one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor

from launcher.errors import Warned

FILE: Final = "log/line.safetensors"  # below: servers load every *.safetensors beside a model's weights
_STEP: Final = "step"  # of the last line
_TOTAL: Final = "sum_of_losses"  # of the steps up to that line
_OWN: Final = "own_loss"  # of a rank: transformers' sum of its losses since


def keep_line(trainer: Any, folder: Path) -> None:
    """Writes each rank's sums since the last line into the checkpoint ``folder``; all ranks must come here."""
    mine = {_OWN: trainer._tr_loss.detach(), **trainer.line_sums()}
    every = gather_object([{name: tensor.cpu() for name, tensor in mine.items()}])
    if not trainer.args.should_save:
        return
    found = {f"{rank}/{trainer.path}/{name}": tensor for rank, sums in enumerate(every) for name, tensor in sums.items()}
    found[_STEP] = torch.tensor(trainer._globalstep_last_logged)
    found[_TOTAL] = torch.tensor((trainer._losses_before or 0.0) + trainer._total_loss_scalar, dtype=torch.float64)
    (folder / FILE).parent.mkdir(exist_ok=True)
    save_file(found, folder / FILE)


def take_line(trainer: Any, checkpoint: Path) -> list[str]:
    """Goes on with the sums in ``checkpoint``; warns if it has none of this path, and the next line lacks steps.

    With another number of ranks the first one has the sums of all.
    """
    saved = load_file(checkpoint / FILE) if (checkpoint / FILE).is_file() else {}
    sums = _by_rank(saved, trainer.path)
    if not sums:
        step = trainer.state.global_step
        last = max((line["step"] for line in trainer.state.log_history if "loss" in line), default=0)
        what = f"the next line of the log averages the steps from {step + 1}, not from {last + 1}: {checkpoint.name}"
        return [Warned(f"{what} has no sums of the {trainer.path} path")] if last < step else []
    losses = torch.stack([own.pop(_OWN) for own in sums])
    here = trainer.args.process_index
    if trainer.args.world_size == len(sums):
        trainer._tr_loss.copy_(losses[here])
        trainer.take_line_sums([sums[here]])
    else:
        trainer._tr_loss.copy_(losses.mean())  # the log has the mean over the ranks
        trainer.take_line_sums(sums if here == 0 else [])
    trainer._globalstep_last_logged = int(saved[_STEP])
    if trainer._losses_before is not None:
        trainer._losses_before, trainer._total_loss_scalar = 0.0, float(saved[_TOTAL])
    return []


def _by_rank(saved: dict[str, Tensor], path: str) -> list[dict[str, Tensor]]:
    """The sums of each rank, by their names."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in saved.items():
        rank, _, rest = name.partition("/")
        if rest.startswith(f"{path}/"):
            found.setdefault(int(rank), {})[rest.removeprefix(f"{path}/")] = tensor
    return [found[rank] for rank in sorted(found)]
