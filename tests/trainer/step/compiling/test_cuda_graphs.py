"""The recorder of CUDA graphs, over a CUDA that notes what it is asked for: what it does where a capture fails."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.step.compiling.cuda_graphs import CudaRecorder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of CUDA, in their order. A capture whose work has failed ends with an error of its own."""
    calls: list[str] = []
    modes = ["default"]

    def note(name: str, found: Any = None) -> Callable[..., Any]:
        return lambda *args, **kwargs: calls.append(name) or found

    @contextmanager
    def within(name: str) -> Iterator[None]:
        calls.append(f"{name} begins")
        try:
            yield
        except RuntimeError:
            calls.append(f"{name} fails")
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from None
        calls.append(f"{name} ends")

    stream = SimpleNamespace(wait_stream=note("wait"))
    generator = SimpleNamespace(clone_state=note("clone"), graphsafe_set_state=note("random state replaced"))
    fakes = {
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "MemPool": lambda: SimpleNamespace(id=(0, 1)),
        "CUDAGraph": lambda: SimpleNamespace(reset=note("graph reset"), replay=note("replay")),
        "graph": lambda graph, **options: within(f"capture, {options['capture_error_mode']},"),
        "use_mem_pool": lambda pool: within("pool"),
        "stream": lambda stream: within("stream"),
        "set_stream": note("stream set back"),
        "empty_cache": lambda: calls.append(f"cache emptied, waits are {modes[-1]}"),
        "get_sync_debug_mode": lambda: modes[-1],
        "set_sync_debug_mode": modes.append,
        "current_device": lambda: 0,
        "default_generators": (generator,),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", note("pool ended"), raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", note("pool released"), raising=False)
    return calls


def test_a_capture_that_fails_tells_the_first_error_and_leaves_nothing_behind(asked: list[str]) -> None:
    recorder, kept = CudaRecorder(torch.device("cuda")), []

    def work() -> list[torch.Tensor]:
        activation = torch.ones(3)
        kept.append(weakref.ref(activation))
        raise RuntimeError("operation not permitted when stream is capturing")

    try:  # pytest.raises would keep the frames
        recorder.record(work)
    except RuntimeError as error:
        said = str(error)
    assert said == "operation not permitted when stream is capturing"
    assert kept[0]() is None, "the frames of the error are gone, without a garbage collection"
    assert asked == [
        "capture, thread_local, begins",
        "capture, thread_local, fails",
        "stream set back",
        "pool ended",
        "pool released",
        "graph reset",
        "clone",
        "random state replaced",
    ]


def test_an_eager_row_has_all_free_memory_of_the_device(asked: list[str]) -> None:
    """The allocator keeps what it has cached while a pool is in use, and would say that memory has run out."""
    recorder = CudaRecorder(torch.device("cuda"))
    with recorder.strict(), recorder.eager():
        asked.append(f"row, waits are {torch.cuda.get_sync_debug_mode()}")
    emptied, row = "cache emptied, waits are default", "row, waits are error"
    assert asked == [emptied, "wait", "stream begins", "pool begins", row, "pool ends", "stream ends", "wait"]
    assert torch.cuda.get_sync_debug_mode() == "default"


def test_a_recorded_row_is_captured_on_one_stream_in_the_pool(asked: list[str]) -> None:
    found, replay = CudaRecorder(torch.device("cuda")).record(lambda: [torch.ones(2)])
    replay()
    assert found[0].tolist() == [1.0, 1.0]
    assert asked == ["capture, thread_local, begins", "capture, thread_local, ends", "replay"]
