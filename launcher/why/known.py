"""Known messages of other programs: torch, NCCL, kernels, engines, kubelets, registries. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """``pattern`` finds the message; ``meaning`` and ``suggestion``: what it means and what to do.

    ``example``: a real message, for the reference page of errors and for readers of the pattern.
    """

    pattern: str
    cause: str
    meaning: str
    suggestion: str
    example: str
