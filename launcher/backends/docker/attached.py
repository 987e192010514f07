"""A command in a run's container, as `docker exec -it` does it, through the engine's API."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from .engine import translated


class Attached:
    """A ``Wire`` to a new process in the container ``name``, under the container's user."""

    def __init__(self, client: Any, name: str, command: Sequence[str], *, tty: bool):
        self._api, self._name, self._tty = client.api, name, tty
        with translated(f"{name}: {command[0]} did not start"):
            self._id = self._api.exec_create(name, list(command), stdin=True, tty=tty)["Id"]
            self._stream = self._api.exec_start(self._id, tty=tty, socket=True)
        self._wire = getattr(self._stream, "_sock", self._stream)

    def send(self, data: bytes) -> None:
        with suppress(OSError):
            self._wire.sendall(data)

    def end(self) -> None:
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_WR)

    def resize(self, columns: int, rows: int) -> None:
        from docker.errors import DockerException

        with suppress(DockerException, OSError):  # the command may have ended
            self._api.exec_resize(self._id, height=rows, width=columns)

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        from docker.utils.socket import frames_iter

        yield from frames_iter(self._stream, tty=self._tty)

    def code(self) -> int:
        with translated(self._name):
            return int(self._api.exec_inspect(self._id)["ExitCode"] or 0)

    def close(self) -> None:
        self._stream.close()
