"""Cluster: one API server, reached with the official client's configuration, credentials and connections; raw JSON in and out.

It knows nothing about runs. Requests that may be sent twice are retried after a pause when a connection breaks or the server is
busy; every other failure is an ApiError (the server refused) or a ClusterError (it did not answer).
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlencode

from ....redact import REDACTOR
from . import channels
from .errors import (
    ApiError,
    ClusterError,
    ClusterRefused,
    ExecError,
    api_error,
    explained,
    handshake,
    is_unsent,
    of_answer,
    refused,
    unless,
)
from .kubeconfig import Access, access, overheard

__all__ = ["ApiError", "Cluster", "ClusterError", "ClusterRefused", "ExecError"]

_CONNECT: Final = 10.0  # seconds until a connection is there
_ANSWER: Final = 60.0  # seconds between two pieces of an answer
_WATCH: Final = 290  # seconds of one watch: servers and balancers between end those of 5 minutes and more
_BUSY: Final = frozenset({429, 500, 502, 503, 504})
_PAGE: Final = 500


class Cluster:
    """One API server in one context. Threads may share it."""

    pauses: Sequence[float] = (0.1, 0.3, 0.9, 2.0, 4.0)  # seconds before a request is sent again

    def __init__(self, caller: Mapping[str, str], found: Access, namespace: str | None):
        self.context = found.context
        self.namespace = namespace or found.namespace
        self._caller = dict(caller)
        self._lock = threading.Lock()
        self._answered = False
        self._ahead = timedelta()  # of the server's clock
        self._use(found)

    @classmethod
    def connect(cls, caller: Mapping[str, str], namespace: str | None = None) -> Cluster:
        """The cluster that ``caller``'s environment selects, without a request to it. ``namespace``: instead of the context's.

        Raises ClusterError if the kubeconfig or its context is missing, or a credential plugin fails.
        """
        return cls(caller, access(caller), namespace)

    @property
    def host(self) -> str:
        """The server's address, for messages."""
        return str(self._configuration.host)

    def now(self) -> datetime:
        """The time by the server's clock, as its last answer told it: times of objects, pods and log lines are the cluster's, and
        this machine's clock may differ by minutes."""
        return datetime.now(UTC) + self._ahead

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The object, or one page of a list, at ``path``, e.g. ``/api/v1/namespaces/ns/pods/p``."""
        return self._json("GET", path, query, again=True)

    def list(self, path: str, selector: str | None = None, **query: Any) -> Iterator[dict[str, Any]]:
        """Every object at ``path`` with the labels of ``selector``, page by page."""
        query = {"labelSelector": selector, "limit": _PAGE, **query}
        token, seen, is_second = None, set[str](), False
        while True:
            try:
                page = self.get(path, **query, **{"continue": token})
            except ApiError as error:
                if error.status != 410 or token is None or is_second:
                    raise
                # The server no longer has the list as it was at the first page: list again, without what was yielded before.
                token, is_second = None, True
                continue
            for obj in page.get("items") or []:
                uid = obj["metadata"].get("uid") or obj["metadata"]["name"]
                if uid not in seen:
                    seen.add(uid)
                    yield obj
            token = page["metadata"].get("continue")
            if not token:
                return

    def create(self, path: str, obj: Mapping[str, Any], dry_run: bool = False) -> dict[str, Any]:
        """Creates ``obj`` in the collection at ``path``; ``dry_run``: the server only runs its checks.

        Raises ClusterError if the connection breaks: then the object may exist or not.
        """
        query = {"fieldValidation": "Strict", "dryRun": "All" if dry_run else None}
        return self._json("POST", path, query, obj, again=dry_run)

    def patch(self, path: str, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Merges ``obj`` into the object at ``path`` (RFC 7386: null removes)."""
        return self._json("PATCH", path, {"fieldValidation": "Strict"}, obj, again=True)

    def review(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a SelfSubjectAccessReview, which the server does not store."""
        return self._json("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}, obj, again=True)

    def user(self) -> str | None:
        """The name by which the server knows the caller; None if it does not serve SelfSubjectReviews (before 1.28) or denies
        them: every authenticated user may ask by default."""
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = self._json("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, asked, again=True)
        except ApiError as error:
            if error.status not in (403, 404, 405):
                raise
            return None
        return ((answer.get("status") or {}).get("userInfo") or {}).get("username") or None

    def delete(self, path: str, propagation: str = "Background", grace: int | None = None, uid: str | None = None) -> None:
        """Deletes the object at ``path``, if it exists. ``uid``: only the object that has it: raises ApiError with status 409 for
        another one, which got the name meanwhile."""
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        body |= {"gracePeriodSeconds": grace, "preconditions": {"uid": uid} if uid else None}
        with unless(404):
            self._json("DELETE", path, {}, {k: v for k, v in body.items() if v is not None}, again=True)

    def watch(
        self, path: str, version: str, selector: str | None = None, timeout: int = _WATCH, **query: Any
    ) -> Iterator[dict[str, Any]]:
        """Events (``type``, ``object``) at ``path`` after ``version``, bookmarks included, until the connection ends.

        Raises ApiError with status 410 if ``version`` is too old: then list again.
        """
        asked = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": timeout,
            "labelSelector": selector,
        }
        rest = b""
        for piece in self.stream(path, silence=timeout + _ANSWER, **asked, **query):
            *lines, rest = (rest + piece).split(b"\n")
            for line in filter(None, lines):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise api_error(int(event["object"].get("code") or 500), event["object"])
                yield event

    def stream(self, path: str, silence: float = _ANSWER, **query: Any) -> Iterator[bytes]:
        """The answer from ``path``, in pieces, until the connection ends, breaks, or is silent for ``silence`` seconds: the
        reader must find out elsewhere whether that was the end. Raises only before the first byte of the answer."""
        from urllib3.exceptions import HTTPError

        answer = self._request("GET", path, query, None, again=True, silence=silence)
        try:
            yield from answer.stream(65536, decode_content=True)
        except (HTTPError, OSError):
            return
        finally:
            answer.close()

    def exec(
        self,
        pod: str,
        container: str,
        command: Sequence[str],
        namespace: str | None = None,
        stdin: Iterable[bytes] | None = None,
    ) -> Iterator[bytes]:
        """Runs ``command`` in a container and yields its standard output; sends it ``stdin``, but not always its end.

        Raises ExecError for an exit code other than 0, ClusterError if the connection breaks before.
        """
        url = f"{self.host}{_pod(pod, namespace or self.namespace)}/exec"
        with handshake(self._place):
            yield from channels.run(
                self._configuration, self._headers(), url, container, command, stdin, f"{command[0]} in {pod}"
            )

    def attach(self, pod: str, container: str, command: Sequence[str], namespace: str, *, tty: bool) -> channels.Attached:
        """Starts ``command`` in a container with its input and output open; ``tty``: with a terminal. Raises ApiError if the
        server denies it."""
        url = f"{self.host}{_pod(pod, namespace)}/exec"
        with handshake(self._place):
            return channels.Attached(
                self._configuration, self._headers(), url, container, command, tty=tty, where=f"{command[0]} in {pod}"
            )

    def forward(self, pod: str, port: int, namespace: str | None = None) -> Any:
        """A connected socket whose other end is ``port`` of the pod; close it when done."""
        url = f"{self.host}{_pod(pod, namespace or self.namespace)}/portforward"
        with handshake(self._place):
            return channels.forward(self._configuration, self._headers(), url, port)

    def _json(self, method: str, path: str, query: Mapping[str, Any], body: Any = None, *, again: bool) -> dict[str, Any]:
        answer = self._request(method, path, query, body, again=again)
        try:
            found = json.loads(answer.data)
        except ValueError:
            raise ClusterError(f"{self.host}: not a Kubernetes API server (its answer is not JSON)") from None
        return dict(found)

    def _request(
        self, method: str, path: str, query: Mapping[str, Any], body: Any, *, again: bool, silence: float = _ANSWER
    ) -> Any:
        """An answer with a status below 300; read completely, except for a stream. ``again``: may be sent twice."""
        renewed = False
        for pause in (*self.pauses, None):
            try:
                answer = self._send(method, path, query, body, silence)
            except Exception as error:
                failure = explained(self._place, error)
                if failure is None:
                    raise
                # Without a connection nothing was sent; a server that has never answered is not retried.
                if pause is None or not self._answered or not (again or is_unsent(error)):
                    raise failure from error
                time.sleep(pause * random.uniform(0.8, 1.2))
                continue
            self._answered = True
            if answer.status < 300:
                return answer
            said = of_answer(answer.status, answer.data)
            if answer.status == 401 and not renewed:
                renewed = True  # the token may be new on disk, or come from a plugin
                self._renew()
                continue
            if answer.status == 401:
                raise refused(self._place, said)
            # A server that answers 429 has done nothing yet. In a dry run, that a webhook does not answer is the answer: each
            # further try may take as long as its timeout.
            is_final = query.get("dryRun") is not None and "failed calling webhook" in said.message
            met = method == "PATCH" and answer.status == 409  # a change of somebody else: a merge patch holds after it, too
            if pause is None or is_final or not (met or (answer.status in _BUSY and (again or answer.status == 429))):
                raise said
            time.sleep(max(pause, min(_retry_after(answer), self.pauses[-1])) * random.uniform(0.8, 1.2))
        raise AssertionError("the last try has no pause")

    def _send(self, method: str, path: str, query: Mapping[str, Any], body: Any, silence: float) -> Any:
        asked = urlencode([(name, value) for name, value in query.items() if value is not None])
        url = f"{self.host}{path}" + (f"?{asked}" if asked else "")
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": kind, "User-Agent": "dpo-launcher", **self._headers()}
        answer = self._rest.request(method, url, headers=headers, body=body, _request_timeout=(_CONNECT, silence)).response
        if (date := answer.headers.get("Date")) is not None:
            with suppress(ValueError, TypeError):
                self._ahead = parsedate_to_datetime(date) - datetime.now(UTC)
        if answer.status >= 300 or not _is_stream(path, query):
            answer.read(cache_content=True)
        return answer

    def _headers(self) -> dict[str, str]:
        """The credentials; the client renews expired ones."""
        with self._lock, overheard([]):
            setting = self._configuration.auth_settings().get("BearerToken")
        if setting is None or not setting["value"]:
            return {}
        token = str(setting["value"])
        REDACTOR.learn({"the cluster's token": token.partition(" ")[2]}, ["the cluster's token"])
        return {"authorization": token}

    def _use(self, found: Access) -> None:
        from kubernetes.client import ApiClient

        self._configuration = found.configuration
        self._rest = ApiClient(found.configuration).rest_client

    def _renew(self) -> None:
        with self._lock:
            self._use(access(self._caller))

    @property
    def _place(self) -> str:
        return f"the cluster at {self.host} (context {self.context})"


def _is_stream(path: str, query: Mapping[str, Any]) -> bool:
    return query.get("watch") == "true" or path.endswith("/log")


def _pod(name: str, namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def _retry_after(answer: Any) -> float:
    said = str(answer.headers.get("Retry-After", ""))
    return float(said) if said.isdecimal() else 0.0
