"""Google, as far as reading a spreadsheet needs it, as an HTTP server on this machine: the token's endpoint and the Sheets API.

The signature, audience, issuer, scope and times of a JWT are verified with the public key that the account has here; cells are
answered as Sheets answers them: rows end with their last cell that is not empty, and the range with its last such row.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/spreadsheets.readonly"
EMAIL = "reader@demo-project.iam.gserviceaccount.com"
SPREADSHEET = "1aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789abcdef"

Cells = list[list[str]]
Fault = Callable[["Answering"], bool]
"""Is shown a request before it is answered; True: it was answered, or cut, by the fault."""


def new_key(bits: int = 2048) -> str:
    """A private key in PEM, as the JSON file of a service account has it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()


@dataclass
class Google:
    """The server's state; tests change it while it runs. ``skew``: seconds that its clock is ahead of this machine's."""

    key: str
    email: str = EMAIL
    sheets: dict[str, dict[str, Cells]] = field(default_factory=dict)
    charts: set[str] = field(default_factory=set)
    shared: bool = True
    enabled: bool = True
    skew: float = 0
    requests: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    assertions: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def env(self, **more: str) -> dict[str, str]:
        """What a caller's environment says of it."""
        key = self.key.replace("\n", "\\n")
        return {
            "GOOGLE_SHEETS_CLIENT_EMAIL": self.email,
            "GOOGLE_SHEETS_PRIVATE_KEY": key,
            "GOOGLE_SHEETS_API_URL": self.url,
            "GOOGLE_SHEETS_TOKEN_URL": f"{self.url}/token",
            **more,
        }


@contextmanager
def serving(google: Google) -> Iterator[Google]:
    class Handler(Answering):
        world = google

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    google.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield google
    finally:
        server.shutdown()
        server.server_close()


class Answering(BaseHTTPRequestHandler):
    """One connection."""

    world: Google
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.world.requests.append(f"POST {self.path}")
        if not self._fault():
            self.answer(*_token(self.world, parse_qs(body)))

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.world.requests.append(f"GET {unquote(parts.path)}")
        if self._fault():
            return
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in self.world.tokens:
            self.answer(401, _error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."))
            return
        self.answer(*_read(self.world, unquote(parts.path), parse_qs(parts.query)))

    def _fault(self) -> bool:
        return bool(self.world.faults) and self.world.faults.pop(0)(self)

    def answer(self, status: int, body: Any, headers: Mapping[str, str] = {}) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json; charset=UTF-8", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate((time.time() if timestamp is None else timestamp) + self.world.skew, usegmt=True)

    def log_message(self, *_: object) -> None:
        pass


# --- faults


def status(code: int, body: Any = b"", **headers: str) -> Fault:
    """An answer with ``code``; ``headers`` with ``_`` for ``-``."""

    def fault(request: Answering) -> bool:
        request.answer(code, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return fault


def quota(after: str | None = None) -> Fault:
    """The quota of a minute is used up."""
    message = "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute per user'"
    return status(429, _error(429, "RESOURCE_EXHAUSTED", message), **({} if after is None else {"Retry_After": after}))


def reset(request: Answering) -> bool:
    """The connection is reset without an answer."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True
    request.connection.close()
    return True


def cut(request: Answering) -> bool:
    """The answer's body ends before its announced length."""
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"valueRanges": [{"values": [["pro')
    request.wfile.flush()
    request.close_connection = True
    return True


def truncated(request: Answering) -> bool:
    """The JSON ends early, and the length agrees."""
    request.answer(200, b'{"valueRanges": [{"values": [["pro')
    return True


def silent(seconds: float) -> Fault:
    """Nothing is said for a while, and then the connection is closed."""

    def fault(request: Answering) -> bool:
        time.sleep(seconds)
        request.close_connection = True
        return True

    return fault


def none(_: Answering) -> bool:
    """No fault with this request; the next one's may be."""
    return False


# --- the token's endpoint


def _token(world: Google, form: Mapping[str, list[str]]) -> tuple[int, Any]:
    if form.get("grant_type") != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
        return 400, {"error": "unsupported_grant_type", "error_description": "Invalid grant_type"}
    assertion = form["assertion"][0]
    world.assertions.append(assertion)
    head, payload, signature = assertion.split(".")
    header, claims = json.loads(_base64(head)), json.loads(_base64(payload))
    now = time.time() + world.skew
    if header.get("alg") != "RS256" or claims.get("aud") != AUDIENCE or claims.get("scope") != SCOPE:
        return 400, {"error": "invalid_grant", "error_description": "Invalid JWT: algorithm, audience or scope"}
    if claims.get("iss") != world.email:
        return 400, {"error": "invalid_grant", "error_description": "Invalid grant: account not found"}
    public = serialization.load_pem_private_key(world.key.encode(), None).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    try:
        public.verify(_base64(signature), f"{head}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    if not (claims["iat"] - 300 <= now <= claims["exp"] + 300 and claims["exp"] - claims["iat"] <= 3600):
        said = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
        return 400, {"error": "invalid_grant", "error_description": f"{said}Check your iat and exp values in the JWT claim."}
    world.tokens.append(f"ya29.c.planted-{len(world.tokens)}-" + "b0Aaekm1K9cZ" * 8)
    return 200, {"access_token": world.tokens[-1], "expires_in": 3599, "token_type": "Bearer"}


def _base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# --- the Sheets API


def _read(world: Google, path: str, query: Mapping[str, list[str]]) -> tuple[int, Any]:
    found = re.fullmatch(r"/v4/spreadsheets/([^/:]+)(/values:batchGet)?", path)
    if found is None:
        return 404, b"<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>"
    if not world.enabled:
        said = (
            "Google Sheets API has not been used in project 123456 before or it is disabled. Enable it by visiting "
            "https://console.developers.google.com/apis/api/sheets.googleapis.com/overview?project=123456 then retry."
        )
        return 403, _error(403, "PERMISSION_DENIED", said)
    sheets = world.sheets.get(found[1])
    if sheets is None:
        return 404, _error(404, "NOT_FOUND", "Requested entity was not found.")
    if not world.shared:
        return 403, _error(403, "PERMISSION_DENIED", "The caller does not have permission")
    if found[2] is None:
        kinds = {**dict.fromkeys(sheets, "GRID"), **dict.fromkeys(world.charts, "OBJECT")}
        about = [{"title": title, "sheetType": kind, "sheetId": 100 * n} for n, (title, kind) in enumerate(kinds.items())]
        return 200, {"sheets": [{"properties": one} for one in about]}
    if query.get("valueRenderOption") != ["FORMATTED_VALUE"]:
        return 400, _error(400, "INVALID_ARGUMENT", "this server shows cells as they are formatted, and no other way")
    ranges = []
    for wanted in query.get("ranges", []):
        title = wanted[1:-1].replace("''", "'") if wanted[:1] == wanted[-1:] == "'" else None
        if title not in sheets:
            return 400, _error(400, "INVALID_ARGUMENT", f"Unable to parse range: {wanted}")
        ranges.append({"range": f"{wanted}!A1:Z1000", "majorDimension": "ROWS", **_values(sheets[title])})
    return 200, {"spreadsheetId": found[1], "valueRanges": ranges}


def _values(cells: Cells) -> dict[str, Cells]:
    rows = [row[: max((n for n, cell in enumerate(row, 1) if cell), default=0)] for row in cells]
    last = max((n for n, row in enumerate(rows, 1) if row), default=0)
    return {"values": rows[:last]} if last else {}


def _error(code: int, state: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": state}}
