"""What goes wrong between here and an API server, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

from ....errors import LauncherError


class ClusterError(LauncherError):
    """No cluster, or none that answers: no kubeconfig, no such context, not reachable, a certificate that does not fit."""


class ClusterRefused(ClusterError):
    """The cluster does not know these credentials, or they could not be had."""

    exit_code = 44


class ApiError(LauncherError):
    """The API server's refusal: ``status`` is HTTP's, ``reason`` a word as ``NotFound``, ``message`` its sentence.

    ``body`` is the whole Status object where it sent one, else empty.
    """

    def __init__(self, status: int, reason: str, message: str, body: Mapping[str, Any] | None = None):
        self.status, self.reason, self.message, self.body = status, reason, message, body or {}
        super().__init__(f"the API server says: {message} ({status} {reason})")


class ExecError(LauncherError):
    """A command in a pod that ended with ``code``; ``stderr`` is what it said there, whole."""

    def __init__(self, where: str, code: int, stderr: str):
        self.code, self.stderr = code, stderr
        said = stderr.strip().splitlines()
        super().__init__(f"{where}: ended with {code}" + (f": {said[-1]}" if said else ""))


# What OpenSSL says of a certificate -> what that means.
_CERTIFICATES: Final = (
    ("self-signed", "it is signed by nobody whom the kubeconfig knows (certificate-authority-data)"),
    ("self signed", "it is signed by nobody whom the kubeconfig knows (certificate-authority-data)"),
    ("unable to get local issuer", "it is signed by nobody whom the kubeconfig knows (certificate-authority-data)"),
    ("certificate has expired", "it has expired"),
    ("not yet valid", "it is not valid yet: is this machine's clock right?"),
    ("doesn't match", "it is another machine's"),
    ("Hostname mismatch", "it is another machine's"),
    ("IP address mismatch", "it is another machine's"),
    ("WRONG_VERSION_NUMBER", "it speaks no TLS: the address begins with https, and the server expects http"),
    ("record layer failure", "it speaks no TLS: the address begins with https, and the server expects http"),
)


def api_error(status: int, body: Mapping[str, Any]) -> ApiError:
    """The error that a Status object, or what there is of one, tells."""
    word = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "error"
    return ApiError(status, str(body.get("reason") or word), str(body.get("message") or word), body)


def of_answer(status: int, data: bytes) -> ApiError:
    """The error of an answer, which may also be a proxy's page."""
    try:
        body = json.loads(data)
    except ValueError:
        lines = data.decode("utf-8", "replace").strip().splitlines()
        body = {"message": lines[0][:300]} if lines else {}
    return api_error(status, body if isinstance(body, dict) else {})


def refused(where: str, error: ApiError) -> ClusterRefused:
    """A 401; ``where`` is the server with its context."""
    return ClusterRefused(
        f"{where} does not accept the credentials: they have expired, or are another cluster's\n"
        f"    hint:     log in again as you did when you got the kubeconfig; the server said: {error.message}"
    )


def explained(where: str, error: Exception) -> ClusterError | None:
    """A failure of the connection to ``where`` in words, or None for what is none."""
    from kubernetes.client.exceptions import ApiException
    from urllib3 import exceptions as http

    if isinstance(error, ApiException) and error.status == 0:
        return ClusterError(f"{where} shows a certificate that does not fit: {_certificate(str(error.reason))}")
    if isinstance(error, http.ProxyError):
        return ClusterError(f"{where} is not reachable through the proxy: {_cause(error)}")
    if isinstance(error, http.NameResolutionError):
        return ClusterError(f"{where} is not reachable: nobody knows a machine of that name")
    if isinstance(error, http.NewConnectionError):
        return ClusterError(f"{where} is not reachable: {_cause(error)}")
    if isinstance(error, http.ConnectTimeoutError):
        return ClusterError(f"{where} is not reachable: nothing connects in time (is a VPN needed?)")
    if isinstance(error, http.TimeoutError):
        return ClusterError(f"{where} does not answer in time")
    if isinstance(error, http.HTTPError | OSError):
        return ClusterError(f"{where} broke the connection off: {_cause(error)}")
    return None


def is_unsent(error: Exception) -> bool:
    """Whether no connection came about, so that the server has seen nothing."""
    from urllib3 import exceptions as http

    return isinstance(error, http.NewConnectionError | http.ConnectTimeoutError)


@contextmanager
def handshake(where: str) -> Iterator[None]:
    """Turns what the opening of a WebSocket raises into the errors of a request."""
    from websocket import WebSocketBadStatusException, WebSocketException

    try:
        yield
    except WebSocketBadStatusException as error:
        failure = of_answer(error.status_code, bytes(error.resp_body or b""))
        raise refused(where, failure) if error.status_code == 401 else failure from error
    except (OSError, WebSocketException) as error:
        raise ClusterError(f"{where} broke the connection off: {_cause(error)}") from error


@contextmanager
def unless(*statuses: int) -> Iterator[None]:
    """Swallows an ApiError with one of these statuses."""
    try:
        yield
    except ApiError as error:
        if error.status not in statuses:
            raise


def _cause(error: BaseException) -> str:
    """The system's own words, without the client's objects around them."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror[0].lower() + found.strerror[1:]
        found = found.__cause__ or found.__context__
    return str(error).rpartition(": ")[2]


def _certificate(words: str) -> str:
    return next((meaning for sign, meaning in _CERTIFICATES if sign in words), words.rpartition("\n")[2])
