"""The engine: how to reach it, and what its failures mean."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ...errors import LauncherError

SOCKET: Final = Path("/var/run/docker.sock")

# What an engine, a registry or a kernel says -> what it means and what to do about it. The first that fits.
_MEANINGS: Final = (
    (r"could not select device driver|unknown or invalid runtime name: nvidia|nvidia-container-cli",
     "the engine cannot give GPUs to a container: install the NVIDIA Container Toolkit and `nvidia-ctk runtime configure`"),
    (r"no space left on device|disk quota exceeded",
     "the engine's disk is full: `launcher prune` and `docker system df` show what can go"),
    (r"exec format error|no matching manifest|does not match the (specified|detected)",
     "the image is for another processor than this machine's: build it here, or name one that fits under launch.image"),
    (r"mounts? denied|is not shared from the host|bind source path does not exist",
     "the engine does not see a folder that is mounted: is it on another machine, or not shared with Docker Desktop?"),
    (r"unauthorized|denied|authentication required|no basic auth",
     "the registry refuses: `docker login` to it, or check the image's name"),
    (r"manifest unknown|not found: manifest|repository .* not found|name unknown",
     "the registry has no such image: check its name and tag"),
    (r"Conflict\. The container name", "a container of this name is there already: two starts of one run"),
    (r"dial tcp|no such host|connection refused|i/o timeout|TLS handshake|certificate",
     "the registry or the package index cannot be reached from the engine"),
    (r"permission denied while trying to connect|Permission denied",
     "no permission to use the Docker engine: join the group docker (`sudo usermod -aG docker $USER`, then log in again)"),
)  # fmt: skip


def explained(words: str) -> str | None:
    """What an engine's words mean, in a sentence, or None for words that nobody has met."""
    return next((meaning for pattern, meaning in _MEANINGS if re.search(pattern, words, re.IGNORECASE)), None)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turns the client's errors into a LauncherError that begins with what was being done."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException) as error:
        words = str(getattr(error, "explanation", None) or error)
        meaning = explained(words)
        raise LauncherError(f"{doing}: {meaning}\n    {words}" if meaning else f"{doing}: {words}") from error


def address(caller: Mapping[str, str]) -> str:
    """Where the engine listens: DOCKER_HOST, else the Docker command line's current context, else the usual socket."""
    if caller.get("DOCKER_HOST"):
        return caller["DOCKER_HOST"]
    if not _has_contexts(caller):
        return f"unix://{SOCKET}"
    from docker.context import ContextAPI

    context = ContextAPI.get_current_context()
    return str((context.Host if context is not None else None) or f"unix://{SOCKET}")


def answers(caller: Mapping[str, str]) -> str | None:
    """None if an engine answers, else why not, in a few words. Loads no client where the usual socket is meant."""
    if caller.get("DOCKER_HOST", "").startswith("unix://") or not (caller.get("DOCKER_HOST") or _has_contexts(caller)):
        return _ping(Path(caller.get("DOCKER_HOST", "").removeprefix("unix://") or SOCKET))
    try:
        connect(caller)
    except LauncherError as error:
        return str(error).splitlines()[0]
    return None


def connect(caller: Mapping[str, str]) -> Any:
    """A client of the engine, which has answered; raises LauncherError with what to do where it does not."""
    from docker.client import DockerClient, from_env
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    where = address(caller)
    if where.startswith("unix://") and not Path(where.removeprefix("unix://")).exists():
        raise LauncherError(f"no Docker engine: {where} is not there (is it installed and started? --backend host needs none)")
    try:
        tls = caller.get("DOCKER_TLS_VERIFY") or caller.get("DOCKER_CERT_PATH")
        client = from_env(environment=dict(caller), timeout=600) if tls else DockerClient(where, timeout=600)
        client.ping()
    except (DockerException, RequestException) as error:
        words = str(error)
        if "PermissionError" in words or "Permission denied" in words:
            raise LauncherError(f"{where}: {explained('Permission denied')}") from error
        raise LauncherError(
            f"no Docker engine answers at {where} (is it started? --backend host needs none)\n    {words}"
        ) from error
    return client


def check_near(where: str) -> None:
    """Raises LauncherError if the engine at ``where`` is another machine's: a run's folders are mounted, not sent."""
    if where.startswith("ssh://") or urlsplit(where).hostname not in (None, "localhost", "127.0.0.1", "::1"):
        raise LauncherError(f"the Docker engine at {where} is another machine's, which does not have the folders of this run")


def is_rootless(where: str) -> bool:
    """Whether the engine at ``where`` runs as the caller, so that root in a container is the caller outside."""
    try:
        owner = Path(where.removeprefix("unix://")).stat().st_uid
    except OSError:
        return False
    return owner == os.getuid() != 0


def _ping(path: Path) -> str | None:
    try:
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(5)
            wire.connect(str(path))
            wire.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return None if b" 200 " in wire.recv(64) else f"{path} answers, but not as a Docker engine"
    except FileNotFoundError:
        return f"no Docker engine: {path} is not there"
    except PermissionError:
        return f"no permission on {path}"
    except OSError as error:
        return f"no Docker engine answers at {path}: {error.strerror or error}"


def _has_contexts(caller: Mapping[str, str]) -> bool:
    return Path(caller.get("DOCKER_CONFIG") or Path(caller.get("HOME", "/"), ".docker"), "contexts", "meta").is_dir()
