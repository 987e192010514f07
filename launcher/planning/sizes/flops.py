"""Flops: the additions and multiplications of a run. Pure."""

from __future__ import annotations

from ...experiment.sections.hyperparameters import Hyperparameters
from ..tokens.work import Work
from .adapter import Adapter
from .model_config import ModelConfig
from .state import moves_reference


def training(h: Hyperparameters, config: ModelConfig, work: Work, packed: bool, recompute: bool, passes: float) -> float:
    """Additions and multiplications of ``passes`` epochs and of the reference's one, which SFT does not have.

    Forward is 2 a weight and token. Backward is 2 for the gradients of the inputs and, where weights are trained, 2 for theirs
    (Kaplan et al., arXiv 2001.08361, section 2.1). The head computes its tiles again in the backward pass, unless rows are packed
    and it is not trained (``trainer.step.forward.head``).
    """
    tokens = work.packed if packed else work.tokens
    full = h.full_finetuning
    body, head, attention = passed = forward(config, work, packed)
    adapter = 0.0 if full else _adapter(Adapter(h, config), work, tokens)
    again = 1 if recompute else 0
    products = 4 if full else 2 if packed and Adapter(h, config).has_frozen_head else 3
    step = (3 if full else 2) * body + again * body + products * head + adapter + (3 + again) * attention
    return step * passes + sum(passed) * (0 if work.sequences == 1 else passes if moves_reference(h) else 1)


def _adapter(adapter: Adapter, work: Work, tokens: int) -> float:
    """Additions and multiplications of an epoch in what an adapter adds to the model.

    DoRA sends the identity through A and B for the weights that they make, once a row: at most once a pair. A copy of the head
    needs its gradient; one of the embedding costs nothing.
    """
    rebuilt = sum(2.0 * one.inputs * r * (one.inputs + one.outputs) for one, r in adapter.dense) * work.pairs
    head = 2.0 * adapter.config.embedding * work.answers if adapter.trains_head else 0.0
    return 6.0 * adapter.matrices * tokens + head + (rebuilt if adapter.h.use_dora else 0.0)


def evaluating(config: ModelConfig, work: Work, packed: bool, evaluations: int) -> float:
    """Additions and multiplications of the evaluations, and of the reference's pass before them, by the mean training pair."""
    of_reference = work.sequences - 1
    passes = evaluations + of_reference if evaluations else 0
    return sum(forward(config, work, packed)) * work.held_out / max(1, work.pairs) * passes


def forward(config: ModelConfig, work: Work, packed: bool) -> tuple[float, float, float]:
    """Additions and multiplications of a forward pass over all pairs: in the layers' weights, the head, and attention."""
    length = work.tokens / max(1, work.sequences * work.pairs)
    attention = 2.0 * config.layers * config.queries * length * work.tokens  # causal: half of 4 · width · length a token
    return (
        2.0 * config.active_weights * (work.packed if packed else work.tokens),
        2.0 * config.embedding * work.answers,
        attention,
    )
