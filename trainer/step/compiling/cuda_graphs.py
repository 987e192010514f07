"""CUDA graphs: the recorder of ``graphs`` on a GPU.

As https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs requires: warmed up and captured on one side stream, by one
thread, with all memory in one pool. Rows are replayed one after another and their results are copied out at once, so all graphs
share the pool, and a row that is not recorded yet is computed in it, too: a pool beside it would need the activations twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

import torch
from torch import Tensor


class CudaRecorder:
    """Captures work on its own stream."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.MemPool()

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Runs the backward pass in this thread: another thread would allocate outside of the pool.

        While a pool is used, the allocator gives back nothing that it keeps elsewhere, and would run out of memory beside it.
        """
        with _waits("default"):
            torch.cuda.empty_cache()
        caller = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(caller)
        try:
            with (
                torch.cuda.stream(self._stream),
                torch.cuda.use_mem_pool(self._pool),
                torch.autograd.set_multithreading_enabled(False),
            ):
                yield
        finally:
            caller.wait_stream(self._stream)

    def strict(self) -> AbstractContextManager[None]:
        return _waits("error")

    def record(self, work: Callable[[], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Callable[[], None]]:
        graph, caller = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        # thread_local: NCCL's watchdog and the threads that pin memory may call CUDA meanwhile
        capture = torch.cuda.graph(graph, pool=self._pool.id, stream=self._stream, capture_error_mode="thread_local")
        failed: Exception | None = None
        try:
            with _streams_of_now(), torch.autograd.set_multithreading_enabled(False), capture:
                try:
                    found = work()
                except Exception as error:
                    failed = error
                    raise
        except Exception as error:  # ending a failed capture raises again, and says less
            failed = failed or error
        if failed is not None:
            self._leave(graph, caller)
            try:
                raise failed
            finally:
                del failed  # its frames, of which this is one, would keep the row's memory
        return found, graph.replay

    def _leave(self, graph: torch.cuda.CUDAGraph, caller: torch.cuda.Stream) -> None:
        """Cleans up if ``capture_end`` raised: it would keep the stream and go on allocating in the pool."""
        torch.cuda.set_stream(caller)
        with suppress(Exception):  # where it did not raise, this was done
            torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), self._pool.id)
            torch._C._cuda_releasePool(torch.cuda.current_device(), self._pool.id)
        graph.reset()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        # In earlier versions of torch its state would count as captured for good, and the next random number be an error.
        generator.graphsafe_set_state(generator.clone_state())

    def forget(self) -> None:
        torch.cuda.synchronize(self._device)
        self._pool = torch.cuda.MemPool()


@contextmanager
def _waits(mode: str) -> Iterator[None]:
    """``mode`` as ``torch.cuda.set_sync_debug_mode`` takes it."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def _streams_of_now() -> Iterator[None]:
    """Gradients are added on the stream of the capture, also where DDP has kept the nodes that add them on another one."""
    override = getattr(torch.autograd.graph, "set_override_stale_capture_stream", None)
    if override is None:
        yield
        return
    override(True)
    try:
        yield
    finally:
        override(False)
