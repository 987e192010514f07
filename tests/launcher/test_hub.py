"""Errors of the libraries' clients, raised by the clients themselves."""

from __future__ import annotations

import ssl
import urllib.error

import httpx2
import pytest
import requests

from launcher.errors import CredentialError, LauncherError, UnreachableError
from launcher.hub import of_network
from trainer.processes.ending import how_it_failed

REQUEST = httpx2.Request("HEAD", "https://huggingface.co/a/b/resolve/main/config.json")
HUB = "the hub (https://huggingface.co)"


def wrapped(error: Exception) -> Exception:
    """As transformers wraps what the hub's client wraps."""
    outer = OSError("We couldn't connect to 'https://huggingface.co' to load the files")
    outer.__cause__ = RuntimeError("no local entry")
    outer.__cause__.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (httpx2.ConnectError("[Errno 111] Connection refused", request=REQUEST), "connection refused"),
        (httpx2.ConnectError("[Errno -3] Temporary failure in name resolution", request=REQUEST), "unknown host name (DNS)"),
        (httpx2.ReadTimeout("The read operation timed out", request=REQUEST), "timeout"),
        (httpx2.RemoteProtocolError("Server disconnected without sending a response.", request=REQUEST), "connection lost"),
        (httpx2.ProxyError("502 Bad Gateway", request=REQUEST), "502 Bad Gateway"),
        (requests.exceptions.ConnectionError("Connection aborted."), "connection lost"),
        (urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")), "connection refused"),
        (RuntimeError("Data processing error: CAS service error : Reqwest error: error sending request"), "connection lost"),
    ],
)
def test_a_server_that_does_not_answer_is_48_however_deep_its_error_lies(error: Exception, why: str) -> None:
    found = of_network(wrapped(error))
    assert (type(found), str(found)) == (UnreachableError, f"{HUB} cannot be reached: {why}")
    assert how_it_failed(wrapped(error)) == (48, f"{HUB} cannot be reached: {why}")


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate is not yet valid", LauncherError,
         f"{HUB}: the certificate is not valid yet; check this machine's clock, which shows "),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate", LauncherError,
         f"{HUB}: the certificate's issuer is not trusted (SSL_CERT_FILE names a file with the certificates to trust)"),
    ],
)  # fmt: skip
def test_a_certificate_is_named_with_what_is_wrong_with_it(words: str, kind: type[LauncherError], said: str) -> None:
    error = httpx2.ConnectError(words, request=REQUEST)
    error.__cause__ = ssl.SSLCertVerificationError(words)
    found = of_network(wrapped(error))
    assert type(found) is kind
    assert str(found).startswith(said)


def test_a_proxy_that_wants_a_password_or_forbids_the_hub_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    found = of_network(httpx2.ProxyError("407 Proxy Authentication Required", request=REQUEST))
    assert type(found) is CredentialError
    assert str(found).startswith(f"{HUB} through proxy http://proxy.example:3128: the proxy asks for a user and a password")
    found = of_network(httpx2.ProxyError("403 Forbidden", request=REQUEST))
    assert (type(found), str(found)) == (
        LauncherError,
        f"{HUB} through proxy http://proxy.example:3128: the proxy refuses the connection: 403 Forbidden",
    )


@pytest.mark.parametrize(
    "error",
    [
        httpx2.UnsupportedProtocol("Request URL is missing an 'http://' or 'https://' protocol.", request=REQUEST),
        ConnectionResetError(104, "Connection reset by peer"),  # of a data-loader's process
        ConnectionError("offline mode is enabled"),
        RuntimeError("Connection closed by peer [127.0.0.1]:4711"),
        ValueError("odd"),
    ],
)
def test_other_errors_are_no_network_s(error: Exception) -> None:
    assert of_network(wrapped(error)) is None
