"""A hub over HTTP with datasets: their commits, trees and files; private, gated and away as a test wants it."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.hub.served import served

TOKEN = "hf_" + "Readable" * 4


@dataclass
class DataSet:
    """``commits``: files by commit; ``refs``: branch or tag -> commit. ``is_gated``: its files need the token."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    is_gated: bool = False

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        """Makes ``files`` the newest of ``ref``."""
        name = hashlib.sha1(f"{ref} {sorted(files.items())}".encode(), usedforsecurity=False).hexdigest()
        self.commits[name], self.refs[ref] = files, name
        return name


@dataclass
class DataHub:
    """``status``: what every request is answered with; ``requests``: what was asked for, without the queries."""

    sets: dict[str, DataSet] = field(default_factory=dict)
    status: int | None = None
    requests: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serving(self) -> AbstractContextManager[DataHub]:
        return served(self, _Answering)


class _Answering(BaseHTTPRequestHandler):
    world: DataHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.world.requests.append(f"{self.command} {path}")
        if self.world.status is not None:
            return self._answer(self.world.status, b"by the hub")
        pattern = r"/(?:api/)?datasets/(?P<name>[^/]+/[^/]+)(?:/(?P<what>revision|tree|resolve)/(?P<rest>.+))?"
        found = re.fullmatch(pattern, path)
        known = self.world.sets.get(found["name"]) if found else None
        if found is None or known is None:
            return self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        revision, file = _split(known, found["rest"] or "main", has_file=found["what"] == "resolve")
        commit = known.refs.get(revision, revision)
        if commit not in known.commits:
            return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        files = known.commits[commit]
        if found["what"] == "resolve":
            return self._file(known, commit, files.get(file))
        if found["what"] == "tree":
            return self._json(
                [{"type": "file", "path": name, "size": len(body), "oid": "0" * 40} for name, body in files.items()]
            )
        return self._json({"id": found["name"], "sha": commit, "gated": "auto" if known.is_gated else False})

    do_HEAD = do_GET

    def _file(self, known: DataSet, commit: str, body: bytes | None) -> None:
        if known.is_gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if body is None:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        etag = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'
        return self._answer(200, body, {"X-Repo-Commit": commit, "ETag": etag})

    def _json(self, answer: Any) -> None:
        self._answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _split(known: DataSet, rest: str, *, has_file: bool) -> tuple[str, str]:
    """(revision, file); a revision such as refs/convert/parquet has slashes of its own."""
    named = [ref for ref in known.refs if rest == ref or rest.startswith(f"{ref}/")]
    revision = max(named, key=len, default=rest.partition("/")[0])
    return revision, rest.removeprefix(revision).lstrip("/") if has_file else ""
