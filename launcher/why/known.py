"""Messages of other programs that this one knows: torch, NCCL, kernels, engines, kubelets, registries. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """``pattern`` finds the message, ``meaning`` and ``suggestion`` tell what it means and what to do.

    ``example``: one as it is printed, for the reference page of errors and for whoever reads the pattern.
    """

    pattern: str
    cause: str
    meaning: str
    suggestion: str
    example: str
