"""A recorder without a GPU, as strict as a CUDA graph: it keeps operations with the addresses and numbers that they were given.

While it records nothing has an effect; an operation whose result the host would read cannot be recorded. A replay computes each
operation again, on what now lies at the addresses of its inputs, and writes to the addresses of its outputs. It keeps no memory
but what was made while recording: what lay elsewhere must still be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

WAITS = ("_local_scalar_dense", "nonzero", "bincount", "is_nonzero", "equal", "masked_select", "unique", "item")


class Tape:
    """The ``Recorder`` of ``trainer.step.compiling.graphs``."""

    def __init__(self) -> None:
        self.replays = self.eagers = self.forgotten = 0

    @contextmanager
    def eager(self) -> Iterator[None]:
        self.eagers += 1
        yield

    def strict(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, work: Callable[[], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Callable[[], None]]:
        operations = _Recording()
        try:
            with operations:
                found = work()
        finally:
            operations.undo()

        def replay() -> None:
            self.replays += 1
            with torch.no_grad():
                operations.again()

        return found, replay

    def forget(self) -> None:
        self.forgotten += 1


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self._own: set[int] = set()  # addresses of what was made while recording
        self._before: dict[int, tuple[Tensor, torch.UntypedStorage]] = {}  # what was changed of the rest

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func._schema.name.removeprefix("aten::")
        if name in WAITS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        given = _tensors((args, kwargs))
        if func._schema.is_mutable:
            for tensor in given:
                if _address(tensor) not in self._own and _address(tensor) not in self._before:
                    self._before[_address(tensor)] = tensor, tensor.untyped_storage().clone()
        found = func(*args, **kwargs)
        made = _tensors(found)
        is_view = any(_address(one) == _address(other) for one in made for other in given)
        self._own |= {_address(one) for one in made} - {_address(one) for one in given}
        if func._schema.is_mutable:
            self._operations.append((func, *self._weak((args, kwargs)), []))
        elif not is_view and not name.startswith(("empty", "new_empty")):
            self._operations.append((func, *self._weak((args, kwargs)), [one.detach() for one in made]))
        return found

    def _weak(self, given: Any) -> Any:
        """``given``, with places in memory for the tensors that were there before."""
        return tree_map(lambda x: Place.of(x) if isinstance(x, Tensor) and _address(x) not in self._own else x, given)

    def undo(self) -> None:
        """Nothing was computed."""
        for tensor, before in self._before.values():
            tensor.untyped_storage().copy_(before)

    def again(self) -> None:
        for func, args, kwargs, outputs in self._operations:
            args, kwargs = tree_map(lambda x: x.tensor() if isinstance(x, Place) else x, (args, kwargs))
            found = _tensors(func(*args, **kwargs))
            for output, now in zip(outputs, found, strict=True) if outputs else ():
                output.copy_(now)


@dataclass(frozen=True)
class Place:
    """Where a tensor lay, without keeping its memory."""

    storage: StorageWeakRef
    kind: torch.dtype
    view: tuple[int, tuple[int, ...], tuple[int, ...]]  # offset, size, stride

    @classmethod
    def of(cls, tensor: Tensor) -> Place:
        view = int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()
        return cls(StorageWeakRef(tensor.untyped_storage()), tensor.dtype, view)

    def tensor(self) -> Tensor:
        if self.storage.expired():
            raise AssertionError("a replayed row reads memory that was given back")
        storage = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        return torch.empty(0, dtype=self.kind).set_(storage, *self.view)


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
