"""Which path a run takes: packed rows where model and settings allow it and the first pairs bear it out, else TRL's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from torch import Tensor
from trl import DPOConfig

from launcher.errors import ExperimentError, Mistake, Stopped

from ..inputs.model import Precision
from ..inputs.tokens import TokenPair, Tokens
from ..processes.sharding import callable_model, stage
from ..reference.identity import reference_key
from ..reference.reference import reference_logps
from .dpo import DPOTrainer, Fast, Scored
from .losses import Ratios, pair_losses
from .packed import Packed, attention, row_budget, why_plain
from .packing import pack

ROWS: Final = 16  # a call of the reference pass: enough of them to fill rows well
COMPARED: Final = 2  # pairs: enough for a row with two of them, and for two rows


@dataclass(frozen=True)
class Choice:
    """The path of a run, and the sentence that says it."""

    packed: Packed | None  # None: the plain path
    budget: int  # tokens of a row
    sentence: str

    @property
    def path(self) -> str:
        return "plain" if self.packed is None else "fast"


@dataclass(frozen=True)
class Difference:
    """How far the packed path is from the plain one on the same pairs."""

    logps: float  # nats, the largest of any answer, divided by the square root of its tokens
    loss: float  # absolute
    gradient: float | None  # of the norms over all trained weights, relative to the plain one; None where they are spread

    def beyond(self, *, half: bool) -> bool:
        """Whether the paths do not compute the same.

        Rounding errors of single tokens add up as their square root: about 1e-6 nats a token in fp32 and some 1e-2 in 16 bits,
        while a token that saw what it must not, or not what it must, is off by about one.
        """
        logps, loss, gradient = (0.1, 0.05, 0.1) if half else (1e-4, 1e-4, 1e-3)
        is_near = self.logps <= logps and self.loss <= loss
        return not (is_near and (self.gradient is None or self.gradient <= gradient))

    def __str__(self) -> str:
        found = f"log-probabilities differ by {self.logps:.1e} a root token, loss by {self.loss:.1e}"
        if self.gradient is None:
            return f"{found}; gradients were not compared, as the weights are spread over the ranks"
        return f"{found}, gradient by {self.gradient:.1e}"


def choose_path(
    trainer: DPOTrainer, wanted: str, tokens: Tokens, remembered: str | None, budgets: Sequence[int | None] | None = None
) -> Choice:
    """The path for ``wanted`` (auto, fast or plain).

    ``remembered`` and ``budgets``: path, and tokens of a row by rank, of the checkpoint that the run goes on from. Raises
    ExperimentError where ``fast`` cannot be had.
    """
    device = trainer.accelerator.device
    budget = row_budget(tokens.pairs, trainer.args.per_device_train_batch_size, device)
    if budgets is not None and None not in budgets:
        here = trainer.args.process_index
        # Never more than now: memory may have run out since the checkpoint, and the micro-batch is smaller.
        budget = min(budget, budgets[here] if len(budgets) == trainer.args.world_size else min(budgets))
    if wanted == "plain":
        return Choice(None, budget, "plain path: dpo_path asks for it")
    if wanted == "auto" and remembered == "plain":
        return Choice(None, budget, "plain path: the checkpoint's run took it")
    why = why_plain(trainer.model, trainer.args, tokens.longest)
    if why is None:
        packed, found = _tried(trainer, tokens, budget, is_known=remembered == "fast")
        if packed is not None:
            return Choice(packed, budget, f"fast path: rows of at most {budget} tokens, every prompt once; {found}")
        why = found
    if wanted == "fast":
        raise ExperimentError(
            Mistake("hyperparameters.dpo_path", "the fast path cannot be taken here", "auto or plain", "fast", why)
        )
    return Choice(None, budget, f"plain path: {why}")


def _tried(trainer: DPOTrainer, tokens: Tokens, budget: int, *, is_known: bool) -> tuple[Packed | None, str]:
    """The packed forward pass if it computes what the plain one does, and how far they are apart."""
    model = trainer.model.get_base_model() if isinstance(trainer.model, PeftModel) else trainer.model
    before = model.config._attn_implementation
    if is_known:
        model.set_attn_implementation(attention(trainer.accelerator.device))
        return Packed(trainer.model), "as the checkpoint's run"
    pairs = tokens.pairs[:COMPARED]
    with callable_model(trainer) as called:
        return _compared(trainer, called, model, before, pairs, budget)


def _compared(
    trainer: DPOTrainer, called: Any, model: Any, before: str, pairs: Sequence[TokenPair], budget: int
) -> tuple[Packed | None, str]:
    """As ``_tried``, by calling ``called``; ``before``: the attention that ``model`` came with."""
    reference, gradient = _plain(trainer, called, pairs)
    packed = Packed(trainer.model)
    try:
        model.set_attn_implementation(attention(trainer.accelerator.device))
        difference = _compare(trainer, called, packed, pairs, budget, reference, gradient)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:  # whatever a model's own code makes of the mask
        difference, why = None, f"the packed forward pass failed: {str(error).splitlines()[0]}"
    else:
        why = str(difference)
    half = trainer.args.bf16 or trainer.args.fp16 or model.dtype != torch.float32
    verdicts = gather_object([difference is None or difference.beyond(half=half)])  # one path for all ranks
    if not any(verdicts):
        return packed, why
    packed.remove()
    model.set_attn_implementation(before)
    return None, why if difference is None else f"the packed path does not compute the same on the first pairs: {why}"


def _plain(trainer: DPOTrainer, called: Any, pairs: Sequence[TokenPair]) -> tuple[Tensor, float | None]:
    """([n, 2] log-probabilities as TRL computes them, the norm of the gradient of their loss; None where weights are spread)."""
    inputs = trainer._prepare_inputs(trainer.data_collator([features(pair) for pair in pairs]))
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    has_gradient = stage(trainer) < 3  # an engine without an optimizer has none
    with trainer.accelerator.autocast(), torch.set_grad_enabled(has_gradient):
        output = called(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=labels,
            fused_lm_head=True,
            use_cache=False,
        )
    logps = output.log_probs.double().sum(1).view(2, -1).T
    if not has_gradient:
        return logps, None
    _loss(trainer, logps, logps.detach(), pairs).backward()
    return logps.detach(), _norm(trainer)


def _compare(
    trainer: DPOTrainer,
    called: Any,
    packed: Packed,
    pairs: Sequence[TokenPair],
    budget: int,
    reference: Tensor,
    gradient: float | None,
) -> Difference:
    """The packed pass over ``pairs``, its loss against the plain pass's log-probabilities, and its gradient."""
    logps = torch.empty_like(reference)
    for row in pack(pairs, budget):
        places = list(row.pairs)
        with trainer.accelerator.autocast(), torch.set_grad_enabled(gradient is not None):
            sums, _ = packed(called, row.to(reference.device))
        weight = len(places) / len(pairs)
        if gradient is not None:
            (_loss(trainer, sums, reference[places], [pairs[place] for place in places]) * weight).backward()
        logps[places] = sums.detach()
    tokens = torch.tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs], device=reference.device)
    expected = _loss(trainer, reference, reference, pairs)
    return Difference(
        logps=float(((logps - reference).abs() / tokens.sqrt()).max()),
        loss=float((_loss(trainer, logps, reference, pairs) - expected).abs()),
        gradient=None if gradient is None else abs(_norm(trainer) - gradient) / (gradient or 1.0),
    )


