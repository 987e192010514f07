"""The Docker engine: how to connect to it, and what its errors mean."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ...errors import LauncherError, UnreachableError

SOCKET: Final = Path("/var/run/docker.sock")

# An engine that cannot connect to another server: a retry may succeed.
_AWAY: Final = (
    r"dial tcp|no such host|connection refused|i/o timeout|TLS handshake|toomanyrequests"
    r"|unexpected (?:HTTP )?status(?: code)?:? 5"
)
# Message of an engine, a registry or a kernel -> what it means and how to fix it, and an example. The first match counts.
_MEANINGS: Final = (
    (r"could not select device driver|unknown or invalid runtime name: nvidia|nvidia-container-cli",
     "the engine cannot give GPUs to a container: install the NVIDIA Container Toolkit and `nvidia-ctk runtime configure`",
     'could not select device driver "" with capabilities: [[gpu]]'),
    (r"no space left on device|disk quota exceeded",
     "the engine's disk is full: free space with `launcher prune`; `docker system df` shows what uses it",
     'write /var/lib/docker/tmp/x: no space left on device'),
    (r"exec format error|no matching manifest|does not match the (specified|detected)",
     "the image is for another processor architecture: build it here, or set launch.image to one for this machine",
     'no matching manifest for linux/arm64/v8 in the manifest list entries'),
    (r"mounts? denied|is not shared from the host|bind source path does not exist",
     "the engine cannot see a mounted folder: is the engine on another machine, or the folder not shared with it?",
     'Mounts denied: The path /srv is not shared from the host'),
    (r"unauthorized|denied|authentication required|no basic auth",
     "the registry denied access: run `docker login`, or check the image's name",
     "pull access denied for me/x, repository does not exist or may require 'docker login'"),
    (r"manifest unknown|not found: manifest|repository .* not found|name unknown",
     "image not found in the registry: check its name and tag",
     'manifest for me/x:1 not found: manifest unknown'),
    (r"Conflict\. The container name", "a container with this name exists: the run was started twice",
     'Conflict. The container name "/dpo-x" is already in use by container "1"'),
    (r"x509|certificate",
     "the engine does not trust the certificate of the registry or the package index",
     'tls: failed to verify certificate: x509: certificate signed by unknown authority'),
    (_AWAY, "the engine cannot connect to the registry or the package index",
     'dial tcp: lookup registry.example.com: no such host'),
    (r"permission denied while trying to connect|Permission denied",
     "permission denied on the Docker engine: join the group docker (`sudo usermod -aG docker $USER`, then log in again)",
     'permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock'),
)  # fmt: skip
EXAMPLES: Final = tuple(example for _, _, example in _MEANINGS)


def failure(message: str, words: str) -> LauncherError:
    """The error ``message`` for an engine's ``words``: UnreachableError where it could not connect to another server."""
    return UnreachableError(message) if explained(words) == explained("dial tcp") else LauncherError(message)


def explained(words: str) -> str | None:
    """What an engine's message means, in a sentence; None for an unknown message."""
    return next((meaning for pattern, meaning, _ in _MEANINGS if re.search(pattern, words, re.IGNORECASE)), None)


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
        raise failure(f"{doing}: {meaning}\n    {words}" if meaning else f"{doing}: {words}", words) from error


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
    """None if an engine answers, else why not. Loads no client for the usual socket."""
    if caller.get("DOCKER_HOST", "").startswith("unix://") or not (caller.get("DOCKER_HOST") or _has_contexts(caller)):
        return _ping(Path(caller.get("DOCKER_HOST", "").removeprefix("unix://") or SOCKET))
    try:
        connect(caller)
    except LauncherError as error:
        return str(error).splitlines()[0]
    return None


def connect(caller: Mapping[str, str]) -> Any:
    """A client of an engine that answers; raises UnreachableError, or LauncherError without the right, with the fix."""
    from docker.client import DockerClient, from_env
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    where = address(caller)
    if where.startswith("unix://") and not Path(where.removeprefix("unix://")).exists():
        raise UnreachableError(f"no Docker engine: {where} not found (is it installed and running? --backend host needs none)")
    try:
        tls = caller.get("DOCKER_TLS_VERIFY") or caller.get("DOCKER_CERT_PATH")
        client = from_env(environment=dict(caller), timeout=600) if tls else DockerClient(where, timeout=600)
        client.ping()
    except (DockerException, RequestException) as error:
        words = str(error)
        if "PermissionError" in words or "Permission denied" in words:
            raise LauncherError(f"{where}: {explained('Permission denied')}") from error
        raise UnreachableError(
            f"cannot connect to the Docker engine at {where} (is it running? --backend host needs none)\n    {words}"
        ) from error
    return client


def check_near(where: str) -> None:
    """Raises LauncherError if the engine at ``where`` is another machine's: a run's folders are mounted, not sent."""
    if where.startswith("ssh://") or urlsplit(where).hostname not in (None, "localhost", "127.0.0.1", "::1"):
        raise LauncherError(f"the Docker engine at {where} runs on another machine, which does not have the folders of this run")


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
            return None if b" 200 " in wire.recv(64) else f"{path} is not the socket of a Docker engine"
    except FileNotFoundError:
        return f"no Docker engine: {path} not found"
    except PermissionError:
        return f"{path}: permission denied"
    except OSError as error:
        return f"cannot connect to the Docker engine at {path}: {error.strerror or error}"


def _has_contexts(caller: Mapping[str, str]) -> bool:
    return Path(caller.get("DOCKER_CONFIG") or Path(caller.get("HOME", "/"), ".docker"), "contexts", "meta").is_dir()
