"""What the last lines of a log mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .evidence import Evidence, Explanation
from .resuming import resuming

LESS_MEMORY: Final = "lower max_seq_length or use gradient checkpointing; list the cheapest changes with: launcher plan EXP"
NETWORK: Final = "wait until the server answers; check DNS and proxy where it runs, or copy model and data there"
CREDENTIAL: Final = "correct it in .env; for a cluster, then run: launcher secrets push"

# Message of a rank, torchrun, an engine or the kernel -> cause, meaning, suggestion. The first pattern that matches counts.
_MEANINGS: Final = (
    (r"out of memory on the device|CUDA out of memory|OutOfMemoryError|CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED",
     "gpu-memory", "out of memory on the device", LESS_MEMORY),
    (r"[Bb]us error|SIGBUS|exitcode\s*:\s*-7\b|unable to (?:open|write to|allocate) shared memory|creating shared memory segment"
     r"|No space left on device.*/dev/shm",
     "shared-memory", "shared memory (/dev/shm) ran out", "raise launch.shm_size"),
    (r"^the kernel killed |exceeded its memory limit|can't allocate memory|killed by signal: Killed|oom[-_]kill",
     "memory", "main memory ran out", "raise launch.memory, or lower dataloader_num_workers and per_device_train_batch_size"),
    (r"\bdisk is full|No space left on device|Disk quota exceeded",
     "disk", "the disk is full", "free disk space; save_total_limit keeps fewer checkpoints"),
    (r"the disk or its file system failed|Input/output error|Stale file handle",
     "disk", "the disk or its file system failed",
     "check the disk and its mount where it runs (dmesg names a broken disk)"),
    (r"Found no NVIDIA driver|CUDA driver version is insufficient|NVIDIA driver on your system is too old|no CUDA-capable device"
     r"|libcuda\.so(?:\.1)?: cannot open|CUDA driver initialization failed|CUDA unknown error",
     "gpu-driver", "no working NVIDIA driver",
     "on a cluster, check that the pod requests a GPU and the node has the device plugin; on the machine, run: nvidia-smi"),
    (r"uncorrectable (?:NVLink|ECC) error|GPU has fallen off the bus|CUDA error: (?:an illegal|unspecified launch)|\bXid\b",
     "gpu-error", "the GPU failed", "resume on another machine; see the card's errors with: nvidia-smi -q"),
    (r"exec format error|the image is for another processor",
     "architecture", "the image is built for another CPU architecture than the machine's",
     "set another launch.image, or build it on the machine with: launcher build"),
    (r"could not select device driver|nvidia-container-cli|unknown or invalid runtime name: nvidia|the engine cannot give GPUs",
     "gpu-driver", "the container engine cannot use GPUs",
     "install the NVIDIA Container Toolkit, then run: nvidia-ctk runtime configure"),
    (r"\b40[13] Client Error|GatedRepoError|Invalid user token|Access to model .* is restricted|AccessDenied|InvalidAccessKeyId"
     r"|SignatureDoesNotMatch",
     "credential", "a credential is missing or refused", CREDENTIAL),
    (r"^(?:error: )?no access to |Permission denied: '|Read-only file system: '",
     "permission", "permission denied",
     "make the folder writable for the run; a claim's volume for gid 10001 (see k8s/README.md)"),
    (r"LocalEntryNotFoundError|Name or service not known|Temporary failure in name resolution|Max retries exceeded",
     "network", "cannot connect to a server", NETWORK),
)  # fmt: skip

# Ranks that wait for each other: {0} and {1} are groups; the second field: whether the first group is a rank.
_RANKS: Final = (
    (r"behind is rank (\d+) \((.*?)\)", True, "hung", "rank {0} hung ({1}); the others waited until ddp_timeout"),
    (r"rank (\d+) is gone: (.*)", True, "peer", "rank {0} died first: {1}"),
    (r"rank (\d+) has ended with exit code (\d+)", True, "peer", "rank {0} ended first, with exit code {1}"),
    (r"the first node is gone: (.*)", False, "peer", "node 0 died first: {0}"),
    (r"[Rr]ank ?(\d+)\]:? .*Watchdog caught collective operation timeout.*?OpType=(\w+)", True, "hung",
     "NCCL timeout: rank {0} reported it first, in {1}"),
    (r"Watchdog caught collective operation timeout|NCCL timeout", False, "hung", "NCCL timeout: a rank did not respond"),
    (r"Timed out waiting (\d+)ms for (?:recv|send) operation", False, "hung",
     "gloo timeout: a rank did not respond within {0} ms"),
    (r"RendezvousTimeoutError|wait timeout after \d+ms|client socket has timed out|rendezvous.*timed out", False, "rendezvous",
     "rendezvous timeout: a node started too late, or cannot connect to port 29500 of node 0"),
    (r"Connection closed by peer|Connection reset by peer|DistBackendError|nccl(?:Remote|System)Error", False, "peer",
     "another rank died: this one lost its connection"),
)  # fmt: skip

_ERROR: Final = re.compile(
    r"(?:fatal |Fatal Python )?error: \S|Segmentation fault|(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)(?:: |$)"
)


def in_lines(seen: Evidence, lines: Iterable[str], *, only_ranks: bool = False) -> Explanation | None:
    """The first known cause in the last lines of a log; a waiting rank only counts if nothing else is found.

    ``only_ranks``: only what ranks report about each other.
    """
    text = [line for line in lines if line.strip()]
    for pattern, cause, meaning, suggestion in () if only_ranks else _MEANINGS:
        found = next((line for line in reversed(text) if re.search(pattern, line)), None)
        if found is not None:
            return Explanation(cause, _with(meaning, _short(found)), suggestion.replace("EXP", seen.key or "EXP"))
    for pattern, names, cause, meaning in _RANKS:
        # Of several ranks, the first one counts.
        match = next((match for line in text if (match := re.search(pattern, line)) is not None), None)
        if match is not None:
            look = f"see what it was doing with: launcher logs {seen.run} --rank {match[1] if names else 'all'}"
            sentence = meaning.format(*(_short(group) for group in match.groups()))
            return Explanation(cause, sentence, look if seen.is_over else f"{onward(seen)}; {look}")
    return None


def error_in(lines: Iterable[str]) -> str:
    """The last line that is an error in words: of an exception, of the launcher or of the interpreter; empty if none is.

    Metrics, progress bars and the frames of a traceback are no sentences.
    """
    said = (re.sub(r"^\[rank \d+\] ", "", line.strip()) for line in lines)
    errors = [line for line in said if _ERROR.match(line)]
    return _short(errors[-1]) if errors else ""


def onward(seen: Evidence) -> str:
    """What to do about a run that lost a pod or a rank for no fault of its own."""
    return resuming(seen) if seen.is_over else "wait: it restarts from its last checkpoint"


def _with(meaning: str, line: str) -> str:
    """``meaning: line``, or the line alone if it starts with the meaning."""
    return line if line.startswith(meaning) else f"{meaning}: {line}"


def _short(line: str) -> str:
    line = re.sub(r"^\[rank \d+\] |^error: ", "", " ".join(line.split()))
    return line if len(line) <= 240 else line[:239] + "…"
