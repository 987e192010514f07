"""The emulator's HTTP side: paths, verbs, access, faults, watches."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import selectors, streams
from .discovery import discovery
from .faults import Fault
from .kinds import ALSO, BY_PLURAL, KINDS, Kind
from .logs import Log
from .refusal import Refusal, bad_request, expired, forbidden, no_such_page
from .store import Change

if TYPE_CHECKING:
    from . import ClusterApi

LIMIT = 3 * 1024 * 1024  # bytes of a request
_PATH = re.compile(
    r"(?P<place>/api/v1|/apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/]))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?"
)
_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}


@dataclass(frozen=True)
class Request:
    """A request as it came, ``at`` seconds of a clock that only runs forward."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    at: float


@dataclass(frozen=True)
class Target:
    """What a path means."""

    kind: Kind
    namespace: str | None
    name: str | None
    sub: str | None


class Server:
    """Answers for ``api``, whose settings a test may change at any time."""

    def __init__(self, api: ClusterApi):
        self.api, self.open, self.busy = api, set[tuple[str, asyncio.Transport]](), 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request from its beginning to its end, whether or not somebody still waits for it."""
        self.busy += 1
        try:
            return await self._handle(request)
        finally:
            self.busy -= 1

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """The transport is cut where a fault says so."""
        raw = await request.read()
        body = json.loads(raw) if raw else None
        self.api.requests.append(Request(request.method, request.path, dict(request.query), body, time.monotonic()))
        fault = self.api.faults.take(request.method, request.path_qs)
        await asyncio.sleep(self.api.delay)
        while fault is not None and fault.gate is not None and not fault.gate.is_set():
            await asyncio.sleep(0.01)
        if fault is not None and fault.is_cut:
            return self._cut(request)
        try:
            if fault is not None and fault.status is not None and not fault.done:
                raise _Answered(fault)
            self._check_token(request)
            if len(raw) > LIMIT:
                raise Refusal(413, "RequestEntityTooLarge", f"Request entity too large: limit is {LIMIT}")
            answer = await self._answer(request, body, fault)
            if fault is not None and fault.status is not None:
                raise _Answered(fault)
        except _Answered as made:
            refusal = Refusal(made.fault.status or 500, made.fault.reason, made.fault.message)
            answer = web.json_response(refusal.status, status=refusal.code, headers=made.fault.headers)
        except Refusal as refusal:
            answer = web.json_response(refusal.status, status=refusal.code)
        if fault is not None and fault.done and fault.status is None:
            return self._cut(request)
        if not answer.prepared:
            answer.headers.update(self._date())
        return answer

    def _date(self) -> dict[str, str]:
        return {"Date": format_datetime(datetime.now(UTC) + self.api.ahead, usegmt=True)}

    def cut(self, pattern: str) -> int:
        """Cuts the streams whose path fits; how many there were."""
        chosen = [one for one in self.open if re.search(pattern, one[0])]
        for _, transport in chosen:
            transport.abort()
        return len(chosen)

    def _cut(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _check_token(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {self.api.token}":
            raise Refusal(401, "Unauthorized", "Unauthorized")

    async def _answer(self, request: web.Request, body: Any, fault: Fault | None) -> web.StreamResponse:
        path = request.path.rstrip("/")
        for other, place in ALSO.items():
            path = place + path.removeprefix(other) if path.startswith(other) else path
        found = discovery(path, [kind for kind in KINDS if self._is_served(kind)], self.api.minor)
        if found is not None:
            return web.json_response(found)
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            return web.json_response(self._review(body), status=201)
        if path == "/apis/authentication.k8s.io/v1/selfsubjectreviews" and self.api.username is not None:
            who = {"username": self.api.username, "groups": ["system:authenticated"]}
            return web.json_response({**body, "metadata": {}, "status": {"userInfo": who}}, status=201)
        target = self._target(path)
        if target.sub is not None:
            return await self._subresource(request, target, fault)
        verb = self._verb(request, target)
        self._check_access(verb, target)
        if verb == "watch":
            return await self._stream(request, self._watch(request, target), fault, "application/json")
        return web.json_response(*self._object(verb, request, target, body))

    def _object(self, verb: str, request: web.Request, target: Target, body: Any) -> tuple[Any]:
        objects, kind, query = self.api.objects, target.kind, request.query
        options = {"dry_run": query.get("dryRun") == "All", "strict": query.get("fieldValidation") == "Strict"}
        if verb == "create":
            return (objects.create(kind, target.namespace, body, **options),)
        if verb == "list":
            return (self._list(request, target),)
        name, namespace = target.name or "", target.namespace or ""
        if verb == "patch":
            if request.content_type != "application/merge-patch+json":
                raise Refusal(415, "UnsupportedMediaType", f"{request.content_type}: this emulator knows merge patches alone")
            return (objects.patch(kind, target.namespace, name, body, **options),)
        if verb == "delete":
            asked = body or {}
            wanted = (asked.get("preconditions") or {}).get("uid")
            uid = objects.get(kind.plural, name, namespace)["metadata"]["uid"]
            if wanted not in (None, uid):
                raise Refusal(409, "Conflict", f"the UID in the precondition ({wanted}) does not match the UID in record ({uid})")
            propagation, grace = asked.get("propagationPolicy", "Background"), asked.get("gracePeriodSeconds")
            objects.delete(kind.plural, name, namespace, propagation=propagation, grace=grace)
            return ({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"},)
        return (objects.get(kind.plural, name, namespace),)

    def _list(self, request: web.Request, target: Target) -> dict[str, Any]:
        query, objects = request.query, self.api.objects
        fits_labels = selectors.labels(query.get("labelSelector"))
        fits_fields = selectors.fields(query.get("fieldSelector"), target.kind)
        with objects.lock:
            version, begin = objects.version, ["", ""]
            if query.get("continue"):
                token = json.loads(base64.b64decode(query["continue"]))
                version, begin = token["version"], token["begin"]
                if version < objects.oldest:
                    raise expired("The provided continue parameter is too old to display a consistent list result.")
            found = objects.list(target.kind.plural, target.namespace)
        found = [obj for obj in found if fits_labels(obj) and fits_fields(obj)]
        found = [obj for obj in found if _place(obj) > begin]
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        limit = int(query.get("limit", 0))
        if limit and len(found) > limit:
            token = {"version": version, "begin": _place(found[limit - 1])}
            metadata |= {
                "continue": base64.b64encode(json.dumps(token).encode()).decode(),
                "remainingItemCount": len(found) - limit,
            }
            found = found[:limit]
        items = [{name: value for name, value in obj.items() if name not in ("kind", "apiVersion")} for obj in found]
        kind = target.kind
        return {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}

    async def _watch(self, request: web.Request, target: Target) -> AsyncIterator[bytes]:
        query, objects = request.query, self.api.objects
        fits_labels = selectors.labels(query.get("labelSelector"))
        fits_fields = selectors.fields(query.get("fieldSelector"), target.kind)

        def fits(obj: dict[str, Any] | None) -> bool:
            inside = obj is not None and target.namespace in (None, obj["metadata"].get("namespace"))
            named = inside and target.name in (None, (obj or {})["metadata"]["name"])
            return named and obj is not None and fits_labels(obj) and fits_fields(obj)

        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell(_: Change | None) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(news.set)

        until = loop.time() + float(query.get("timeoutSeconds", 1800))
        asked = query.get("resourceVersion", "0")
        objects.listeners.append(tell)
        self.api.bells.append(tell)
        try:
            version = int(asked)
            if version == 0:
                with objects.lock:
                    version = objects.version
                    there = [obj for obj in objects.list(target.kind.plural, target.namespace) if fits(obj)]
                for obj in there:
                    yield _event("ADDED", obj)
            bookmarks = self.api.bookmarks
            while True:
                news.clear()
                changes, now = objects.since(version), objects.version
                for change in changes:
                    version = change.version
                    if change.plural == target.kind.plural and (kind := _kind_of(change, fits)) is not None:
                        yield _event(kind, change.last)
                version = max(version, now) if not changes else version
                if self.api.bookmarks > bookmarks and "allowWatchBookmarks" in query:
                    bookmarks = self.api.bookmarks
                    kind_name = target.kind
                    mark = {
                        "kind": kind_name.name,
                        "apiVersion": kind_name.api_version,
                        "metadata": {"resourceVersion": str(version)},
                    }
                    yield _event("BOOKMARK", mark)
                if loop.time() >= until:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), until - loop.time())
        except Refusal as refusal:
            yield _event("ERROR", refusal.status)
        finally:
            objects.listeners.remove(tell)
            self.api.bells.remove(tell)

    async def _subresource(self, request: web.Request, target: Target, fault: Fault | None) -> web.StreamResponse:
        resource = f"{target.kind.plural}/{target.sub}"
        if resource not in ("pods/log", "pods/exec", "pods/portforward"):
            raise no_such_page()
        verbs = ("get",) if target.sub == "log" else ("create", "get")
        for verb in verbs:
            self._check_access(verb, target, resource)
        pod = self.api.objects.get("pods", target.name or "", target.namespace or "")
        if target.sub == "log":
            pieces = self._log(request, target, pod)
            return await self._stream(request, pieces, fault, "text/plain")
        if (pod.get("status") or {}).get("phase") != "Running":
            raise bad_request(f"pod {target.name} is not running: it cannot be connected to")
        return await self._socket(request, target)

    async def _socket(self, request: web.Request, target: Target) -> web.StreamResponse:
        api, key = self.api, (target.namespace or "", target.name or "")
        act = api.commands.get(key)
        if target.sub == "exec" and act is None:
            raise Refusal(500, "InternalError", f"no command was prepared for pod {target.name}")
        protocols = streams.PROTOCOLS if target.sub == "exec" else streams.PROTOCOLS[1:]  # a kubelet has v5 for commands alone
        socket = web.WebSocketResponse(protocols=protocols, max_msg_size=0)
        await socket.prepare(request)
        assert request.transport is not None
        one = (request.path_qs, request.transport)
        self.open.add(one)
        try:
            if target.sub == "exec":
                assert act is not None
                await streams.command(socket, request.query.getall("command"), act, tty=request.query.get("tty") == "true")
            else:
                number = int(request.query["ports"])
                await streams.port(socket, number, api.ports.get((*key, number)))
            await socket.close()
        finally:
            self.open.discard(one)
        return socket

    def _log(self, request: web.Request, target: Target, pod: dict[str, Any]) -> AsyncIterator[bytes]:
        query, namespace, name = request.query, target.namespace or "", target.name or ""
        containers = [one["name"] for one in pod["spec"]["containers"]]
        container = query.get("container") or containers[0]
        if container not in containers:
            raise bad_request(f"container {container} is not valid for pod {name}")
        key = (namespace, name, container + ("/previous" if query.get("previous") == "true" else ""))
        source = self.api.logs.get(key)
        if source is None and query.get("previous") == "true":
            raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        if source is None and not pod["spec"].get("nodeName"):
            source = Log(ended=True)  # nobody to ask: the answer is an empty one
        if source is None:
            statuses = (pod.get("status") or {}).get("containerStatuses") or []
            waiting = next((s["state"].get("waiting") for s in statuses if s["name"] == container), None)
            if waiting or not statuses:
                reason = (waiting or {}).get("reason", "ContainerCreating")
                raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
            source = Log(ended=True)
        since = query.get("sinceTime")
        # A kubelet is told whole seconds.
        from_time = float(int(datetime.fromisoformat(since.replace("Z", "+00:00")).timestamp())) if since else None
        tail = int(query["tailLines"]) if "tailLines" in query else None
        flags = {name: query.get(name) == "true" for name in ("follow", "timestamps")}
        pieces = streams.log(source, follow=flags["follow"], since=from_time, tail=tail, stamped=flags["timestamps"])
        return _limited(pieces, int(query["limitBytes"])) if "limitBytes" in query else pieces

    async def _stream(
        self, request: web.Request, pieces: AsyncIterator[bytes], fault: Fault | None, kind: str
    ) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": kind, **self._date()})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        assert request.transport is not None
        one, room = (request.path_qs, request.transport), None if fault is None else fault.after
        self.open.add(one)
        try:
            async for piece in pieces:
                if room is not None and len(piece) >= room:
                    await answer.write(piece[:room])
                    await asyncio.sleep(0.01)  # what was written goes out first
                    request.transport.abort()
                    return answer
                room = None if room is None else room - len(piece)
                if piece:
                    await answer.write(piece)
            await answer.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open.discard(one)
        return answer

    def _target(self, path: str) -> Target:
        found = _PATH.fullmatch(path)
        kind = BY_PLURAL.get(found["plural"]) if found else None
        if found is None or kind is None or kind.place != found["place"] or not self._is_served(kind):
            raise no_such_page()
        return Target(kind, found["namespace"], found["name"], found["sub"])

    def _verb(self, request: web.Request, target: Target) -> str:
        if request.method == "GET":
            if request.query.get("watch") in ("true", "1"):
                return "watch"
            return "get" if target.name else "list"
        verb = _VERBS[request.method]
        if (verb == "create") == (target.name is not None) or verb == "update":
            raise Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return verb

    def _check_access(self, verb: str, target: Target, resource: str | None = None) -> None:
        named = resource or target.kind.plural
        if self.api.is_denied(verb, named):
            who, group = self.api.user, target.kind.group
            where = f' in the namespace "{target.namespace}"' if target.namespace else " at the cluster scope"
            why = f'User "{who}" cannot {verb} resource "{named}" in API group "{group}"{where}'
            raise forbidden(f"{target.kind.plural}.{group}" if group else target.kind.plural, target.name or "", why)

    def _review(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = body["spec"]["resourceAttributes"]
        resource = asked["resource"] + (f"/{asked['subresource']}" if asked.get("subresource") else "")
        return {**body, "metadata": {}, "status": {"allowed": not self.api.is_denied(asked["verb"], resource)}}

    def _is_served(self, kind: Kind) -> bool:
        return kind.addon is None or kind.addon in self.api.addons


class _Answered(Exception):
    def __init__(self, fault: Fault):
        self.fault = fault


async def _limited(pieces: AsyncIterator[bytes], room: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece[:room]
        room -= len(piece)
        if room <= 0:
            return


def _place(obj: dict[str, Any]) -> list[str]:
    return [obj["metadata"].get("namespace", ""), obj["metadata"]["name"]]


def _event(kind: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def _kind_of(change: Change, fits: Any) -> str | None:
    """What a watch that sees what ``fits`` is told of a change."""
    was, now = fits(change.before), fits(change.after)
    return {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED"}.get((was, now))
