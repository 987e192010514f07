"""The packed forward pass: log-probabilities of answers, from rows in which a pair's prompt stands once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers.utils import ModelOutput
from trl import DPOConfig

from launcher.experiment.other_tools.trl_fields import trl_fields, why_not_fast

from ..inputs.models.dropout import drawn
from ..inputs.tokens.token_pairs import TokenPairs
from .batches.buckets import Buckets
from .batches.packing import Row, pack_row, packed_lengths, rows_of
from .compiling.compiled import decoder_layers
from .compiling.graphs import RowGraphs
from .forward.attention import SEGMENTS, attention, mask, refuse_dense_fallback
from .forward.head import Logits, frozen_head, is_frozen
from .forward.last import LastLayer
from .forward.windows import masks, takes_rows, windows
from .forward.windows import place as place_windows
from .forward.windows import remove as remove_windows


class Packed:
    """Runs rows through a causal language model that TRL has given its fused head (``trl.trainer.utils.add_fused_lm_head``).

    The head computes only the places that predict a token of an answer, without the masks of TRL's own forward, each of which
    would wait for a GPU. A frozen head is computed by ``head``. The model may be wrapped by DDP.
    """

    def __init__(self, model: Any, kind: str | None = None, within: AbstractContextManager[None] | None = None):
        """``kind``: of its ``attention``; None takes what fits the device and the model. ``within``: entered for each row."""
        self._within = nullcontext() if within is None else within
        self._causal = model.get_base_model() if isinstance(model, PeftModel) else model
        self._device = next(self._causal.parameters()).device
        self.kind = kind or attention(self._device, self._causal)
        if self.kind == "flex_attention":
            refuse_dense_fallback()
        self.has_frozen_head = is_frozen(self._causal)
        self._layers = decoder_layers(self._causal)
        self.last = LastLayer(self._layers if self.kind == SEGMENTS else [])
        has_windows = takes_rows(self._causal, self._layers)
        self._windows = windows(self._causal) if has_windows else [0] * max(1, len(self._layers))
        self.buckets = Buckets(0)
        self._zeros = [torch.zeros(0, dtype=torch.float64, device=self._device)]
        self.place()

    @property
    def whole_layers(self) -> list[torch.nn.Module]:
        """The decoder layers that compute every token of a row, by one graph if they are compiled: on a CPU all but the last."""
        return self._layers[:-1] if self.last.is_shorter and len(self._layers) > 1 else self._layers

    def place(self) -> None:
        """Prepares the model to compute rows, until ``remove``."""
        self._before = self._causal.config._attn_implementation
        self._causal.set_attn_implementation(self.kind)
        self._fused = self._causal.forward
        self._causal.forward = MethodType(_forward(self._fused, self.has_frozen_head, self.last), self._causal)
        self.last.place()
        if self.window:
            place_windows(self._layers, self._windows)

    def remove(self) -> None:
        """Restores the model's attention and forward."""
        self._causal.set_attn_implementation(self._before)
        self._causal.forward = self._fused
        self.last.remove()
        remove_windows(self._layers)

    @contextmanager
    def removed(self) -> Iterator[None]:
        """A context in which the model is as before ``place``, for example to generate."""
        self.remove()
        try:
            yield
        finally:
            self.place()

    def __call__(self, model: Any, row: Row) -> tuple[Tensor, Head]:
        """([K, 2] float64: sums of the log-probabilities of (chosen, rejected); the head's figures, [n] each, with padding).

        K is k but for rows of a fixed shape, whose missing pairs have sums of 0.
        """
        with self._within:
            output = model(
                input_ids=row.input_ids[None],
                position_ids=row.position_ids[None],
                attention_mask=self._mask(row),
                row=row,
            )
        # float64: the margin is a difference of two sums over a thousand tokens, and would lose its digits in float32
        count, has_spare = 2 * row.slots, row.spare > 0 or row.room > 0  # a fixed shape has it with no place to spare, too
        sums = self._zeros_of(count + has_spare).index_add(0, row.answer, output.log_probs.double())
        return (sums[:count] if has_spare else sums).view(-1, 2), output

    @property
    def window(self) -> int:
        """The sliding window in tokens; 0 if no layer has one."""
        return max(self._windows)

    def _mask(self, row: Row) -> object:
        if self.kind == SEGMENTS:
            return mask(row, self.kind)
        return masks(self._windows, {window: mask(row, self.kind, window) for window in set(self._windows)})

    def reserve(self, row: Row) -> None:
        """Builds the tensors that all rows of this shape share. Called before a row is recorded."""
        self._zeros_of(2 * row.slots + 1)

    def _zeros_of(self, count: int) -> Tensor:
        """[count] zeros, shared and never written: one launch, not one per row.

        Earlier tensors are kept, because recorded rows read from their addresses.
        """
        if len(self._zeros[-1]) < count:
            self._zeros.append(torch.zeros(2 * count, dtype=torch.float64, device=self._device))
        return self._zeros[-1][:count]

    def row(self, pairs: TokenPairs, places: tuple[int, ...], room: int = 0) -> Row:
        """The row of the pairs at ``places``, for this device's attention; of a fixed shape for ``room`` pairs, 0: of its own."""
        is_sparse = self.kind == "flex_attention"
        padded = self.buckets.padded if is_sparse or room else None
        return pack_row(pairs, places, block_sparse=is_sparse, window=self.window, padded=padded, room=room)

    def fit(self, pairs: TokenPairs, together: int, budget: int) -> int:
        """Chooses the few lengths of a GPU's rows, for steps of ``together`` pairs and rows of at most ``budget`` tokens.

        Returns the tokens of several pairs in a row, never more than ``budget``; on a CPU no row is padded, and they are as many.
        """
        if self.kind == "flex_attention":
            self.buckets = Buckets.of(packed_lengths(pairs), together, budget)
            return self.buckets.budget
        return budget

    def pack(self, pairs: TokenPairs, budget: int) -> list[Row]:
        """Packs all ``pairs`` into rows."""
        return [self.row(pairs, places) for places in rows_of(pairs, budget)]


