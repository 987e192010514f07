"""The asking: one token, one batch read, and what each refusal means. The only room that knows gspread and google-auth."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import requests
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials
from gspread.http_client import HTTPClient
from gspread.utils import absolute_range_name
from requests.utils import should_bypass_proxies

from ...errors import CredentialError, LauncherError
from ...redact import REDACTOR
from .account import API, Account
from .patience import PATIENT, Asking, Passing, Patience, retry_after
from .refusals import clock_is_wrong, no_worksheet, refused_by_api, refused_token, wrong_key
from .spreadsheet import Spreadsheet, Worksheet

_SCOPE: Final = "https://www.googleapis.com/auth/spreadsheets.readonly"
_PASSES: Final = (408, 429, 500, 502, 503, 504)
_SKEW: Final = 300  # seconds that Google lets a clock be off
_VALUES: Final = {"valueRenderOption": "FORMATTED_VALUE"}
_TITLES: Final = {"fields": "sheets.properties(title,sheetType)"}


def read_spreadsheet(
    spreadsheet_id: str,
    wanted: Mapping[str, str],
    env: Mapping[str, str],
    say: Callable[[str], None],
    patience: Patience = PATIENT,
) -> Spreadsheet:
    """The worksheets ``wanted`` (role -> title), in two requests: a token and one batch read.

    Raises CredentialError where Google refuses the account, ExperimentError where there is no such spreadsheet or worksheet, and
    LauncherError where it cannot be reached.
    """
    account = Account.of(env)
    with requests.Session() as session:
        ask = Asking(say, patience)
        session.proxies.update(_proxies(env, account.api, account.token))
        session.headers["Authorization"] = f"Bearer {_token(account, session, ask)}"
        client = _Client(account, session, patience)
        ranges = [absolute_range_name(title) for title in wanted.values()]
        try:
            answer = ask(lambda: _whole(client.values_batch_get, spreadsheet_id, ranges, dict(_VALUES)))
        except _Refused as error:
            if error.status == 400 and "Unable to parse range" in error.message:
                there = ask(lambda: _whole(client.spreadsheets_get, spreadsheet_id, dict(_TITLES)))
                raise no_worksheet(wanted, there) from error
            raise refused_by_api(error.status, error.message, account.email, spreadsheet_id) from error
    read = datetime.now(UTC).isoformat(timespec="seconds")
    found = answer.get("valueRanges", [])
    if len(found) != len(wanted):
        raise LauncherError(f"Google Sheets answered with {len(found)} ranges where {len(wanted)} were asked for")
    parts = zip(wanted.items(), found, strict=True)
    return Spreadsheet(spreadsheet_id, read, tuple(Worksheet(r, t, _cells(part.get("values", []))) for (r, t), part in parts))


def _proxies(env: Mapping[str, str], *addresses: str) -> dict[str, str]:
    """The proxy of each address as ``env`` says, or "" for none: requests itself looks in the process's environment alone."""

    def named(variable: str) -> str:
        return env.get(variable) or env.get(variable.upper()) or ""

    found = {}
    for address in addresses:
        parts = urlsplit(address)
        is_direct = should_bypass_proxies(address, no_proxy=named("no_proxy"))
        found[f"{parts.scheme}://{parts.hostname}"] = "" if is_direct else named(f"{parts.scheme}_proxy") or named("all_proxy")
    return found


def _whole(method: Callable[..., Any], *args: Any) -> Mapping[str, Any]:
    """What ``method`` is answered with, which must be a whole JSON object."""
    try:
        answer = method(*args)
    except requests.exceptions.JSONDecodeError as error:
        raise Passing("an answer that is no JSON, or is cut short") from error
    if not isinstance(answer, dict):
        raise Passing("an answer that is no JSON object")
    return answer


