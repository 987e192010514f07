from __future__ import annotations

import pytest

from trainer.ending import how_it_failed


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


@pytest.mark.parametrize("shortage", [OutOfMemoryError("CUDA out of memory."), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")])
def test_a_shortage_of_memory_is_found_inside_another_error(shortage: Exception) -> None:
    assert how_it_failed(shortage)[0] == 45
    outer = ValueError("the step failed")
    outer.__cause__ = shortage
    assert how_it_failed(outer)[0] == 45


def test_any_other_error_is_named() -> None:
    assert how_it_failed(KeyError("loss")) == (1, "KeyError: 'loss'")