@dataclass
class Head(ModelOutput):
    """The head's outputs at the predicted places of a row, [n] each; only the first has a gradient."""

    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    mean_logits: Tensor | None = None
    is_top1: Tensor | None = None


def _forward(fused: Any, frozen: bool, last: LastLayer) -> Callable[..., Any]:
    """TRL's fused forward with one more argument, ``row``: then the head's figures of its predicted places come back.

    The scale of the logits is what TRL found in the model's configuration, when it made ``fused``. ``frozen``: the head is not
    trained. ``last``: the last decoder layer, whose outputs are read at the row's predicted places alone.
    """
    of_trl = inspect.getclosurevars(fused.__func__)
    constants, kernel = of_trl.nonlocals, of_trl.globals["_ChunkedLogProbFunction"]
    around, chunk = of_trl.globals["maybe_gather_lm_head_ctx"], of_trl.globals["_CHUNKED_LOGPROB_CHUNK_SIZE"]

    logits = Logits(
        constants["temperature"], constants["logit_scale"], constants["final_logit_softcapping"], constants["outputs"]
    )

    @functools.wraps(fused.__func__)  # PEFT and generation look at the signature
    def forward(self: Any, *args: Any, row: Row | None = None, **kwargs: Any) -> Any:
        last.read(None if row is None else row.where)
        if row is None:
            return fused(*args, **kwargs)
        hidden = self.base_model(*args, use_cache=False, **kwargs).last_hidden_state.squeeze(0).index_select(0, row.where)
        head = self.get_output_embeddings()
        with around(head.weight, head.bias):
            if frozen:
                return Head(*frozen_head(hidden, head.weight, head.bias, row.targets, logits))
            log_probs, entropy, _, mean_logits, is_top1 = kernel.apply(
                hidden,
                head.weight,
                head.bias,
                row.targets,
                constants["temperature"],
                chunk,
                constants["final_logit_softcapping"],
                constants["logit_scale"],
                constants["outputs"],
            )
        return Head(log_probs, entropy, mean_logits, is_top1)

    return forward


@dataclass(frozen=True)
class Scored:
    """Pairs with the reference's log-probabilities of their answers."""

    pairs: TokenPairs
    reference: Tensor  # [n, 2] float64 on the rank's device: sums of the log-probabilities of (chosen, rejected)


@dataclass(frozen=True)
class Fast:
    """What the packed path needs."""

    packed: Packed
    budget: int  # tokens of a row
    train: Scored
    held_out: Scored | None
    is_compiled: bool = False  # whether decoder layers are
    graphs: RowGraphs | None = None  # that replay the rows of a step, where the run has them


def why_plain(model: Any, args: DPOConfig, longest: int, answers: int = 2) -> str | None:
    """The reason why this model or these settings cannot take the fast path; None if they can.

    ``longest``: tokens of the longest prompt and answer; ``answers`` of a pair.
    """
    values = {name: getattr(args, name) for name in trl_fields()}
    return _randomness(model, args, answers) or why_not_fast(values) or _architecture(model, args, longest)


def _randomness(model: Any, args: DPOConfig, answers: int) -> str | None:
    if args.disable_dropout:
        return None
    setting = "; ".join(["disable_dropout: false", *drawn(model, with_adapter=True)])
    why = "both answers would share the prompt's mask" if answers > 1 else "rows draw other masks, and cannot be compared"
    return f"dropout is on ({setting}): {why}"


def _architecture(model: Any, args: DPOConfig, longest: int) -> str | None:
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    config = causal.config.get_text_config()
    kind = config.model_type
    if causal.config.is_encoder_decoder:
        return f"{kind} is an encoder-decoder model"
    if getattr(causal, "_is_stateful", False):
        return f"{kind} carries a state through the sequence"
    if "position_ids" not in inspect.signature(type(causal).forward).parameters:
        return f"{kind} does not accept position_ids"
    others = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"})
    if others:
        return f"{kind} has layers of type {', '.join(others)}"
    window = max(windows(causal), default=0)
    if 0 < window < longest and not takes_rows(causal, decoder_layers(causal)):
        return f"{kind} has a sliding window of {window} tokens in code of its own, and the longest sequence has {longest}"
    if _has_router_loss(config, args):
        return f"{kind} has an expert-balancing loss over the whole batch"
    if config._attn_implementation not in ("sdpa", "flex_attention"):
        return f"{kind} uses {config._attn_implementation} attention, and packed rows need sdpa or flex_attention"
    return None


def _has_router_loss(config: Any, args: DPOConfig) -> bool:
    """As in TRL: by the settings' coefficient, else the model's, if the model returns its router's logits."""
    given = args.router_aux_loss_coef
    coefficient = getattr(config, "router_aux_loss_coef", 0) if given is None else given
    return hasattr(config, "output_router_logits") and bool(coefficient)
