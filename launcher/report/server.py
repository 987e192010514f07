"""The server behind ``launcher report --serve``: a list of runs, a page for each, and pages of several; only for this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from ..errors import LauncherError, UsageError
from .page import index, render
from .reported import Reported

ADDRESS: Final = "127.0.0.1"
_NAMES: Final = ("127.0.0.1", "localhost")  # by which a browser may ask: a page elsewhere cannot give this machine another one

Listing = Callable[[], Sequence[Mapping[str, Any]]]
Load = Callable[[Sequence[str]], Sequence[Reported]]


class Server(ThreadingHTTPServer):
    """Listens on a free port, or on ``port``; raises UsageError if that is in use.

    ``listing``: the rows of the list, newest first. ``load``: the runs of these names; raises LauncherError for one that is not
    found. ``first``: the names of the page at ``/``, else the list is there.
    """

    daemon_threads = True

    def __init__(self, port: int, listing: Listing, load: Load, first: Sequence[str] = ()):
        self.listing, self.load, self.first = listing, load, tuple(first)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"--port {port}: {reason}; leave --port out for a free one") from error

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    def page(self, target: str) -> str:
        """The page at ``target``; raises LauncherError if no such run exists, LookupError for another address."""
        parts = urlsplit(target)
        if parts.path == "/" and not self.first:
            return index(self.listing())
        if parts.path == "/":
            return render(self.load(self.first))
        if parts.path == "/runs":
            return index(self.listing())
        if parts.path == "/compare":
            names = parse_qs(parts.query).get("run", [])
            return render(self.load(names)) if names else index(self.listing())
        if parts.path.startswith("/runs/"):
            return render(self.load([unquote(parts.path.removeprefix("/runs/"))]))
        raise LookupError(parts.path)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in _NAMES:
            return self._answer(HTTPStatus.FORBIDDEN, "this server answers to 127.0.0.1 and localhost")
        try:
            return self._answer(HTTPStatus.OK, self.server.page(self.path), "text/html")
        except LookupError:
            return self._answer(HTTPStatus.NOT_FOUND, "not found; the list of runs is at /runs")
        except LauncherError as error:
            return self._answer(HTTPStatus.NOT_FOUND, str(error))
        except Exception as error:
            return self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"cannot make the page: {type(error).__name__}: {error}")

    def _answer(self, code: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(code)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        for name, value in {**headers, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Logs nothing: the terminal shows only the address."""
