"""Decoder layers compiled one by one by ``torch.compile``: all layers of a model share one graph, for rows of any length."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers.modeling_layers import GradientCheckpointingLayer

from ..forward.attention import GRAPHS, is_spans
from .unscaled import Unscaled

LENGTHS: Final = r"L\['kwargs'\]\['attention_mask'\]\.seq_lengths.*"  # of a BlockMask: numbers that are no constants of a graph
LONGEST: Final = 200  # characters of a reason


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The decoder layers of the language model: modules that transformers recomputes, or keeps on one device, as a whole.

    Empty if the model has no list of such layers.
    """
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    whole = set(getattr(causal, "_no_split_modules", None) or ())
    stack = causal.get_decoder() if hasattr(causal, "get_decoder") else causal
    lists = [list(module) for module in stack.modules() if isinstance(module, nn.ModuleList)]
    return max((some for some in lists if some and all(_is_layer(one, whole) for one in some)), key=len, default=[])


def _is_layer(module: nn.Module, whole: set[str]) -> bool:
    return isinstance(module, GradientCheckpointingLayer) or type(module).__name__ in whole


class CompiledLayers:
    """A context in which calls of these layers are compiled; calls outside of it, such as those of a generation, stay eager.

    The first compiled call raises whatever ``torch.compile`` raises: nothing falls back to Python silently.
    """

    def __init__(self, layers: Sequence[nn.Module], *, deterministic: bool = False):
        self._layers, self._entered = layers, False
        torch._dynamo.config.recompile_limit = GRAPHS
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        torch.compiler.config.dynamic_sources = LENGTHS
        if (compiler := cpp_compiler()) is not None:
            torch._inductor.config.cpp.cxx = (compiler,)
        if deterministic and hasattr(torch._inductor.config, "deterministic"):
            torch._inductor.config.deterministic = True  # no choice of a kernel by its time on the device
        torch._inductor.config.joint_custom_pre_pass = Unscaled()
        for layer in layers:
            layer._compiled_call_impl = self._call(layer._call_impl)

    def __enter__(self) -> None:
        self._entered = True

    def __exit__(self, *error: object) -> None:
        self._entered = False

    def remove(self) -> None:
        """The layers stay eager from now on."""
        for layer in self._layers:
            layer._compiled_call_impl = None

    def _call(self, eager: Callable[..., Any]) -> Callable[..., Any]:
        """A call with the same guards for all layers and lengths.

        The first layer's input needs a gradient exactly if the others' do: the embeddings' output needs none in training with
        an adapter, and has one in evaluations where PEFT's hook asks for it.
        """
        compiled = torch.compile(eager, fullgraph=True)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._entered:
                return eager(*args, **kwargs)
            hidden, wanted = args[0], torch.is_grad_enabled()
            if hidden.requires_grad != wanted:
                hidden = hidden.detach().requires_grad_(wanted)
            length = hidden.shape[1]
            _dynamic(hidden, [1])
            for tensor in _tensors([*args[1:], *kwargs.values()]):
                _dynamic(tensor, [axis for axis, size in enumerate(tensor.shape) if size == length or is_spans(tensor)])
            for mask in kwargs.values():
                if isinstance(mask, BlockMask):
                    for table in _tensors(mask.as_tuple()):
                        _dynamic(table, range(2, table.ndim))
            return compiled(hidden, *args[1:], **kwargs)

        return call


def cpp_compiler() -> str | None:
    """The compiler of CPU kernels: CXX, g++ or clang++; None if there is none."""
    return next(filter(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++"))), None)


def _dynamic(tensor: Tensor, axes: Iterable[int]) -> None:
    """Marks these sizes as dynamic, so that the first row's are no constants of the graph."""
    if not hasattr(tensor, "_dynamo_weak_dynamic_indices"):
        for axis in axes:
            torch._dynamo.maybe_mark_dynamic(tensor, axis)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among ``values``, also inside tuples, and those in the closure of a BlockMask's function."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from _tensors(value)
        elif isinstance(value, BlockMask):
            yield from (cell.cell_contents for cell in value.mask_mod.__closure__ or () if isinstance(cell.cell_contents, Tensor))


def reason(error: BaseException) -> str:
    """The first informative line of an error of ``torch.compile``, cut to ``LONGEST`` characters."""
    inner = getattr(error, "inner_exception", None) or error
    lines = [line.strip() for line in str(inner).splitlines()]
    found = next((line for line in lines if line and not line.endswith("raised:")), type(inner).__name__)
    return found if len(found) <= LONGEST else found[: LONGEST - 1] + "…"