def _cells(values: Iterable[Iterable[Any]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(cell if isinstance(cell, str) else json.dumps(cell) for cell in row) for row in values)


class _Refused(Exception):
    """An answer that says no, and will again."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


class _Client(HTTPClient):
    """gspread's calls, at one account's address, with a limit on waiting; raises Passing for what may pass, else _Refused."""

    def __init__(self, account: Account, session: requests.Session, patience: Patience):
        super().__init__(None, session)  # type: ignore[arg-type] # the session has the token
        self.set_timeout(patience.timeout)
        self._address = account.api

    def request(self, method: str, endpoint: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        url = self._address + endpoint.removeprefix(API[1])
        try:
            response = self.session.request(method, url, timeout=self.timeout, **kwargs)
        except requests.RequestException as error:
            raise _unanswered(error) from error
        if response.ok:
            return response
        message = _message(response)
        if response.status_code in _PASSES:
            raise _passing(response.status_code, response.headers, message)
        raise _Refused(response.status_code, message)


class _Transport(Request):
    """google-auth's transport. It raises what may pass, so that google-auth does not try again by itself, and keeps clocks."""

    def __init__(self, session: requests.Session, patience: Patience):
        super().__init__(session)
        self._timeout = patience.timeout
        self.skew: float | None = None  # seconds that this machine's clock is ahead of the server's

    def __call__(
        self, url: Any, method: Any = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **kwargs: Any
    ) -> Any:
        sent = parse_qs((body or b"").decode()).get("assertion", [""])[0]
        REDACTOR.learn({"assertion": sent, "signature": sent.rpartition(".")[2]}, ("assertion", "signature"))
        try:
            response = super().__call__(url, method, body, headers, self._timeout, **kwargs)  # type: ignore[no-untyped-call]
        except TransportError as error:
            raise _unanswered(error.__cause__ or error) from error
        if response.headers.get("Date"):
            self.skew = time.time() - parsedate_to_datetime(response.headers["Date"]).timestamp()
        if response.status in _PASSES:
            raise _passing(response.status, response.headers, "")
        if response.status == 200 and not isinstance(_json(response.data), dict):
            raise Passing("a token's answer that is no JSON object")
        return response


def _token(account: Account, session: requests.Session, ask: Asking) -> str:
    info = {"client_email": account.email, "private_key": account.key, "token_uri": account.token}
    try:
        credentials = Credentials.from_service_account_info(info, scopes=[_SCOPE])  # type: ignore[no-untyped-call]
    except (ValueError, GoogleAuthError) as error:
        raise wrong_key(error) from error
    transport = _Transport(session, ask.patience)
    try:
        ask(lambda: credentials.refresh(transport))
    except RefreshError as error:
        said = _description(error)
        if (transport.skew is not None and abs(transport.skew) > _SKEW) or re.search(r"\biat\b|timeframe", said):
            raise clock_is_wrong(transport.skew, said) from error
        raise refused_token(said, account.email) from error
    token = str(credentials.token)
    REDACTOR.learn({"access token": token}, ("access token",))
    if not token.strip():
        raise CredentialError(f"Google gave {account.email} an empty token")
    return token


def _description(error: RefreshError) -> str:
    answer = error.args[1] if len(error.args) > 1 else None
    if isinstance(answer, Mapping):
        return str(answer.get("error_description") or answer.get("error") or answer)
    return _short(str(error.args[0]))


def _message(response: requests.Response) -> str:
    """The API's sentence, or what a gateway says in its place."""
    answer = _json(response.content)
    error = answer.get("error") if isinstance(answer, dict) else None
    return _short(str(error["message"]) if isinstance(error, dict) and "message" in error else response.text)


def _short(text: str) -> str:
    """One line of ``text``, which may be a gateway's whole page."""
    line = " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE).split())
    return line if len(line) <= 600 else line[:600] + "…"


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _passing(status: int, headers: Mapping[str, str], message: str) -> Passing:
    words = {429: "too many requests in this minute"}.get(status, "")
    said = "; ".join(part for part in (words, message) if part)
    return Passing(f"status {status}" + (f", {said}" if said else ""), retry_after(headers.get("Retry-After")))


def _unanswered(error: BaseException) -> Exception:
    """A request that got no whole answer: what may pass, or LauncherError for what will not."""
    # What urllib3 gave up for, without its own words for where.
    reason = getattr(error.args[0] if error.args else None, "reason", None) or error
    said = re.sub(r"^HTTPS?Connection\(.*?\): ", "", _short(str(reason)))
    if isinstance(error, requests.exceptions.SSLError):
        hint = "REQUESTS_CA_BUNDLE names a file with the certificates to trust"
        return LauncherError(f"Google Sheets: the server's certificate is not trusted: {said}\n    hint:     {hint}")
    is_unconnected = any(word in repr(error) for word in ("NewConnectionError", "NameResolution", "ProxyError"))
    if is_unconnected or isinstance(error, requests.exceptions.ConnectTimeout):
        return Passing(f"no connection to {_host(error)}: {said}", tries=3)
    if isinstance(error, requests.exceptions.Timeout):
        return Passing("no answer in time", tries=3)
    if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return Passing("the connection was cut")
    if isinstance(error, requests.exceptions.RequestException):
        return Passing(f"the answer cannot be read: {said}", tries=3)
    return LauncherError(f"Google Sheets: {said}")


def _host(error: BaseException) -> str:
    url = getattr(getattr(error, "request", None), "url", None)
    return (urlsplit(url).hostname if isinstance(url, str) else None) or "the server"
