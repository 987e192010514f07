"""A hub that tests play, behind a port of this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol, TypeVar


class Played(Protocol):
    """``port``: 0 for any free one; it is kept, so that a hub can be away and come back."""

    port: int


H = TypeVar("H", bound=Played)


@contextmanager
def served(hub: H, answering: type[BaseHTTPRequestHandler]) -> Iterator[H]:
    """Serves ``hub``, which requests find as their handler's ``world``."""
    server = ThreadingHTTPServer(("127.0.0.1", hub.port), type("Handler", (answering,), {"world": hub}))
    hub.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
