"""A hub over HTTP: serves a model's folder under a name, as huggingface.co does, and fails as it is told to."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from tests.hub.served import served

COMMIT = "0" * 39 + "1"


@dataclass
class Hub:
    """``status``: what every request is answered with instead of a file, ``times`` times; ``requests``: what was asked for.

    ``folder`` has the newest files, at COMMIT; ``earlier``: folders by other commits.
    """

    folder: Path
    earlier: dict[str, Path] = field(default_factory=dict)
    name: str = "some-org/some-model"
    status: int | None = None
    times: int = 10**6
    requests: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def serving(hub: Hub) -> AbstractContextManager[Hub]:
    return served(hub, _Answering)


class _Answering(BaseHTTPRequestHandler):
    world: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub, path = self.world, urlsplit(self.path).path
        hub.requests.append(f"{self.command} {path}")
        wanted = re.search(r"/(?:resolve|revision)/([0-9a-f]{40})(?:/|$)", path)
        commit = wanted[1] if wanted else COMMIT
        folder = {COMMIT: hub.folder, **hub.earlier}.get(commit)
        if hub.status is not None and hub.times > 0:
            hub.times -= 1
            self._answer(hub.status, b"by the hub")
        elif folder is None:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith(f"/api/models/{hub.name}") and "/tree/" not in path:
            files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
            self._answer(200, json.dumps({"id": hub.name, "sha": commit, "siblings": files}).encode())
        elif path.startswith(f"/{hub.name}/resolve/") and (folder / path.rpartition("/")[2]).is_file():
            self._answer(200, (folder / path.rpartition("/")[2]).read_bytes(), {"X-Repo-Commit": commit})
        else:
            is_there = path.startswith((f"/{hub.name}/", f"/api/models/{hub.name}/"))
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound" if is_there else "RepoNotFound"})

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        etag = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'
        for name, value in {"X-Repo-Commit": COMMIT, "ETag": etag, **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
