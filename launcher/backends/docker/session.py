"""A process that works with trained weights, in a container that is attached to and removed at its end."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ..session import Session, last_lines
from .container import Container, arguments
from .engine import translated


class ContainerSession(Session):
    """Its folders and its secrets are there. The container ends when nobody is attached: its standard input ends then."""

    def __init__(self, client: Any, spec: Container) -> None:
        self._api, self._spec, self._errors = client.api, spec, bytearray()
        try:
            with translated(f"{spec.name} did not start"):
                asked = {**arguments(spec, self._api), "stdin_open": True}
                self._id = self._api.create_container(**asked)["Id"]
                wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
                self._socket = self._api.attach_socket(self._id, params=wanted)
                self._api.start(self._id)
        except BaseException:
            self._remove()
            raise
        super().__init__()

    def send(self, line: str) -> None:
        with suppress(OSError):
            self._wire.sendall(line.encode() + b"\n")

    def wait(self) -> tuple[int, str]:
        with translated(self._spec.name):
            code = int(self._api.wait(self._id)["StatusCode"])
        return code, last_lines(bytes(self._errors))

    def close(self) -> None:
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_WR)
        self._remove()
        self._socket.close()

    def _pieces(self) -> Iterator[bytes]:
        from docker.utils.socket import STDERR, frames_iter

        for stream, piece in frames_iter(self._socket, tty=False):
            if stream == STDERR:
                self._errors += piece
            else:
                yield piece

    def _remove(self) -> None:
        from docker.errors import APIError, NotFound

        with suppress(NotFound, APIError):
            self._api.remove_container(self._spec.name, force=True, v=True)
        if self._spec.secrets:
            shutil.rmtree(self._spec.secret_dir, ignore_errors=True)

    @property
    def _wire(self) -> Any:
        """The socket below the client's reader, which is what can be written to."""
        return getattr(self._socket, "_sock", self._socket)
