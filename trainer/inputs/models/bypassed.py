"""Layers whose weight a model reads directly, bypassing the layer and its adapter."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Final

from torch import nn
from transformers.pytorch_utils import Conv1D

LAYERS: Final = (nn.Linear, Conv1D, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_HARMLESS: Final = frozenset({"dtype", "device", "shape", "size", "ndim", "requires_grad", "data", "is_quantized"})


def bypassed(model: nn.Module) -> dict[str, bool]:
    """Layer name -> whether it is also called somewhere, so that its adapter has an effect there.

    For example, Mamba's fused kernels read the weights of ``out_proj`` and ``x_proj`` in training, and its ``dt_proj`` is never
    called. Found in the classes' source, because installed kernels differ between machines.
    """
    found: dict[str, bool] = {}
    for name, parent in model.named_modules():
        read, called = _uses(type(parent))
        for child, layer in parent.named_children():
            if child in read and isinstance(layer, LAYERS):
                found[f"{name}.{child}" if name else child] = child in called
    return found


@cache
def _uses(kind: type[nn.Module]) -> tuple[frozenset[str], frozenset[str]]:
    """(names of own layers whose ``weight`` its methods read, names of own layers that they call)."""
    if kind.__module__.startswith("torch."):
        return frozenset(), frozenset()
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):  # generated code, or the source is not installed
        return frozenset(), frozenset()
    read, called = set(), set()
    methods = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and "init" not in node.name]
    for node in (node for method in methods for node in ast.walk(method)):
        for child in ast.iter_child_nodes(node):
            layer = _layer(child)
            if layer is not None and not (isinstance(node, ast.Subscript) or _is_harmless(node)):
                read.add(layer)
        if isinstance(node, ast.Call) and (name := _own(node.func)) is not None:
            called.add(name)
    return frozenset(read), frozenset(called)


def _own(node: ast.AST) -> str | None:
    """``x`` of ``self.x``."""
    is_own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    return node.attr if is_own and isinstance(node, ast.Attribute) else None


def _layer(node: ast.AST) -> str | None:
    """``x`` of ``self.x.weight`` if it is read."""
    if isinstance(node, ast.Attribute) and node.attr == "weight" and isinstance(node.ctx, ast.Load):
        return _own(node.value)
    return None


def _is_harmless(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in _HARMLESS