def _loss(trainer: DPOTrainer, logps: Tensor, reference: Tensor, pairs: Sequence[TokenPair]) -> Tensor:
    """The mean loss of ``pairs``."""
    tokens = torch.tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs], device=logps.device)
    ratios = logps - reference
    return pair_losses(trainer.args, Ratios(ratios[:, 0], ratios[:, 1], tokens[:, 0], tokens[:, 1])).mean()


def _norm(trainer: DPOTrainer) -> float:
    """The norm of the gradient, which is taken away."""
    gradients = [p.grad.double().norm() for p in trainer.model.parameters() if p.grad is not None]
    trainer.model.zero_grad()
    return float(torch.stack(gradients).norm()) if gradients else 0.0


def features(pair: TokenPair) -> dict[str, list[int]]:
    """A pair as TRL's collator takes it."""
    return {"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected}


def take_path(
    trainer: DPOTrainer,
    choice: Choice,
    precision: Precision,
    identity: str,
    data: Sequence[tuple[str, Tokens]],
    cache: Path,
) -> str | None:
    """Turns ``trainer`` to the path that was chosen, and gives it the reference's numbers of the pairs that ``data`` holds.

    Returns the key of these numbers, None where the reference is computed in every step.

    ``data``: (file's name, pairs) of the training, and of the pairs held out where there are any. ``identity`` names the base
    weights.
    """
    trainer.name_rows(data[0][0], data[0][1].pairs)
    if not is_fixed(trainer.args):
        return None  # the plain path computes a reference that moves, or that depends on pairs, in every step
    key, logps = _reference(trainer, choice, precision, identity, [(source, tokens.pairs) for source, tokens in data], cache)
    if choice.packed is not None:
        train, *held_out = [Scored(tokens.pairs, numbers) for (_, tokens), numbers in zip(data, logps, strict=True)]
        trainer.take_fast_path(Fast(choice.packed, choice.budget, train, held_out[0] if held_out else None))
        return key
    trainer.precompute_ref_logps = True
    datasets = [tokens.dataset(numbers) for (_, tokens), numbers in zip(data, logps, strict=True)]
    trainer.train_dataset, trainer.eval_dataset = datasets[0], (datasets[1] if len(datasets) > 1 else None)
    return key


def _reference(
    trainer: DPOTrainer,
    choice: Choice,
    precision: Precision,
    identity: str,
    data: Sequence[tuple[str, Sequence[TokenPair]]],
    cache: Path,
) -> tuple[str, list[Tensor]]:
    """(the numbers' key, for each (source, pairs) of ``data`` the reference's log-probabilities, [n, 2] float64).

    They come from the cache where it has them.

    The model is the reference as long as it is not trained: with the adapter switched off, or all of it before the first step
    and before a checkpoint is loaded.
    """
    gather = lambda value: gather_object([value])  # noqa: E731
    config, rank = trainer.model.config, trainer.args.process_index
    quantization = getattr(config, "quantization_config", None)
    key = None
    if rank == 0:
        key = reference_key(
            identity,
            precision=precision,
            quantization=quantization.to_dict() if quantization is not None else None,
            attention=config._attn_implementation,
            path="plain" if choice.packed is None else "packed",
            device=trainer.accelerator.device.type,
            tf32=torch.backends.cuda.matmul.allow_tf32,
        )
    key = gather(key)[0]
    trainer.model.eval()
    off = trainer.model.disable_adapter() if isinstance(trainer.model, PeftModel) else nullcontext()
    with callable_model(trainer) as called, off, trainer.accelerator.autocast(), torch.no_grad():
        return key, [
            reference_logps(
                pairs,
                score=partial(score, trainer, called, choice),
                key=key,
                cache=cache,
                budget=choice.budget * ROWS,
                source=source,
                rank=rank,
                world=trainer.args.world_size,
                gather=gather,
                say=lambda line: print(line, flush=True),  # noqa: T201 - the launcher follows the rank's output
            ).logps
            for source, pairs in data
        ]


def is_fixed(args: DPOConfig) -> bool:
    """Whether the reference says one number of an answer, whatever step and pair it stands in."""
    return not args.sync_ref_model and args.ld_alpha is None


def score(trainer: DPOTrainer, called: Any, choice: Choice, pairs: Sequence[TokenPair]) -> Tensor:
    """[n, 2] log-probabilities; where weights are spread, all ranks make the same number of passes."""
    if trainer.is_stop_wanted():
        raise Stopped("stopped before the first step; what was computed of the reference is kept")
    if choice.packed is not None:
        rows = [(list(row.pairs), row) for row in pack(pairs, choice.budget)]
    else:
        size = trainer.args.per_device_train_batch_size
        places = [list(range(begin, min(begin + size, len(pairs)))) for begin in range(0, len(pairs), size)]
        rows = [(some, None) for some in places]
    count = max(gather_object([len(rows)])) if stage(trainer) == 3 else len(rows)
    scores = torch.empty(len(pairs), 2, dtype=torch.float64)
    for number in range(count):
        places, row = rows[min(number, len(rows) - 1)]
        if row is not None:
            found = choice.packed(called, row.to(trainer.accelerator.device))[0]
        else:
            inputs = trainer._prepare_inputs(trainer.data_collator([features(pairs[place]) for place in places]))
            found = torch.stack(trainer.compute_ref_log_probs(called, inputs), 1)
        scores[places] = found.double().cpu()
    return scores
