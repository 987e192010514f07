"""Rewards of single pairs: a pass over data without gradients, on the run's path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..processes.ranks.sharding import stage as zero_stage
from ..step.batches.packing import rows_of
from ..step.dpo import DPOTrainer
from ..step.packed import Scored

Tell = Callable[[int], None]


def pair_rewards(trainer: DPOTrainer, *, train: bool, places: Sequence[int] | None = None, tell: Tell | None = None) -> Tensor:
    """[n, 2] float64 on the CPU, the same on all ranks: rewards of the (chosen, rejected) answers, in nats times beta.

    Of the validation pairs, or of the training pairs where ``train``; only ``places`` of them where given. ``tell`` takes how
    many pairs are done. A pass without gradients costs about a third of a pass of the training. All ranks must call this.
    """
    fast = trainer.fast
    data = None if fast is None else fast.train if train else fast.held_out
    source = trainer.train_dataset if train else trainer.eval_dataset
    wanted = list(range(len(source))) if places is None else list(places)
    trainer.model.eval()
    if callable(getattr(trainer.optimizer, "eval", None)):  # a schedule-free one keeps two sets of weights
        trainer.optimizer.eval()
    model = trainer.model_wrapped if zero_stage(trainer) else trainer.model
    found = torch.zeros(len(source), 2, dtype=torch.float64, device=trainer.accelerator.device)
    with torch.no_grad(), trainer.accelerator.autocast():
        if data is not None:
            _packed(trainer, model, data, wanted, found, tell)
        else:
            _plain(trainer, model, source, wanted, found, tell)
    return trainer.accelerator.reduce(found, reduction="sum")[wanted].cpu()


def _packed(trainer: DPOTrainer, model: Any, data: Scored, wanted: list[int], found: Tensor, tell: Tell | None) -> None:
    """Adds this rank's share to ``found``, [all pairs, 2]."""
    fast = trainer.fast
    assert fast is not None, "rows are the fast path's"
    for places, is_work, done in _shares(trainer, rows_of(data.pairs, fast.budget, tuple(wanted))):
        row = fast.packed.row(data.pairs, tuple(places)).to(found.device)
        logps = fast.packed(model, row)[0]
        if is_work:
            found[row.places] = trainer.beta * (logps - data.reference.index_select(0, row.places))
        if tell is not None:
            tell(done)


def _plain(trainer: DPOTrainer, model: Any, source: Any, wanted: list[int], found: Tensor, tell: Tell | None) -> None:
    """The same with TRL's own functions, from padded batches."""
    size = trainer.args.per_device_eval_batch_size
    batches = [wanted[begin : begin + size] for begin in range(0, len(wanted), size)]
    for places, is_work, done in _shares(trainer, batches):
        inputs = trainer._prepare_inputs(trainer.data_collator([source[place] for place in places]))
        with _as_policy(trainer):
            logps = torch.stack(trainer.compute_ref_log_probs(model, inputs), 1).double()
        if trainer.precompute_ref_logps:
            reference = torch.stack([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]], 1).double()
        else:
            called = model if trainer.ref_model is None else trainer.ref_model
            reference = torch.stack(trainer.compute_ref_log_probs(called, inputs), 1).double()
        if is_work:
            found[places] = trainer.beta * (logps - reference)
        if tell is not None:
            tell(done)


def _shares(trainer: DPOTrainer, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Sequence[int], bool, int]]:
    """This rank's batches, whether each is work, and how many pairs all ranks have seen after it. Where the weights are spread
    every rank has as many: some repeat another rank's for nothing.
    """
    here, world, done = trainer.args.process_index, trainer.args.world_size, 0
    for begin in range(0, len(batches), world):
        is_work = begin + here < len(batches)
        done += sum(map(len, batches[begin : begin + world]))
        if is_work or zero_stage(trainer) == 3:
            yield batches[begin + here if is_work else begin], is_work, done


@contextmanager
def _as_policy(trainer: DPOTrainer) -> Iterator[None]:
    """Keeps the adapter on: TRL's function for the reference switches it off if there is no second model."""
    before = trainer.ref_model
    trainer.ref_model = before if before is not None else trainer.model
    try:
        yield
    finally:
        trainer.ref_model = before
