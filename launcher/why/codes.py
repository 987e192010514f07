"""The exit codes of a run and of the launcher: what each means, who sets it, whether a cluster retries, and what to do. Pure.

Everything that depends on a code reads this list: ``launcher why``, the rules of a Job's pods, and the reference page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .lines import CREDENTIAL, LESS_MEMORY, NETWORK

_TRAINER: Final = "the trainer"
_BOTH: Final = "the launcher and the trainer"


@dataclass(frozen=True)
class Code:
    """``cause``: its word in ``launcher why --json``, empty if other evidence decides. ``fix``: EXP and RUN stand for names;
    empty if only a resume helps. ``is_retried``: whether a cluster starts the pods again (within ``launch.max_restarts``).
    """

    code: int
    cause: str
    meaning: str
    set_by: str
    fix: str
    is_retried: bool


_ALL: Final = (
    Code(0, "done", "done", _BOTH, "", False),
    Code(1, "", "another failure: a disk, an object store, a library", _BOTH, "see the reason with: launcher why RUN", True),
    Code(2, "usage", "the command line is wrong", _BOTH, "see the command that was started with: launcher render EXP", False),
    Code(
        42,
        "experiment",
        "the experiment is wrong",
        _BOTH,
        "correct it, start a new run, and check it first with: launcher check EXP",
        False,
    ),
    Code(
        43,
        "data",
        "the data are wrong",
        _BOTH,
        "correct the named rows, start a new run, and check it first with: launcher check EXP",
        False,
    ),
    Code(44, "credential", "a credential is missing or refused", _BOTH, CREDENTIAL, False),
    Code(45, "gpu-memory", "out of memory on the device", _TRAINER, LESS_MEMORY, False),
    Code(46, "health", "a health rule stopped it", _TRAINER, "ADVICE; see its last steps with: launcher tensorboard RUN", False),
    Code(
        47,
        "upload",
        "trained, but not uploaded",
        _TRAINER,
        "upload the adapter, which is in the run's folder, with: launcher resume RUN",
        True,
    ),
    Code(48, "network", "a server cannot be reached", _BOTH, NETWORK, True),
    Code(130, "aborted", "killed", "the launcher, after a second Ctrl-C or launcher stop --now", "", False),
    Code(
        135,
        "",
        "a bus error: shared memory (/dev/shm) ran out",
        "the kernel (SIGBUS)",
        "raise launch.shm_size",
        True,
    ),
    Code(
        137,
        "",
        "killed from outside (SIGKILL), often because main memory ran out",
        "the kernel, an engine or a person",
        "see whether memory ran out with: launcher why RUN; then raise launch.memory or lower per_device_train_batch_size",
        True,
    ),
    Code(143, "stopped", "stopped on request, after a checkpoint", _TRAINER, "", True),
)  # fmt: skip
CODES: Final = {one.code: one for one in _ALL}
FINAL: Final = tuple(one.code for one in _ALL if 0 < one.code < 128 and not one.is_retried)  # a retry would end the same
