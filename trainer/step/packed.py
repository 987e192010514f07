"""The packed forward pass: log-probabilities of answers from rows that hold every prompt once and no padding."""

from __future__ import annotations

import importlib.util
import inspect
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from peft import PeftModel
from torch import Tensor
from trl import DPOConfig
from trl.trainer.utils import FusedCausalLMOutput

from launcher.experiment.trl_fields import trl_fields, why_not_fast

from ..inputs.dropout import drawn
from ..inputs.tokens import TokenPair
from .packing import Row, block_mask, mask

CPU_ROW: Final = 512  # tokens: a boolean mask costs T², however little of it is used; longer rows were slower on two cores


class Packed:
    """Runs rows through a causal language model that TRL has given its fused head (``trl.trainer.utils.add_fused_lm_head``).

    The head sees only the places that predict an answer's token, on every device: a hook takes them out of the backbone's
    output. The caller may pass the model bare, or wrapped by DDP.
    """

    def __init__(self, model: Any):
        causal = model.get_base_model() if isinstance(model, PeftModel) else model
        self._device = next(causal.parameters()).device
        self._flex = attention(self._device) == "flex_attention"
        self._where: Tensor | None = None
        self._hook = causal.base_model.register_forward_hook(self._select)

    def remove(self) -> None:
        """Takes the hook off."""
        self._hook.remove()

    def __call__(self, model: Any, row: Row) -> tuple[Tensor, FusedCausalLMOutput]:
        """([k, 2] float64: sums of the log-probabilities of (chosen, rejected); the head's figures, each [n])."""
        self._where = row.where
        try:
            output = model(
                input_ids=row.input_ids[None],
                position_ids=row.position_ids[None],
                attention_mask=block_mask(row) if self._flex else mask(row),
                shift_labels=row.targets[None],
                fused_lm_head=True,
                use_cache=False,
            )
        finally:
            self._where = None
        for name in ("log_probs", "entropy", "mean_logits", "is_top1"):
            if output[name] is not None:
                output[name] = output[name][0]
        # float64: the margin is a difference of two sums over a thousand tokens, and would lose its digits in float32
        sums = torch.zeros(2 * len(row.pairs), dtype=torch.float64, device=self._device)
        return sums.index_add(0, row.answer, output.log_probs.double()).view(-1, 2), output

    def _select(self, module: torch.nn.Module, args: Any, output: Any) -> Any:
        if self._where is not None:
            output.last_hidden_state = output.last_hidden_state[:, self._where]
        return output


@dataclass(frozen=True)
class Scored:
    """Pairs with the reference's log-probabilities of their answers."""

    pairs: Sequence[TokenPair]
    reference: Tensor  # [n, 2] float64: sums of the log-probabilities of (chosen, rejected)


@dataclass(frozen=True)
class Fast:
    """What the packed path needs."""

    packed: Packed
    budget: int  # tokens of a row
    train: Scored
    held_out: Scored | None


def attention(device: torch.device) -> str:
    """The attention of packed rows: block-sparse FlexAttention where Triton can build it, else SDPA with a mask."""
    can_build = importlib.util.find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
    return "flex_attention" if device.type == "cuda" and can_build else "sdpa"


def row_budget(pairs: Sequence[TokenPair], per_device: int, device: torch.device) -> int:
    """Tokens of a row: at most those of ``per_device`` longest pairs; the plain path would pad them to more."""
    longest = max(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)
    room = per_device * longest
    return room if attention(device) == "flex_attention" else max(longest, min(CPU_ROW, room))


def why_plain(model: Any, args: DPOConfig, longest: int) -> str | None:
    """The reason why this model or these settings cannot take the fast path; None if they can.

    ``longest``: tokens of the longest prompt and answer.
    """
    values = {name: getattr(args, name) for name in trl_fields()}
    return _randomness(model, args) or why_not_fast(values) or _architecture(model, args, longest)


def _randomness(model: Any, args: DPOConfig) -> str | None:
    if args.disable_dropout:
        return None
    setting = "; ".join(["disable_dropout: false", *drawn(model, with_adapter=True)])
    return f"dropout is on ({setting}): both answers would share the prompt's mask"


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
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True) and window < longest:
        return f"{kind} has a sliding window of {window} tokens, and the longest sequence has {longest}"
    if _has_router_loss(config, args):
        return f"{kind} has an expert-balancing loss over the whole batch"
    if config._attn_implementation not in ("sdpa", "flex_attention"):
        return f"{kind} uses {config._attn_implementation} attention, which accepts no custom mask"
    return None


def _has_router_loss(config: Any, args: DPOConfig) -> bool:
    """As TRL decides it: the settings' coefficient, where none is set the model's, if the model gives its router's logits."""
    given = args.router_aux_loss_coef
    coefficient = getattr(config, "router_aux_loss_coef", 0) if given is None else given
    return hasattr(config, "output_router_logits") and bool(coefficient)
