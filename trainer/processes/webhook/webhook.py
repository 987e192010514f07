"""Webhook: one address that messages are posted to as JSON. It is a secret: no error, log or record has it."""

from __future__ import annotations

import json
import os
import queue
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException, InvalidURL
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from launcher.errors import Warned
from launcher.network import certificate, notify_problem, proxy_address, reason
from launcher.redact import REDACTOR

TIMEOUT: Final = 10.0  # seconds for one try
PAUSES: Final = (1.0, 3.0)  # seconds before the second and the third try
_SLACK: Final = ("hooks.slack.com", "hooks.slack-gov.com")
_AGAIN: Final = (408, 425, 429)  # and every 5xx: the same request may pass later
_BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Webhook:
    """The address in the variable ``name`` of ``env``."""

    def __init__(self, name: str, env: Mapping[str, str]):
        self.name, self._env = name, env
        self._url = env.get(name, "").strip()
        REDACTOR.learn(env, [name])

    @property
    def is_slack(self) -> bool:
        """Whether it takes Slack's form: an incoming webhook of Slack, or Slack's form at another service (``…/slack``)."""
        parts = urlsplit(self._url)
        return parts.hostname in _SLACK or parts.path.rstrip("/").endswith("/slack")

    def send(self, text: str, fields: Mapping[str, Any]) -> Warned | None:
        """Posts ``{"text": …}`` to Slack, else ``fields`` and the text, in up to three tries; returns why that failed.

        Raises nothing: a lost message does not end a run.
        """
        try:
            why = notify_problem(self.name, self._url) or self._tries(self._body(text, fields))
        except Exception as error:  # an address that no library understands
            why = type(error).__name__
        if why is None:
            return None
        about = "" if why.startswith("notify: ") else f"{self.name}: "
        return Warned(REDACTOR.text(f"notification not sent: {about}{why}"))

    def _body(self, text: str, fields: Mapping[str, Any]) -> bytes:
        text = REDACTOR.text(text)
        if self.is_slack:
            for character, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
                text = text.replace(character, name)
            return json.dumps({"text": text}).encode()
        return json.dumps({**REDACTOR.value(fields), "text": text}).encode()

    def _tries(self, body: bytes) -> str | None:
        why = None
        for pause in (0.0, *PAUSES):
            time.sleep(pause)
            why, may_pass = self._try(body)
            if why is None or not may_pass:
                return why
        return f"{why} ({len(PAUSES) + 1} tries)"

    def _try(self, body: bytes) -> tuple[str | None, bool]:
        """(the problem or None, whether another try may help)."""
        headers = {"Content-Type": "application/json", "User-Agent": "dpo-launcher"}
        try:
            with self._opener().open(Request(self._url, body, headers), timeout=TIMEOUT) as answer:
                answer.read(1024)
        except HTTPError as error:
            return f"the server answered HTTP {error.code}", error.code >= 500 or error.code in _AGAIN
        except InvalidURL:  # its text has the address
            return "its value is not a valid address", False
        except (OSError, HTTPException) as error:
            words = str(getattr(error, "reason", error)) or type(error).__name__
            refused = certificate(words)
            return refused or reason(words), refused is None
        return None, False

    def _opener(self) -> OpenerDirector:
        proxy = proxy_address(self._url, self._env)
        proxies = {} if proxy is None else {urlsplit(self._url).scheme: proxy}
        return build_opener(ProxyHandler(proxies), HTTPSHandler(context=_trusted(self._env)), _NoRedirect())


class _NoRedirect(HTTPRedirectHandler):
    """A redirect is an error: a POST would become a GET, at a server that nobody named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _trusted(env: Mapping[str, str]) -> ssl.SSLContext:
    """The certificates of the system and those that ``env`` names; a slim system may have none."""
    context = ssl.create_default_context()
    with suppress(ImportError, OSError):
        import certifi

        context.load_verify_locations(certifi.where())
    for bundle in filter(None, map(env.get, _BUNDLES)):
        with suppress(OSError):
            context.load_verify_locations(bundle)
    return context


class Outbox:
    """Runs tasks one after the other in a thread, so that the training does not wait for a server."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._is_idle = threading.Condition()
        self._open = 0

    def put(self, send: Callable[[], None]) -> None:
        with self._is_idle:
            self._open += 1
            if self._open == 1:
                threading.Thread(target=self._work, name="notify", daemon=True).start()
        self._todo.put(send)

    def wait(self, seconds: float) -> bool:
        """Waits until all is sent or given up, at most ``seconds``; returns whether it is."""
        with self._is_idle:
            return self._is_idle.wait_for(lambda: self._open == 0, seconds)

    def _work(self) -> None:
        """Ends when nothing is left."""
        while True:
            with suppress(Exception):
                self._todo.get()()
            with self._is_idle:
                self._open -= 1
                if self._open == 0:
                    self._is_idle.notify_all()
                    return


def secret_values() -> dict[str, str]:
    """The environment of this process, with the secrets that a container has as files, by name."""
    from ..children import secrets

    return {**os.environ, **secrets()}
