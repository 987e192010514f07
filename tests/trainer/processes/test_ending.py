from __future__ import annotations

import errno
import os

import pytest

from trainer.processes.ending import explained, how_it_failed


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


@pytest.mark.parametrize("shortage", [OutOfMemoryError("CUDA out of memory."), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")])
def test_a_shortage_of_memory_is_found_inside_another_error(shortage: Exception) -> None:
    assert how_it_failed(shortage)[0] == 45
    outer = ValueError("the step failed")
    outer.__cause__ = shortage
    assert how_it_failed(outer)[0] == 45


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/model.safetensors"), "the disk is full: runs/model.safetensors;"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full;"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "cache/tokens"), "no access to cache/tokens: "),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "cache/tokens"), "no access to cache/tokens: "),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "runs/x"), "the disk is full (disk quota exceeded): runs/x; make room"),
        (RuntimeError("I/O error: Disk quota exceeded (os error 122)"), "the disk is full (disk quota exceeded); make room"),
        (RuntimeError("I/O error: Read-only file system (os error 30)"), "no access to a file: I/O error: Read-only file system"),
        (RuntimeError("I/O error: Input/output error (os error 5)"), "the disk or its file system failed: input/output error"),
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE), "runs/x"), "the disk or its file system failed: runs/x: stale file"),
    ],
)
def test_a_full_disk_and_a_refused_path_are_said_in_a_sentence(error: Exception, sentence: str) -> None:
    outer = RuntimeError("the checkpoint was not saved")
    outer.__cause__ = error
    code, said = explained(outer) or (0, "")
    assert code == 1
    assert said.startswith(sentence)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "Unable to JIT load the cpu_adam op due to it not being compatible due to hardware/software issue.",
            "its extension cpu_adam",
        ),
        ("Unable to JIT load the async_io op due to ninja not being installed.", "its extension async_io"),
        ("CUDA_HOME does not exist, unable to compile CUDA op(s)", "an extension"),
        ("Error building extension 'fused_adam'", "its extension fused_adam"),
    ],
)
def test_what_deepspeed_cannot_compile_is_a_sentence(text: str, what: str) -> None:
    code, said = explained(RuntimeError(text)) or (0, "")
    assert code == 42
    assert said.startswith(f"DeepSpeed cannot compile {what} here (no nvcc, C++ compiler or ninja): remove what needs it from")


def test_any_other_error_is_named() -> None:
    assert how_it_failed(KeyError("loss")) == (1, "KeyError: 'loss'")


def test_a_data_loader_s_process_that_was_killed_is_no_shortage_unless_the_kernel_counted_one() -> None:
    code, said = how_it_failed(RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. "))
    assert code == 1
    assert said.startswith("a data-loader process was killed (SIGKILL) by a user or the system; memory had not run out")
