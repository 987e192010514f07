"""Findings about this machine: packages, engine, image, GPUs, disks, secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from .doctor import Finding

_ENOUGH: Final = 20 << 30  # bytes that checkpoints of a small model and the image need


def host_packages(missing: Sequence[str], command: str, *, has_engine: bool) -> Finding:
    """The packages that training without a container needs; ``command`` installs them."""
    if not missing:
        return Finding("host", "ok", "packages for training without a container are installed")
    detail = f"packages for training without a container are missing: {', '.join(missing)}"
    return Finding("host", "missing", detail, command, is_needed=not has_engine)


def engine(reason: str | None) -> Finding:
    """``reason``: why no container engine answers, None if one does. Not required: the packages replace it."""
    if reason is None:
        return Finding("docker", "ok", "an engine answers")
    return Finding("docker", "missing", reason, "https://docs.docker.com/engine/install/", is_needed=False)


def image(reference: str, *, is_built: bool, is_there: bool | None) -> Finding:
    """``reference`` of the training image, which this machine builds or pulls; ``is_there``: None if no engine answers."""
    if is_there:
        return Finding("image", "ok", f"{reference} is {'built' if is_built else 'pulled'}")
    if is_there is None:
        return Finding("image", "unknown", f"{reference}: not looked up, as no container engine answers", is_needed=False)
    if not is_built:
        return Finding(
            "image", "unknown", f"{reference} is not pulled yet; the first run in a container pulls it", is_needed=False
        )
    return Finding("image", "missing", f"{reference} is not built; `launcher run` builds it", "launcher build", is_needed=False)


def gpus(count: int, *, engine_runtimes: Sequence[str] | None) -> list[Finding]:
    """``engine_runtimes``: those of the container engine, None if no engine answers."""
    if not count:
        return [Finding("gpu", "missing", "no NVIDIA GPU; runs use the CPU", is_needed=False)]
    found = [Finding("gpu", "ok", f"{count} NVIDIA GPU{'s' if count > 1 else ''}")]
    if engine_runtimes is not None and "nvidia" not in engine_runtimes:
        detail = "containers get no GPU: the NVIDIA Container Toolkit is not configured"
        command = "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
        found.append(Finding("gpu in docker", "missing", detail, command, is_needed=False))
    return found


def disk(what: str, folder: str, free: int) -> Finding:
    """``free``: bytes."""
    shown = f"{free / (1 << 30):.0f} GiB free in {folder}"
    if free >= _ENOUGH:
        return Finding(what, "ok", shown)
    return Finding(what, "missing", f"{shown}; checkpoints and models need more", "launcher prune", is_needed=False)


def secrets(needed: Mapping[str, Sequence[str]], there: Iterable[str]) -> list[Finding]:
    """``needed``: experiment -> names under launch.secrets and notify; ``there``: names in .env and the environment."""
    known = set(there)
    missing = {name for names in needed.values() for name in names if name not in known}
    if not missing:
        return [Finding("secrets", "ok", "every name under launch.secrets and notify is set in .env or the environment")]
    return [
        Finding("secrets", "missing", f"{name}, needed by {', '.join(by)}, is not in .env or the environment", "edit .env",
                is_needed=False)
        for name in sorted(missing)
        for by in [sorted(key for key, names in needed.items() if name in names)]
    ]  # fmt: skip
