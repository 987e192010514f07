"""Chooses a run's path: packed rows if model and settings allow it and the first pairs confirm it, else TRL's own step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from torch import Tensor
from trl import DPOConfig

from launcher.errors import ExperimentError, Mistake
from launcher.planning.rows import Rows

from ...inputs.models.model import Precision
from ...inputs.tokens.token_pairs import TokenPairs
from ...inputs.tokens.tokens import Tokens
from ...output import say, stage
from ...processes.ranks.sharding import callable_model
from ...processes.ranks.sharding import stage as zero_stage
from ...reference.identity import reference_key
from ...reference.reference import Score, reference_logps
from ..compiling.graphs import RowGraphs
from ..dpo import DPOTrainer, Interrupted
from ..loss.first import LEAST
from ..memory import row_budget
from ..packed import Fast, Packed, Scored, why_plain
from .comparison import COMPARED, features, tried

Kept = Callable[[str], Mapping[str, Tensor]]
_ROLES: Final = ("train", "validation")
ROWS: Final = 16  # pairs per call of the reference pass, enough to fill rows well


@dataclass(frozen=True)
class Choice:
    """A run's path, and the sentence that reports it."""

    packed: Packed | None  # None for the plain path
    budget: int  # maximum tokens of a row
    sentence: str
    rows: str | None = None  # row lengths, if free memory decides them
    is_compiled: bool = False  # whether decoder layers are compiled, see ``layers``
    graphs: RowGraphs | None = None  # CUDA graphs that replay the rows of a step, see ``replayed``

    @property
    def path(self) -> str:
        return "plain" if self.packed is None else "fast"


def choose_path(
    trainer: DPOTrainer,
    wanted: str,
    tokens: Tokens,
    remembered: str | None,
    budgets: Sequence[int | None] | None = None,
    rows: Rows | None = None,
) -> Choice:
    """The path for ``wanted`` (auto, fast or plain).

    ``remembered`` and ``budgets``: path, and maximum tokens of a row by rank, of the checkpoint to resume from. ``rows``: as a
    GPU's memory allows them. Raises ExperimentError if ``fast`` is not possible.
    """
    budget = row_budget(tokens.pairs, trainer.args.per_device_train_batch_size, trainer.model, trainer.accelerator.device, rows)
    if budgets is not None and None not in budgets:
        here = trainer.args.process_index
        # Never more than now: memory may have run out since the checkpoint, which makes the micro-batch smaller.
        budget = min(budget, budgets[here] if len(budgets) == trainer.args.world_size else min(budgets))
    if wanted == "plain":
        return Choice(None, budget, "plain path: dpo_path is plain")
    if wanted == "auto" and remembered == "plain":
        return Choice(None, budget, "plain path: as in the run of the checkpoint")
    why = _why_batches(trainer) or why_plain(trainer.model, trainer.args, tokens.longest, tokens.pairs.answers)
    if why is None:
        packed, found = tried(trainer, tokens, budget, is_known=remembered == "fast")
        if packed is not None:
            together = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
            fitted = packed.fit(tokens.pairs, together, budget)
            return Choice(packed, fitted, f"fast path on: {found}", _rows(packed, budget, rows))
        why = found
    if wanted == "fast":
        raise ExperimentError(
            Mistake("hyperparameters.dpo_path", "the fast path is not possible here", "auto or plain", "fast", why)
        )
    return Choice(None, budget, f"plain path: {why}")


def _rows(packed: Packed, budget: int, rows: Rows | None) -> str | None:
    if rows is None or not rows.by_memory or packed.kind != "flex_attention":
        return None
    return rows.sentence if budget == rows.tokens else f"rows of up to {budget:,} tokens: as in the run of the checkpoint"


def _why_batches(trainer: DPOTrainer) -> str | None:
    """Why the given data need TRL's own evaluation."""
    if trainer.compute_metrics is not None:
        return "compute_metrics needs the logits of whole sequences"
    return "several evaluation sets are evaluated one by one" if isinstance(trainer.eval_dataset, dict) else None


def take_path(
    trainer: DPOTrainer,
    choice: Choice,
    precision: Precision,
    identity: str,
    data: Sequence[tuple[str, Tokens]],
    cache: Path,
    kept: Kept = lambda key: {},
) -> str | None:
    """Switches ``trainer`` to the chosen path, and gives it the reference's log-probabilities for the pairs of ``data``.

    Returns their key; None if the reference is computed in every step, or the method has none. ``data``: (file name, pairs) of
    the training pairs and of validation pairs, if any. ``identity``: of the base weights. ``kept``: key -> log-probabilities in
    a checkpoint.
    """
    trainer.culprits.name_rows(data[0][0], data[0][1].pairs)
    if not trainer.has_reference:
        if choice.packed is not None:
            _pack(trainer, choice, [(tokens.pairs, torch.zeros(len(tokens.pairs), 2, dtype=torch.float64)) for _, tokens in data])
        return None
    if not is_fixed(trainer.args):
        return None  # the plain path computes a reference that moves or depends on pairs in every step
    pairs = [(source, tokens.pairs) for source, tokens in data]
    key, logps = _reference(trainer, choice, precision, identity, pairs, cache, kept)
    trainer.reference_logps = dict(zip(_ROLES, logps, strict=False))
    if choice.packed is not None:
        _pack(trainer, choice, [(tokens.pairs, numbers) for (_, tokens), numbers in zip(data, logps, strict=True)])
        return key
    trainer.precompute_ref_logps = True
    datasets = [tokens.dataset(numbers) for (_, tokens), numbers in zip(data, logps, strict=True)]
    trainer.train_dataset, trainer.eval_dataset = datasets[0], (datasets[1] if len(datasets) > 1 else None)
    return key


