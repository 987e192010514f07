"""A hub over HTTP that takes commits, as far as its client's protocol goes: repositories, branches, preupload, LFS, commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from tests.hub.served import served

TOKEN = "hf_" + "Writable" * 4
LFS = re.compile(r"\.(safetensors|bin)$")


@dataclass
class Repository:
    """``branches``: the commits of each, the newest last, as (id, files by name)."""

    private: bool
    branches: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=lambda: {"main": [("0" * 40, {})]})

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.branches[branch][-1][1]

    def commit(self, branch: str, changes: dict[str, bytes]) -> str:
        files = {**self.files(branch), **changes}
        known = f"{branch}{len(self.branches[branch])}" + "".join(f"{name}{body!r}" for name, body in sorted(files.items()))
        name = hashlib.sha1(known.encode(), usedforsecurity=False).hexdigest()
        self.branches[branch].append((name, files))
        return name


@dataclass
class WritableHub:
    """``owners``: whose repositories the token may write; ``stored``: LFS objects by their SHA-256; ``status``: every answer."""

    owners: tuple[str, ...] = ("me",)
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    status: int | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serving(self) -> AbstractContextManager[WritableHub]:
        return served(self, _Answering)


class _Refused(Exception):
    def __init__(self, status: int, error: str, code: str | None = None):
        super().__init__(error)
        self.status, self.error, self.code = status, error, code


class _Answering(BaseHTTPRequestHandler):
    world: WritableHub
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.world.requests.append(f"{self.command} {path}")
        try:
            answer = self._routed(path, body)
            if answer is not None:
                self._send(200, answer)
        except _Refused as refused:
            self._send(refused.status, {"error": refused.error}, refused.code)

    do_GET = do_POST = do_PUT = _handle

    def _routed(self, path: str, body: bytes) -> Any:
        if self.world.status is not None:
            raise _Refused(self.world.status, "by the hub")
        routes: dict[str, Callable[..., Any]] = {
            r"PUT /lfs/(\w+)": self._put,
            r"POST /verify": self._verify,
            r"POST /api/validate-yaml": self._validate,
            r"POST /api/repos/create": self._create,
            r"GET /api/models/([^/]+/[^/]+)": self._info,
            r"GET /api/models/([^/]+/[^/]+)/revision/([^/]+)": self._info,
            r"POST /api/models/([^/]+/[^/]+)/branch/([^/]+)": self._branch,
            r"POST /api/models/([^/]+/[^/]+)/preupload/([^/]+)": self._preupload,
            r"POST /api/models/([^/]+/[^/]+)/commit/([^/]+)": self._commit,
            r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch": self._batch,
        }
        for pattern, answer in routes.items():
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                if not path.startswith("/lfs/"):
                    self._authorize()
                return answer(body, *map(unquote, found.groups()))
        raise _Refused(404, f"no such place: {self.command} {path}")

    def _authorize(self) -> None:
        if self.headers.get("Authorization") not in (None, f"Bearer {TOKEN}"):
            raise _Refused(401, "Invalid credentials in Authorization header")

    def _writable(self, name: str) -> Repository:
        if self.headers.get("Authorization") is None:
            raise _Refused(401, "Invalid username or password.")
        if name.partition("/")[0] not in self.world.owners:
            raise _Refused(403, f"You don't have the rights to create a model under the namespace {name.partition('/')[0]}")
        return self._repository(name)

    def _repository(self, name: str) -> Repository:
        if name not in self.world.repositories:
            raise _Refused(404, "Repository not found", "RepoNotFound")
        return self.world.repositories[name]

    def _create(self, body: bytes) -> Any:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.world.repositories:
            raise _Refused(409, "You already created this model repo")
        self.world.repositories[name] = Repository(asked.get("visibility") == "private")
        try:
            self._writable(name)
        except _Refused:
            del self.world.repositories[name]
            raise
        return {"url": f"{self.world.url}/{name}"}

    def _info(self, body: bytes, name: str, revision: str = "main") -> Any:
        repository = self._repository(name)
        if revision not in repository.branches:
            raise _Refused(404, "Invalid rev id", "RevisionNotFound")
        commit, files = repository.branches[revision][-1]
        return {"id": name, "sha": commit, "private": repository.private, "siblings": [{"rfilename": one} for one in files]}

    def _branch(self, body: bytes, name: str, branch: str) -> Any:
        branches = self._writable(name).branches
        branches[branch] = list(branches["main"])
        return {}

    def _validate(self, body: bytes) -> None:
        """As the hub: a base model must have the form of a hub id."""
        card = json.loads(body)["content"]
        found = yaml.safe_load(card.split("---")[1]) if card.startswith("---\n") else {}
        base = found.get("base_model", "any/name")
        wrong = [] if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base) else [{"message": f'"base_model" {base} is no model id'}]
        self._send(400 if wrong else 200, {"errors": wrong, "warnings": []})

    def _preupload(self, body: bytes, name: str, branch: str) -> Any:
        files, found = self._writable(name).files(branch), []
        for asked in json.loads(body)["files"]:
            path, is_lfs = asked["path"], LFS.search(asked["path"]) is not None
            there = files.get(path)
            oid = None if there is None else hashlib.sha256(there).hexdigest() if is_lfs else _git_oid(there)
            found.append({"path": path, "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False, "oid": oid})
        return {"files": found}

    def _batch(self, body: bytes, name: str) -> Any:
        self._writable(name)
        objects = []
        for asked in json.loads(body)["objects"]:
            actions = {"upload": {"href": f"{self.world.url}/lfs/{asked['oid']}"}, "verify": {"href": f"{self.world.url}/verify"}}
            objects.append(asked if asked["oid"] in self.world.stored else {**asked, "actions": actions})
        return {"transfer": "basic", "objects": objects}

    def _put(self, body: bytes, oid: str) -> Any:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refused(400, "the object has another SHA-256")
        self.world.stored[oid] = body
        return {}

    def _verify(self, body: bytes) -> Any:
        asked = json.loads(body)
        if len(self.world.stored.get(asked["oid"], b"")) != asked["size"]:
            raise _Refused(404, "object not found")
        return {}

    def _commit(self, body: bytes, name: str, branch: str) -> Any:
        repository, changes = self._writable(name), {}
        for line in body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                if value["oid"] not in self.world.stored:
                    raise _Refused(400, "the LFS object was not uploaded")
                changes[value["path"]] = self.world.stored[value["oid"]]
        commit = repository.commit(branch, changes)
        return {"commitUrl": f"{self.world.url}/{name}/commit/{commit}", "commitOid": commit}

    def _send(self, status: int, answer: Any, code: str | None = None) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
