"""The one reduction of a step: gradients summed over the ranks, after all of them have computed theirs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import torch
from torch import Tensor
from torch.nn import Parameter

BUCKET: Final = 64 << 20  # bytes that are sent together: each transfer has an overhead, and each copy takes memory


def sum_gradients(parameters: Iterable[Parameter]) -> None:
    """Replaces the gradients of the trained ``parameters`` by their sums over all ranks, bit for bit the same on each rank.

    All ranks must call it. A weight without a gradient on a rank counts as zero there.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return
    for bucket in _buckets([parameter for parameter in parameters if parameter.requires_grad]):
        flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in bucket])
        torch.distributed.all_reduce(flat)
        for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
            parameter.grad = part.view_as(parameter).clone() if len(bucket) > 1 else part.view_as(parameter)


def _gradient(parameter: Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _buckets(parameters: list[Parameter]) -> Iterator[list[Parameter]]:
    """Neighbours of one type, up to ``BUCKET`` bytes together."""
    bucket: list[Parameter] = []
    size = 0
    for parameter in parameters:
        bytes_here = parameter.numel() * parameter.element_size()
        if bucket and (size + bytes_here > BUCKET or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += bytes_here
    if bucket:
        yield bucket