def _pack(trainer: DPOTrainer, choice: Choice, data: Sequence[tuple[TokenPairs, Tensor]]) -> None:
    """Switches ``trainer`` to packed rows of (pairs, reference log-probabilities), training pairs first."""
    assert choice.packed is not None, "rows are the fast path's"
    train, *held_out = [Scored(pairs, numbers.to(trainer.accelerator.device)) for pairs, numbers in data]
    trainer.take_fast_path(
        Fast(choice.packed, choice.budget, train, held_out[0] if held_out else None, choice.is_compiled, choice.graphs)
    )


def _reference(
    trainer: DPOTrainer,
    choice: Choice,
    precision: Precision,
    identity: str,
    data: Sequence[tuple[str, TokenPairs]],
    cache: Path,
    kept: Kept,
) -> tuple[str, list[Tensor]]:
    """(their key, for each (source, pairs) of ``data`` the reference's log-probabilities, [n, 2] float64).

    Taken from the checkpoint or the cache if possible. Otherwise the untrained model is the reference: with a new adapter
    disabled, or as a whole, or with the adapter that training starts from, before the first step and before a checkpoint is
    loaded.
    """
    rank = trainer.args.process_index
    key = _gather(_key(trainer, choice, precision, identity) if rank == 0 else None)[0]
    known = _gather(kept(key) if rank == 0 else None)[0]
    with as_reference(trainer) as called:
        found = []
        for role, (source, pairs) in zip(_ROLES, data, strict=False):
            if role in known:
                found.append(known[role])
                if rank == 0:
                    say(f"reference: {len(pairs):,} of {len(pairs):,} pairs from the checkpoint")
            else:
                found.append(_computed(trainer, choice, partial(score, trainer, called, choice), key, source, pairs, cache))
        return key, found


def _computed(
    trainer: DPOTrainer, choice: Choice, scored: Score, key: str, source: str, pairs: TokenPairs, cache: Path
) -> Tensor:
    """The reference's log-probabilities of ``pairs``, [n, 2] float64: from the cache, or from ``scored``."""
    with stage("computing the reference") as progress:
        reference = reference_logps(
            pairs,
            score=scored,
            key=key,
            cache=cache,
            budget=min(_gather(choice.budget)) * ROWS,  # after running out of memory a rank has shorter rows
            source=source,
            rank=trainer.args.process_index,
            world=trainer.args.world_size,
            gather=_gather,
            say=say,
            progress=partial(progress.at, unit="pairs"),
        )
    return reference.logps


def rounding(trainer: DPOTrainer, choice: Choice, tokens: Tokens) -> float:
    """Expected error of a log-probability by rounding alone, in nats per square root of a token.

    Twice what the first pairs show when computed together and separately, but at least what the step's precision makes likely.
    """
    pairs, args = tokens.pairs[:COMPARED], trainer.args
    least = LEAST[torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32]
    with as_reference(trainer) as called:
        together = score(trainer, called, choice, pairs)
        alone = torch.cat([score(trainer, called, choice, pairs[n : n + 1]) for n in range(len(pairs))])
    counts = torch.tensor(pairs.lengths[:, 1:])
    return max(least, *_gather(2 * float(((together - alone).abs() / counts.sqrt()).max())))


@contextmanager
def as_reference(trainer: DPOTrainer) -> Iterator[Any]:
    """The model to call for the reference's log-probabilities."""
    trainer.model.eval()
    with callable_model(trainer) as called, _at_start(trainer), trainer.accelerator.autocast(), torch.no_grad():
        yield called


@contextmanager
def _at_start(trainer: DPOTrainer) -> Iterator[None]:
    """During the block the untrained model is what training starts from."""
    if not isinstance(trainer.model, PeftModel):
        yield
    elif not trainer.is_continued:
        with trainer.model.disable_adapter():
            yield
    else:
        before, trainer.ref_model = trainer.ref_model, trainer.model  # otherwise TRL's function would disable the adapter
        try:
            yield
        finally:
            trainer.ref_model = before


def _gather(value: Any) -> list[Any]:
    return gather_object([value])


def _key(trainer: DPOTrainer, choice: Choice, precision: Precision, identity: str) -> str:
    config = trainer.model.config
    quantization = getattr(config, "quantization_config", None)
    return reference_key(
        identity,
        precision=precision,
        quantization=quantization.to_dict() if quantization is not None else None,
        attention=config._attn_implementation,
        path="plain" if choice.packed is None else "packed",
        device=trainer.accelerator.device.type,
        tf32=torch.backends.cuda.matmul.allow_tf32,
        **({"layers": "compiled"} if choice.is_compiled else {}),
        **({"last_layer": "answers, eager"} if choice.packed is not None and choice.packed.last.is_shorter else {}),
        **({"head": "frozen"} if choice.packed is not None and choice.packed.has_frozen_head else {}),
    )


def is_fixed(args: DPOConfig) -> bool:
    """Whether the reference gives an answer the same log-probability in every step and pair."""
    return not args.sync_ref_model and args.ld_alpha is None


def score(trainer: DPOTrainer, called: Any, choice: Choice, pairs: TokenPairs) -> Tensor:
    """[n, 2] log-probabilities. With sharded weights all ranks make the same number of passes. Raises Interrupted."""
    if trainer.is_stop_wanted():
        raise Interrupted
    if choice.packed is not None:
        rows = [(list(row.pairs), row) for row in choice.packed.pack(pairs, choice.budget)]
    else:
        size = trainer.args.per_device_train_batch_size
        places = [list(range(begin, min(begin + size, len(pairs)))) for begin in range(0, len(pairs), size)]
        rows = [(some, None) for some in places]
    count = max(gather_object([len(rows)])) if zero_stage(trainer) == 3 else len(rows)
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
