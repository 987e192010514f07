"""A server that takes what S3 takes as fast as it can be read, and keeps none of it: python -m tests.s3.sink prints its port.

It knows what an upload needs: objects, parts, their completion, listings that are empty, and HEAD with the checksums that it was
told. Small objects are kept, so that a manifest can be read. It ends with its standard input.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

_SMALL = 1 << 16
_CHUNK = 1 << 20


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    rbufsize = _CHUNK
    sizes: ClassVar[dict[str, int]] = {}
    checksums: ClassVar[dict[str, str]] = {}
    kept: ClassVar[dict[str, bytes]] = {}
    parts: ClassVar[dict[str, dict[int, tuple[int, str]]]] = {}

    def do_PUT(self) -> None:
        path, query = self._split()
        checksum, (size, body) = self.headers.get("x-amz-checksum-sha256", ""), self._read()
        if "uploadId" in query:
            self.parts[query["uploadId"]][int(query["partNumber"])] = (size, checksum)
        else:
            self.sizes[path], self.checksums[path], self.kept[path] = size, checksum, body
        self._answer(200, {"ETag": '"sink"', **({"x-amz-checksum-sha256": checksum} if checksum else {})})

    def do_POST(self) -> None:
        path, query = self._split()
        self._read()
        if "uploads" in query:
            upload = os.urandom(8).hex()
            self.parts[upload] = {}
            body = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            algorithm = self.headers.get("x-amz-checksum-algorithm")
            self._answer(200, {"x-amz-checksum-algorithm": algorithm} if algorithm else {}, body.encode())
            return
        parts = self.parts.pop(query["uploadId"])
        self.sizes[path] = sum(size for size, _ in parts.values())
        told = b"".join(base64.b64decode(parts[number][1]) for number in sorted(parts))
        self.checksums[path] = base64.b64encode(hashlib.sha256(told).digest()).decode() + f"-{len(parts)}"
        self._answer(200, {}, b"<CompleteMultipartUploadResult><ETag>sink</ETag></CompleteMultipartUploadResult>")

    def do_HEAD(self) -> None:
        path, _ = self._split()
        checksum = self.checksums[path]
        self._answer(200, {"ETag": '"sink"', **({"x-amz-checksum-sha256": checksum} if checksum else {})}, size=self.sizes[path])

    def do_GET(self) -> None:
        path, query = self._split()
        if "uploads" in query:
            self._answer(200, {}, b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
        elif "list-type" in query:
            self._answer(200, {}, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        else:
            self._answer(200, {"ETag": '"sink"'}, self.kept[path])

    def _split(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        return url.path, {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}

    def _read(self) -> tuple[int, bytes]:
        size = int(self.headers.get("Content-Length") or 0)
        if size <= _SMALL:
            return size, self.rfile.read(size)
        buffer, left = memoryview(bytearray(_CHUNK)), size
        while left:
            left -= self.rfile.readinto(buffer[: min(left, _CHUNK)])  # type: ignore[attr-defined]
        return size, b""

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"", size: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)  # noqa: T201
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
