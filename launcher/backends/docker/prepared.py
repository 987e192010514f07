"""What must be on this machine before a container starts: the folders that it writes to, and its secrets as files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ...runs.cache import cache_root
from .container import Container


def make_folders(spec: Container) -> None:
    """As the caller: the engine would make them as root."""
    for mount in spec.mounts:
        if not mount.read_only:
            mount.source.mkdir(parents=True, exist_ok=True)


def write_secrets(spec: Container, caller: Mapping[str, str]) -> None:
    if not spec.secrets:
        return
    spec.secret_dir.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    spec.secret_dir.mkdir(mode=0o700)
    for name in spec.secrets:
        handle = os.open(spec.secret_dir / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(caller[name])


def secret_root(caller: Mapping[str, str]) -> Path:
    """A folder in memory if possible: a secret on a disk may be found years later."""
    runtime = caller.get("XDG_RUNTIME_DIR")
    memory = Path("/dev/shm")
    base = Path(runtime) if runtime and os.access(runtime, os.W_OK) else memory if os.access(memory, os.W_OK) else None
    return (base or cache_root(caller) / "secrets") / secret_folder()


def secret_folder() -> str:
    return f"dpo-launcher-{os.getuid()}"
