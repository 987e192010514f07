"""The learning rate of a resumed run: from its own schedule at its step, not from the checkpoint's schedule."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LambdaLR


def follow(scheduler: Any, optimizer: Any) -> None:
    """Sets the rate of the next step from ``scheduler``, into which a checkpoint's state was loaded.

    A checkpoint holds the rate of its own schedule. Where the run is longer or shorter than the checkpoint's, the first step
    would use that rate, which is 0 at the old schedule's end. The rate is computed as ``LambdaLR.get_lr`` does, and for a
    schedule of the same length it is the checkpoint's to the bit. A schedule that reacts to the loss is no function of the
    step: it keeps what the checkpoint has.
    """
    if not isinstance(scheduler, LambdaLR):
        return
    step = scheduler.last_epoch
    rates = [base * factor(step) for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
    scheduler._last_lr = rates
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
