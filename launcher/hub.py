"""What a failed request of the hub's client means: a server that is away, a proxy that refuses, a certificate, or none of these.

Known by the classes' names: the clients (httpx, requests, urllib) are imported by the libraries that use them, in their versions.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

from .errors import CredentialError, LauncherError, UnreachableError
from .network import PROXY_PASSWORD, certificate, proxy_for, reason, shown

FOLDER: Final = "path/to/this/folder"  # in a model card: where its files are loaded from; a push puts the repository there
_AWAY: Final = {
    ("httpx", "TransportError"), ("httpx2", "TransportError"), ("urllib3", "HTTPError"), ("urllib", "URLError"),
    ("requests", "ConnectionError"), ("requests", "Timeout"), ("requests", "ChunkedEncodingError"),
}  # fmt: skip
_OURS: Final = ("UnsupportedProtocol", "LocalProtocolError", "InvalidURL", "HTTPError")  # the request itself is wrong
_PASSES: Final = (408, 425, 429, 500, 502, 503, 504)
_XET: Final = re.compile(r"CAS service error|reqwest|hyper_util|error sending request", re.IGNORECASE)  # of the hub's storage


def is_offline(env: Mapping[str, str]) -> bool:
    """Whether ``env`` forbids the hub's client to ask the hub."""
    return env.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def of_network(error: BaseException) -> LauncherError | None:
    """What is wrong with the network, if that is the cause: UnreachableError where waiting may help; None for other errors."""
    for cause in _chain(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status is not None and type(cause).__name__ != "ProxyError":
            if status in _PASSES:
                return UnreachableError(_sentence(cause, f"HTTP {status} ({HTTPStatus(status).phrase})"))
            continue
        if _is_away(cause) or (isinstance(cause, RuntimeError) and _XET.search(str(cause))):
            return _unanswered(cause)
    return None


def refusal(error: BaseException) -> str | None:
    """``HTTP 403 (Forbidden)`` of a hub that refuses a token, from anywhere in the chain; None for other errors.

    It answers 401 also for a model that does not exist: that is no refusal.
    """
    for cause in _chain(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in (401, 403) and type(cause).__name__ != "RepositoryNotFoundError":
            if any(type(one).__name__ == "RepositoryNotFoundError" for one in _chain(error)):
                return None
            return f"HTTP {status} ({HTTPStatus(status).phrase})"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_away(error: BaseException) -> bool:
    if type(error).__name__ in _OURS:
        return False
    return any((kind.__module__.partition(".")[0], kind.__name__) in _AWAY for kind in type(error).__mro__)


def _unanswered(error: BaseException) -> LauncherError:
    words = str(getattr(error, "reason", None) or error)
    if (meaning := certificate(words)) is not None:
        hint = "SSL_CERT_FILE names a file with the certificates to trust"
        return LauncherError(f"{_hub(error)}: {meaning} ({hint})")
    if type(error).__name__ == "ProxyError" and (found := re.search(r"\b(4\d\d)\b", words)) and int(found[1]) not in _PASSES:
        if found[1] == "407":
            return CredentialError(f"{_hub(error)}{_way(error)}: {PROXY_PASSWORD}")
        return LauncherError(f"{_hub(error)}{_way(error)}: the proxy refuses the connection: {words}")
    why = "connection lost" if isinstance(error, RuntimeError) else reason(words or type(error).__name__)
    return UnreachableError(_sentence(error, why))


def _sentence(error: BaseException, why: str) -> str:
    return f"{_hub(error)} cannot be reached{_way(error)}: {why}"


def _hub(error: BaseException) -> str:
    return f"the hub ({shown(_url(error))})"


def _way(error: BaseException) -> str:
    proxy = proxy_for(_url(error), os.environ)
    return "" if proxy is None else f" through proxy {proxy}"


def _url(error: BaseException) -> str:
    """The address that was asked for; httpx raises where an error has none."""
    asked: tuple[Any, ...] = (getattr(error, "response", None), error)
    for of in asked:
        try:
            found: Any = of.request.url if of is not None else None
        except (AttributeError, RuntimeError):
            continue
        if found is not None:
            return str(found)
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the lines of the hub's client; its bars only where a person watches them."""
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    is_watched = sys.stderr is not None and sys.stderr.isatty()
    if not is_watched:
        disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(before)
        if not is_watched:
            enable_progress_bars()
