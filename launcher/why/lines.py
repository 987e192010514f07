"""What the last lines of a log mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .evidence import Evidence, Explanation
from .known import Known
from .resuming import resuming

LESS_MEMORY: Final = "lower max_seq_length or use gradient checkpointing; list the cheapest changes with: launcher plan EXP"
NETWORK: Final = "wait until the server answers; check DNS and proxy where it runs, or copy model and data there"
_REACHED: Final = "DNS, proxy and egress policies (k8s/examples/egress)"
_CONNECTED: Final = (
    "check that network policies let the run's pods connect to each other on every port (k8s/overlays/cluster/network.yaml)"
)
CREDENTIAL: Final = "correct it in .env; for a cluster, then run: launcher secrets push"

# Message of a rank, torchrun, an engine or the kernel -> cause, meaning, suggestion. The first pattern that matches counts.
MEANINGS: Final = (
    Known(
        r"out of memory on the device|CUDA out of memory|OutOfMemoryError|CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED",
        "gpu-memory",
        "out of memory on the device",
        LESS_MEMORY,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB",
    ),
    Known(
        r"[Bb]us error|SIGBUS|exitcode\s*:\s*-7\b|unable to (?:open|write to|allocate) shared memory|creating "
        r"shared memory segment"
        r"|No space left on device.*/dev/shm",
        "shared-memory",
        "shared memory (/dev/shm) ran out",
        "raise launch.shm_size",
        "RuntimeError: DataLoader worker (pid 83) is killed by signal: Bus error. It is possible that "
        "dataloader's workers are out of shared memory.",
    ),
    Known(
        r"^the kernel killed |exceeded its memory limit|can't allocate memory|killed by signal: Killed|oom[-_]kill",
        "memory",
        "main memory ran out",
        "raise launch.memory, or lower dataloader_num_workers and per_device_train_batch_size",
        "the kernel killed a rank: main memory ran out (largest process: 3.9 of 4.0 GiB)",
    ),
    Known(
        r"\bdisk is full|No space left on device|Disk quota exceeded",
        "disk",
        "the disk is full",
        "free disk space; save_total_limit keeps fewer checkpoints",
        "OSError: [Errno 28] No space left on device: '/dpo/runs/out'",
    ),
    Known(
        r"the disk or its file system failed|Input/output error|Stale file handle",
        "disk",
        "the disk or its file system failed",
        "check the disk and its mount where it runs (dmesg names a broken disk)",
        "the disk or its file system failed: /dpo/runs/x: input/output error",
    ),
    Known(
        r"Found no NVIDIA driver|CUDA driver version is insufficient|NVIDIA driver on your system is too "
        r"old|no CUDA-capable device"
        r"|libcuda\.so(?:\.1)?: cannot open|CUDA driver initialization failed|CUDA unknown error",
        "gpu-driver",
        "no working NVIDIA driver",
        "on a cluster, check that the pod requests a GPU and the node has the device plugin; on the machine, run: nvidia-smi",
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver",
    ),
    Known(
        r"uncorrectable (?:NVLink|ECC) error|GPU has fallen off the bus|CUDA error: (?:an illegal|unspecified launch)|\bXid\b",
        "gpu-error",
        "the GPU failed",
        "resume on another machine; see the card's errors with: nvidia-smi -q",
        "RuntimeError: CUDA error: uncorrectable ECC error encountered",
    ),
    Known(
        r"exec format error|the image is for another processor",
        "architecture",
        "the image is built for another CPU architecture than the machine's",
        "set another launch.image, or build it on the machine with: launcher build",
        "exec /usr/bin/tini: exec format error",
    ),
    Known(
        r"could not select device driver|nvidia-container-cli|unknown or invalid runtime name: nvidia|the "
        r"engine cannot give GPUs",
        "gpu-driver",
        "the container engine cannot use GPUs",
        "install the NVIDIA Container Toolkit, then run: nvidia-ctk runtime configure",
        'could not select device driver "" with capabilities: [[gpu]]',
    ),
    Known(
        r"\b40[13] Client Error|GatedRepoError|Invalid user token|Access to model .* is "
        r"restricted|AccessDenied|InvalidAccessKeyId"
        r"|SignatureDoesNotMatch",
        "credential",
        "a credential is missing or refused",
        CREDENTIAL,
        "huggingface_hub.errors.HfHubHTTPError: 401 Client Error: Unauthorized for url",
    ),
    Known(
        r"^(?:error: )?no access to |Permission denied: '|Read-only file system: '",
        "permission",
        "permission denied",
        "make the folder writable for the run; a claim's volume for gid 10001 (see k8s/README.md)",
        "PermissionError: [Errno 13] Permission denied: '/dpo/runs/data'",
    ),
    Known(
        r"LocalEntryNotFoundError|Name or service not known|Temporary failure in name resolution|Max retries exceeded",
        "network",
        "cannot connect to a server",
        NETWORK,
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded",
    ),
)

# Ranks that wait for each other: {0} and {1} are groups; then whether the first group is a rank; last an example.
RANKS: Final = (
    (
        r"(?:waiting for|behind is) rank (\d+) \((.*?)\)",
        True,
        "hung",
        "rank {0} hung ({1}); the others waited until ddp_timeout",
        "no progress for 1800 s, waiting for rank 3 (computing step 12): its stack trace is in its log",
    ),
    (
        r"rank (\d+) is gone: (.*)",
        True,
        "peer",
        "rank {0} died first: {1}",
        "rank 1 is gone: its process 71 was killed or has crashed",
    ),
    (
        r"rank (\d+) has ended with exit code (\d+)",
        True,
        "peer",
        "rank {0} ended first, with exit code {1}",
        "rank 1 has ended with exit code 45",
    ),
    (r"the first node is gone: (.*)", False, "peer", "node 0 died first: {0}", "the first node is gone: no heartbeat for 60 s"),
    (
        r"[Rr]ank ?(\d+)\]:? .*Watchdog caught collective operation timeout.*?OpType=(\w+)",
        True,
        "hung",
        "NCCL timeout: rank {0} reported it first, in {1}",
        "[Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1, OpType=BROADCAST, "
        "NumelIn=131072000, Timeout(ms)=600000) ran for 600081 milliseconds before timing out.",
    ),
    (
        r"Watchdog caught collective operation timeout|NCCL timeout",
        False,
        "hung",
        "NCCL timeout: a rank did not respond",
        "NCCL timeout",
    ),
    (
        r"Timed out waiting (\d+)ms for (?:recv|send) operation",
        False,
        "hung",
        "gloo timeout: a rank did not respond within {0} ms",
        "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting "
        "1800000ms for recv operation to complete",
    ),
    (
        r"RendezvousTimeoutError|wait timeout after \d+ms|client socket has timed out|rendezvous.*timed out",
        False,
        "rendezvous",
        "rendezvous timeout: a node started too late, or cannot connect to port 29500 of node 0",
        "torch.distributed.DistStoreError: wait timeout after 1800000ms, keys: /default_pg/0//cuda//timeout",
    ),
    (
        r"Connection closed by peer|Connection reset by peer|DistBackendError|nccl(?:Remote|System)Error",
        False,
        "peer",
        "another rank died: this one lost its connection",
        "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.244.1.7]:29500",
    ),
)

_ERROR: Final = re.compile(
    r"(?:fatal |Fatal Python )?error: \S|Segmentation fault|(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)(?:: |$)"
)


def in_lines(seen: Evidence, lines: Iterable[str], *, only_ranks: bool = False) -> Explanation | None:
    """The first known cause in the last log lines; a waiting rank counts only if nothing else is found.

    ``only_ranks``: only what ranks report about each other.
    """
    text = [line for line in lines if line.strip()]
    for known in () if only_ranks else MEANINGS:
        found = next((line for line in reversed(text) if re.search(known.pattern, line)), None)
        if found is not None:
            suggestion = there(seen, known.suggestion.replace("EXP", seen.key or "EXP"))
            return Explanation(known.cause, _with(known.meaning, _short(found)), suggestion)
    for pattern, names, cause, meaning, _ in RANKS:
        # Of several ranks, the first one counts.
        match = next((match for line in text if (match := re.search(pattern, line)) is not None), None)
        if match is not None:
            look = f"see what it was doing with: launcher logs {seen.run} --rank {match[1] if names else 'all'}"
            look = f"{_CONNECTED}; {look}" if cause == "rendezvous" and seen.namespace else look
            sentence = meaning.format(*(_short(group) for group in match.groups()))
            return Explanation(cause, sentence, look if seen.is_over else f"{onward(seen)}; {look}")
    return None


def there(seen: Evidence, suggestion: str) -> str:
    """``suggestion`` with what else on a cluster may keep pods from a server."""
    return suggestion.replace(NETWORK, NETWORK.replace("DNS and proxy", _REACHED)) if seen.namespace else suggestion


def error_in(lines: Iterable[str]) -> str:
    """The last line with an error message of an exception, the launcher or the interpreter; empty without one.

    Metrics, progress bars and traceback frames do not count.
    """
    said = (re.sub(r"^\[rank \d+\] ", "", line.strip()) for line in lines)
    errors = [line for line in said if _ERROR.match(line)]
    return _short(errors[-1]) if errors else ""


def onward(seen: Evidence) -> str:
    """What to do about a run that lost a pod or a rank through no fault of its own."""
    return resuming(seen) if seen.is_over else "wait: it restarts from its last checkpoint"


def _with(meaning: str, line: str) -> str:
    """``meaning: line``, or the line alone if it starts with the meaning."""
    return line if line.startswith(meaning) else f"{meaning}: {line}"


def _short(line: str) -> str:
    line = re.sub(r"^\[rank \d+\] |^error: ", "", " ".join(line.split()))
    return line if len(line) <= 240 else line[:239] + "…"
