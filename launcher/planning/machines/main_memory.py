"""Main memory of this machine, as Linux counts it in /proc/meminfo."""

from __future__ import annotations

from pathlib import Path


def total() -> int | None:
    """Bytes of main memory; None where the system does not tell."""
    return _bytes("MemTotal:")


def available() -> int | None:
    """Bytes that programs can take without swapping; None where the system does not tell."""
    return _bytes("MemAvailable:")


def _bytes(field: str) -> int | None:
    file = Path("/proc/meminfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    kibibytes = next((line.split()[1] for line in lines if line.startswith(field)), None)
    return int(kibibytes) * 1024 if kibibytes else None
