"""A free port of this machine for a server that another process starts later."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port() -> Iterator[int]:
    """A port of 127.0.0.1 that the kernel gives to nobody else meanwhile.

    The server that is told of it must set SO_REUSEADDR, as torchrun's does: the kernel then lets it listen beside this socket,
    which does not.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])
