"""A compiler pass over a layer's graph: drops factors of 1, which changes no bit.

PEFT multiplies each module's output by ``lora_alpha / r``, 1 by default, and the backward pass does so with its gradient. Without
this pass the compiled layer would write each of these gradients twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph, Node


class Unscaled(CustomGraphPass):
    """Runs before the joint graph is split into forward and backward, so that neither keeps a product for the other."""

    def __call__(self, graph: Graph) -> None:
        for node in graph.find_nodes(op="call_function", target=torch.ops.aten.mul.Tensor):
            value, factor = node.args
            if isinstance(factor, Node):
                value, factor = factor, value
            if isinstance(value, Node) and isinstance(factor, int | float) and factor == 1 and _form(value) == _form(node):
                node.replace_all_uses_with(value)
                graph.erase_node(node)

    def uuid(self) -> Any:
        return "factors of 1, version 1"  # of the compiler's cache


def _form(node: Node) -> Any:
    found = node.meta.get("val")
    return (found.dtype, found.shape) if isinstance(found, torch.Tensor) else node
