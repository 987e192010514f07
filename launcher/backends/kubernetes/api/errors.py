"""The errors of requests to an API server, with messages for users."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

from ....errors import LauncherError, UnreachableError


class ClusterError(LauncherError):
    """No cluster can be reached: no kubeconfig, unknown context, no connection, a rejected certificate."""


class ClusterUnreachable(ClusterError):
    """The API server of a kubeconfig does not answer just now."""

    exit_code = UnreachableError.exit_code


class ClusterRefused(ClusterError):
    """The cluster rejects the credentials, or no credentials can be obtained."""

    exit_code = 44


_NO_RIGHT: Final = re.compile(r'cannot \w+ resource "')  # RBAC's words; policies and quotas answer with 403, too
_ROLE: Final = (
    "\n    hint:     choose another namespace with -n, or ask the cluster's administrator for the Role in k8s/base/access.yaml"
)


class ApiError(LauncherError):
    """The API server refused a request: ``status`` is the HTTP status, ``reason`` a word like ``NotFound``, ``message`` its text.

    ``body`` is the whole Status object if the server sent one, else empty. ``said`` is the error's first line, without a hint.
    """

    def __init__(self, status: int, reason: str, message: str, body: Mapping[str, Any] | None = None):
        self.status, self.reason, self.message, self.body = status, reason, message, body or {}
        if status >= 500 or status == 429:
            self.exit_code = UnreachableError.exit_code
        hint = _ROLE if status == 403 and _NO_RIGHT.search(message) else ""
        self.said = f"API server: {message} ({status} {reason})"
        super().__init__(self.said + hint)


class ExecError(LauncherError):
    """A command in a pod exited with ``code``; ``stderr`` is its whole standard error."""

    def __init__(self, where: str, code: int, stderr: str):
        self.code, self.stderr = code, stderr
        said = stderr.strip().splitlines()
        super().__init__(f"{where}: exit code {code}" + (f": {said[-1]}" if said else ""))


# Words in an error of OpenSSL -> what they mean.
_CERTIFICATES: Final = (
    ("self-signed", "unknown issuer of the certificate; set certificate-authority-data in the kubeconfig"),
    ("self signed", "unknown issuer of the certificate; set certificate-authority-data in the kubeconfig"),
    ("unable to get local issuer", "unknown issuer of the certificate; set certificate-authority-data in the kubeconfig"),
    ("certificate has expired", "the certificate has expired"),
    ("not yet valid", "the certificate is not valid yet; check this machine's clock"),
    ("doesn't match", "the certificate is for another host"),
    ("Hostname mismatch", "the certificate is for another host"),
    ("IP address mismatch", "the certificate is for another host"),
    ("WRONG_VERSION_NUMBER", "the server speaks HTTP; start its address with http://"),
    ("record layer failure", "the server speaks HTTP; start its address with http://"),
)


def api_error(status: int, body: Mapping[str, Any]) -> ApiError:
    """The error in a Status object, which may be incomplete."""
    word = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "error"
    return ApiError(status, str(body.get("reason") or word), str(body.get("message") or word), body)


def of_answer(status: int, data: bytes) -> ApiError:
    """The error in a response, which may also be a proxy's error page."""
    try:
        body = json.loads(data)
    except ValueError:
        lines = data.decode("utf-8", "replace").strip().splitlines()
        body = {"message": lines[0][:300]} if lines else {}
    return api_error(status, body if isinstance(body, dict) else {})


def refused(where: str, error: ApiError) -> ClusterRefused:
    """The error for a 401; ``where`` is the server with its context."""
    return ClusterRefused(
        f"{where} rejects the credentials: they have expired or belong to another cluster\n"
        f"    hint:     log in again as you did to get the kubeconfig (the server's message: {error.message})"
    )


def explained(where: str, error: Exception) -> ClusterError | None:
    """The error for a failed connection to ``where``; None for any other exception."""
    from kubernetes.client.exceptions import ApiException
    from urllib3 import exceptions as http

    if isinstance(error, ApiException) and error.status == 0:
        return ClusterError(f"cannot connect to {where}: {_certificate(str(error.reason))}")
    if isinstance(error, http.ProxyError):
        return ClusterUnreachable(f"cannot connect to {where} through the proxy: {_cause(error)}")
    if isinstance(error, http.NameResolutionError):
        return ClusterUnreachable(f"cannot connect to {where}: unknown host name")
    if isinstance(error, http.NewConnectionError):
        return ClusterUnreachable(f"cannot connect to {where}: {_cause(error)}")
    if isinstance(error, http.ConnectTimeoutError):
        return ClusterUnreachable(f"cannot connect to {where}: timeout (is a VPN needed?)")
    if isinstance(error, http.TimeoutError):
        return ClusterUnreachable(f"no answer from {where}: timeout")
    if isinstance(error, http.HTTPError | OSError):
        return ClusterUnreachable(f"lost the connection to {where}: {_cause(error)}")
    return None


def is_unsent(error: Exception) -> bool:
    """Whether no connection was made: then the server has seen nothing."""
    from urllib3 import exceptions as http

    return isinstance(error, http.NewConnectionError | http.ConnectTimeoutError)


@contextmanager
def handshake(where: str) -> Iterator[None]:
    """Turns the exceptions of opening a WebSocket into those of a request."""
    from websocket import WebSocketBadStatusException, WebSocketException

    try:
        yield
    except WebSocketBadStatusException as error:
        failure = of_answer(error.status_code, bytes(error.resp_body or b""))
        raise refused(where, failure) if error.status_code == 401 else failure from error
    except (OSError, WebSocketException) as error:
        raise ClusterUnreachable(f"lost the connection to {where}: {_cause(error)}") from error


@contextmanager
def unless(*statuses: int) -> Iterator[None]:
    """Swallows an ApiError with one of these statuses."""
    try:
        yield
    except ApiError as error:
        if error.status not in statuses:
            raise


def _cause(error: BaseException) -> str:
    """The operating system's message, without the client's objects around it."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror[0].lower() + found.strerror[1:]
        found = found.__cause__ or found.__context__
    return str(error).rpartition(": ")[2]


def _certificate(words: str) -> str:
    return next((meaning for sign, meaning in _CERTIFICATES if sign in words), words.rpartition("\n")[2])
