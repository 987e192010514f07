"""FaultProxy: stands before an S3 server, counts what passes, and breaks what it is told to break."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

KINDS = ("status", "reset", "drop", "truncate", "silent", "corrupt request", "corrupt answer", "wrong checksum")
_ETAG = re.compile(rb'(<ETag>(?:"|&quot;|&#34;)?)')
OTHER_SHA256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # of nothing


@dataclass
class Fault:
    """What happens to the next ``times`` requests of ``method`` whose path and query hold ``match``, after ``skip`` of them.

    status: answered with ``status`` and nothing forwarded · reset: the connection breaks in the middle of the request's body ·
    drop: done, but the answer is lost · truncate: the answer's body ends half-way · silent: done, but no answer comes ·
    corrupt request, corrupt answer: one byte is another · wrong checksum: the answer has that of nothing.
    """

    kind: str
    method: str = ""
    match: str = ""
    times: int = 1
    skip: int = 0
    status: int = 503
    code: str = "SlowDown"
    headers: dict[str, str] = field(default_factory=dict)
    hits: int = 0

    def __post_init__(self) -> None:
        assert self.kind in KINDS

    def takes(self, method: str, target: str) -> bool:
        if (self.method and method != self.method) or self.match not in unquote(target):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times <= 0:
            return False
        self.times -= 1
        self.hits += 1
        return True


@dataclass(frozen=True)
class Request:
    """One that the server has answered; ``size``: bytes of its body."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    size: int
    status: int

    @property
    def part(self) -> tuple[str, str, int] | None:
        """(path, upload, number) of a part that was sent."""
        if self.method != "PUT" or "partNumber" not in self.query:
            return None
        return self.path, self.query["uploadId"], int(self.query["partNumber"])


class FaultProxy:
    """``url`` is the server's as clients see it; ``requests`` what the server has answered, in the order of its answers."""

    def __init__(self, upstream: str, prefix: str = ""):
        self.upstream, self.prefix = urlsplit(upstream).netloc, prefix
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.forgets_checksums = False  # as servers do that do not know them
        self.refuses_checksums = False
        self.has_opaque_etags = False  # that are no MD5
        self.reached = threading.Event()  # by a request, since it was last cleared
        self.released = threading.Event()
        self._port = 0

    def __enter__(self) -> FaultProxy:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.released.set()
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self.prefix}"

    def start(self) -> None:
        """Also again, after ``kill``, at the same address."""
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.proxy = self
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def kill(self) -> None:
        """Breaks every connection and answers no new one."""
        self._server.shutdown()
        self._server.server_close()
        self._server.break_all()

    def fault_for(self, method: str, target: str) -> Fault | None:
        with self.lock:
            return next((fault for fault in self.faults if fault.takes(method, target)), None)

    def parts(self) -> Iterator[tuple[tuple[str, str, int], int]]:
        """((path, upload, number), bytes) of every part that the server has taken."""
        with self.lock:
            taken = [request for request in self.requests if request.status == 200]
        yield from ((request.part, request.size) for request in taken if request.part is not None)


class _Server(ThreadingHTTPServer):
    proxy: FaultProxy
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.open: set[socket.socket] = set()

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self.open.discard(request)
        super().shutdown_request(request)

    def break_all(self) -> None:
        for connection in list(self.open):
            reset(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # connections that break are what this server is for


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _pass(self) -> None:
        proxy = self.server.proxy
        proxy.reached.set()
        fault = proxy.fault_for(self.command, self.path)
        size = int(self.headers.get("Content-Length") or 0)
        if fault is not None and fault.kind == "reset":
            self.rfile.read(size // 2)
            self._break()
            return
        body = self.rfile.read(size)
        if fault is not None and fault.kind == "status":
            self._error(fault.status, fault.code, fault.headers)
        elif proxy.refuses_checksums and self._has_checksum():
            self._error(501, "NotImplemented", {})
        else:
            self._through(body, fault.kind if fault else "")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass

    def _has_checksum(self) -> bool:
        return any(re.match("x-amz-checksum-(?!mode)", name.lower()) for name in self.headers)

    def _through(self, body: bytes, kind: str) -> None:
        if kind == "corrupt request" and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        status, headers, answer = self._forward(body)
        self._note(len(body), status)
        if kind == "silent":
            self.server.proxy.released.wait()
        if kind in ("drop", "silent"):
            self._break()
            return
        if kind == "corrupt answer" and answer:
            answer = bytes([answer[0] ^ 1]) + answer[1:]
        if kind == "wrong checksum":
            headers = [(n, OTHER_SHA256 if n.lower() == "x-amz-checksum-sha256" else v) for n, v in headers]
        self._answer(status, headers, answer, cut=kind == "truncate")

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        proxy = self.server.proxy
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("expect", "connection")}
        if proxy.forgets_checksums:
            headers = {n: v for n, v in headers.items() if "checksum" not in n.lower()}
        if proxy.has_opaque_etags:
            headers = {name: value.replace("opaque-", "") for name, value in headers.items()}
            body = body.replace(b"opaque-", b"") if self.command == "POST" else body
        if body:
            headers["Content-Length"] = str(len(body))
        upstream = http.client.HTTPConnection(proxy.upstream, timeout=60)
        try:
            upstream.request(self.command, self.path.removeprefix(proxy.prefix), body=body or None, headers=headers)
            answer = upstream.getresponse()
            content, found = answer.read(), answer.getheaders()
        finally:
            upstream.close()
        if proxy.has_opaque_etags:
            content = _ETAG.sub(rb"\1opaque-", content)
            found = [(n, f'"opaque-{v.strip(chr(34))}"' if n.lower() == "etag" else v) for n, v in found]
        return answer.status, found, content

    def _note(self, size: int, status: int) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        request = Request(self.command, unquote(url.path), query, dict(self.headers.items()), size, status)
        with self.server.proxy.lock:
            self.server.proxy.requests.append(request)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        length = next((value for name, value in headers if name.lower() == "content-length"), "0")
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._break()

    def _error(self, status: int, code: str, headers: dict[str, str]) -> None:
        body = f"<Error><Code>{code}</Code><Message>by the proxy</Message></Error>".encode()
        self._answer(status, [("Content-Type", "application/xml"), *headers.items()], body)

    def _break(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        reset(self.connection)

    def log_message(self, *_: object) -> None:
        pass


def reset(connection: socket.socket) -> None:
    """Ends a connection with an RST, as a machine does whose process is gone."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
        connection.close()
    except OSError:
        pass  # it has ended by itself
