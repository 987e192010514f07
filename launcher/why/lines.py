"""What the last lines of a log mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .evidence import Evidence, Explanation

LESS_MEMORY: Final = "lower per_device_train_batch_size or max_seq_length, or see `launcher plan`: it lists the cheapest changes"
CREDENTIAL: Final = "correct it in .env; for a cluster `launcher secrets push`; then resume"

# What a rank, torchrun, an engine or a kernel says -> a word, what it means, and what to do. The first that fits any line.
_MEANINGS: Final = (
    (r"out of memory on the device|CUDA out of memory|OutOfMemoryError|CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED",
     "gpu-memory", "out of memory on the device", LESS_MEMORY),
    (r"[Bb]us error|SIGBUS|exitcode\s*:\s*-7\b|unable to (?:open|write to|allocate) shared memory|creating shared memory segment"
     r"|No space left on device.*/dev/shm",
     "shared-memory", "shared memory (/dev/shm) ran out", "raise launch.shm_size"),
    (r"^the kernel killed it: |can't allocate memory|killed by signal: Killed|oom[-_]kill",
     "memory", "main memory ran out", "raise launch.memory, or lower dataloader_num_workers and per_device_train_batch_size"),
    (r"\bdisk is full|No space left on device|Disk quota exceeded",
     "disk", "the disk is full", "make room where the run's folder is (save_total_limit keeps fewer checkpoints), then resume"),
    (r"Found no NVIDIA driver|CUDA driver version is insufficient|NVIDIA driver on your system is too old|no CUDA-capable device"
     r"|libcuda\.so(?:\.1)?: cannot open|CUDA driver initialization failed|CUDA unknown error",
     "gpu-driver", "there is no working NVIDIA driver for it",
     "`nvidia-smi` on the machine shows it; on a cluster, does the pod ask for a GPU, and has the node the device plugin?"),
    (r"uncorrectable (?:NVLink|ECC) error|GPU has fallen off the bus|CUDA error: (?:an illegal|unspecified launch)|\bXid\b",
     "gpu-error", "the GPU has failed", "resume on another machine; `nvidia-smi -q` and the kernel's log show the card's errors"),
    (r"exec format error|the image is for another processor",
     "architecture", "the image is for another processor than the machine's",
     "build it there, or name one that fits under launch.image"),
    (r"could not select device driver|nvidia-container-cli|unknown or invalid runtime name: nvidia|the engine cannot give GPUs",
     "gpu-driver", "the container engine cannot give GPUs to it",
     "install the NVIDIA Container Toolkit, then `nvidia-ctk runtime configure`"),
    (r"\b40[13] Client Error|GatedRepoError|Invalid user token|Access to model .* is restricted|AccessDenied|InvalidAccessKeyId"
     r"|SignatureDoesNotMatch",
     "credential", "a credential is missing or refused", CREDENTIAL),
    (r"^(?:error: )?no access to |Permission denied: '|Read-only file system: '",
     "permission", "it may not write where it has to",
     "make the folder writable for it; a claim's volume must be writable for gid 10001 (k8s/README.md says how)"),
    (r"LocalEntryNotFoundError|Name or service not known|Temporary failure in name resolution|Max retries exceeded",
     "network", "a server could not be reached",
     "check name resolution and proxy where it runs, or bring model and data there beforehand; then resume"),
)  # fmt: skip

# Ranks that wait for each other: {0} and {1} are groups; `names` says whether the first group is a rank.
_RANKS: Final = (
    (r"behind is rank (\d+) \((.*?)\)", True, "hung", "rank {0} hung ({1}), and the others waited until ddp_timeout"),
    (r"rank (\d+) is gone: (.*)", True, "peer", "rank {0} died first: {1}"),
    (r"rank (\d+) has ended with exit code (\d+)", True, "peer", "rank {0} ended first, with exit code {1}"),
    (r"the first node is gone: (.*)", False, "peer", "node 0 died first: {0}"),
    (r"[Rr]ank ?(\d+)\]:? .*Watchdog caught collective operation timeout.*?OpType=(\w+)", True, "hung",
     "NCCL gave up waiting: rank {0} was the first to complain, in {1}"),
    (r"Watchdog caught collective operation timeout|NCCL timeout", False, "hung", "NCCL gave up waiting for a rank"),
    (r"Timed out waiting (\d+)ms for (?:recv|send) operation", False, "hung", "gloo gave up waiting for a rank after {0} ms"),
    (r"RendezvousTimeoutError|wait timeout after \d+ms|client socket has timed out|rendezvous.*timed out", False, "rendezvous",
     "the nodes did not meet: one was not there in time, or does not reach port 29500 of node 0"),
    (r"Connection closed by peer|Connection reset by peer|DistBackendError|nccl(?:Remote|System)Error", False, "peer",
     "another rank died, and this one lost its connection"),
)  # fmt: skip


def in_lines(seen: Evidence, lines: Iterable[str]) -> Explanation | None:
    """The first known cause in the last lines of a log; a rank that waited is looked for where nothing else is found."""
    text = [line for line in lines if line.strip()]
    for pattern, cause, meaning, suggestion in _MEANINGS:
        found = next((line for line in reversed(text) if re.search(pattern, line)), None)
        if found is not None:
            return Explanation(cause, f"{meaning}: {_short(found)}", suggestion)
    for pattern, names, cause, meaning in _RANKS:
        # Of several ranks that complain the first one counts.
        match = next((match for line in text if (match := re.search(pattern, line)) is not None), None)
        if match is not None:
            look = f"`launcher logs {seen.run} --rank {match[1] if names else 'all'}` shows what it was doing"
            onward = f"it goes on from the last checkpoint if it has restarts left, else with `launcher resume {seen.run}`"
            return Explanation(cause, meaning.format(*(_short(group) for group in match.groups())), f"{look}; {onward}")
    return None


def _short(line: str) -> str:
    line = re.sub(r"^\[rank \d+\] |^error: ", "", " ".join(line.split()))
    return line if len(line) <= 240 else line[:239] + "…"
