"""The requests: one token, one batch read, and the meaning of each refusal. The only module with gspread and google-auth."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import requests
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials
from gspread.http_client import HTTPClient
from gspread.utils import absolute_range_name
from requests.utils import should_bypass_proxies

from ....errors import CredentialError, LauncherError
from ....network import PROXY_PASSWORD, SKEW, certificate, reason, skew, through
from ....redact import REDACTOR
from .account import API, Account
from .patience import PATIENT, Asking, Passing, Patience, retry_after
from .refusals import clock_is_wrong, no_worksheet, refused_by_api, refused_token, wrong_key
from .spreadsheet import Spreadsheet, Worksheet

_SCOPE: Final = "https://www.googleapis.com/auth/spreadsheets.readonly"
_PASSES: Final = (408, 429, 500, 502, 503, 504)
_QUOTA: Final = "try again in a few minutes; a run's copy needs no request: launcher run EXP --data-of RUN"
_VALUES: Final = {"valueRenderOption": "FORMATTED_VALUE"}
_TITLES: Final = {"fields": "sheets.properties(title,sheetType,sheetId)"}


def read_spreadsheet(
    spreadsheet_id: str,
    wanted: Mapping[str, str],
    env: Mapping[str, str],
    say: Callable[[str], None],
    patience: Patience = PATIENT,
) -> Spreadsheet:
    """The worksheets ``wanted`` (role -> title), in two requests: a token and one batch read.

    A token that Google stops taking is replaced once. Raises CredentialError where Google rejects the account, ExperimentError
    for a spreadsheet or worksheet that does not exist, and UnreachableError where Google cannot be reached.
    """
    account = Account.of(env)
    with _opened(account, env, say, patience) as (signed, ask, client):
        ranges = [absolute_range_name(title) for title in wanted.values()]
        try:
            answer = signed(lambda: ask(lambda: _whole(client.values_batch_get, spreadsheet_id, ranges, dict(_VALUES))))
        except _Refused as error:
            if error.status == 400 and "Unable to parse range" in error.message:
                there = signed(lambda: ask(lambda: _whole(client.spreadsheets_get, spreadsheet_id, dict(_TITLES))))
                raise no_worksheet(wanted, there) from error
            raise refused_by_api(error.status, error.message, account.email, spreadsheet_id) from error
    read = datetime.now(UTC).isoformat(timespec="seconds")
    found = answer.get("valueRanges", [])
    if len(found) != len(wanted):
        raise LauncherError(f"Google Sheets returned {len(found)} ranges for {len(wanted)} worksheets")
    parts = zip(wanted.items(), found, strict=True)
    return Spreadsheet(spreadsheet_id, read, tuple(Worksheet(r, t, _cells(part.get("values", []))) for (r, t), part in parts))


def worksheets(
    spreadsheet_id: str, env: Mapping[str, str], say: Callable[[str], None], patience: Patience = PATIENT
) -> dict[str, str]:
    """gid -> title of each worksheet with cells, in their order; raises what ``read_spreadsheet`` raises."""
    account = Account.of(env)
    with _opened(account, env, say, patience) as (signed, ask, client):
        try:
            there = signed(lambda: ask(lambda: _whole(client.spreadsheets_get, spreadsheet_id, dict(_TITLES))))
        except _Refused as error:
            raise refused_by_api(error.status, error.message, account.email, spreadsheet_id) from error
    sheets = [sheet.get("properties", {}) for sheet in there.get("sheets", [])]
    return {str(one.get("sheetId", 0)): str(one["title"]) for one in sheets if one.get("sheetType", "GRID") == "GRID"}


@contextmanager
def _opened(
    account: Account, env: Mapping[str, str], say: Callable[[str], None], patience: Patience
) -> Iterator[tuple[_Signed, Asking, _Client]]:
    with requests.Session() as session:
        ask = Asking(say, patience)
        session.proxies.update(_proxies(env, account.api, account.token))
        yield _Signed(account, session, ask, env), ask, _Client(account, session, patience, env)


def _proxies(env: Mapping[str, str], *addresses: str) -> dict[str, str]:
    """The proxy of each address from ``env``, or "" for none: requests itself looks only in the process's environment."""

    def named(variable: str) -> str:
        return env.get(variable) or env.get(variable.upper()) or ""

    found = {}
    for address in addresses:
        parts = urlsplit(address)
        is_direct = should_bypass_proxies(address, no_proxy=named("no_proxy"))
        found[f"{parts.scheme}://{parts.hostname}"] = "" if is_direct else named(f"{parts.scheme}_proxy") or named("all_proxy")
    return found


def _whole(method: Callable[..., Any], *args: Any) -> Mapping[str, Any]:
    """The answer to ``method``, which must be a whole JSON object."""
    try:
        answer = method(*args)
    except requests.exceptions.JSONDecodeError as error:
        raise Passing("invalid or truncated JSON in the answer") from error
    if not isinstance(answer, dict):
        raise Passing("the answer is not a JSON object")
    return answer


def _cells(values: Iterable[Iterable[Any]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(cell if isinstance(cell, str) else json.dumps(cell) for cell in row) for row in values)


class _Refused(Exception):
    """An answer that refuses, now and later."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass
class _Signed:
    """Sends requests with a token, and those that are refused with 401 once more with a new one: a token expires after an hour,
    which a request may see whose retries took long.
    """

    account: Account
    session: requests.Session
    ask: Asking
    env: Mapping[str, str]
    tokens: int = 0

    def __call__(self, request: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        if self.tokens == 0:
            self._take_token()
        try:
            return request()
        except _Refused as error:
            if error.status != 401 or self.tokens > 1:
                raise
        self._take_token()
        return request()

    def _take_token(self) -> None:
        self.tokens += 1
        self.session.headers.pop("Authorization", None)
        self.session.headers["Authorization"] = f"Bearer {_token(self.account, self.session, self.ask, self.env)}"


class _Client(HTTPClient):
    """gspread's calls at one account's address, with a timeout; raises Passing for temporary failures, else _Refused."""

    def __init__(self, account: Account, session: requests.Session, patience: Patience, env: Mapping[str, str]):
        super().__init__(None, session)  # type: ignore[arg-type] # the session has the token
        self.set_timeout(patience.timeout)
        self._address, self._env = account.api, env

    def request(self, method: str, endpoint: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        url = self._address + endpoint.removeprefix(API[1])
        try:
            response = self.session.request(method, url, timeout=self.timeout, **kwargs)
        except requests.RequestException as error:
            raise _unanswered(error, self._env) from error
        if response.ok:
            return response
        message = _message(response)
        if response.status_code in _PASSES:
            raise _passing(response.status_code, response.headers, message)
        raise _Refused(response.status_code, message)


class _Transport(Request):
    """google-auth's transport. It raises temporary failures before google-auth retries by itself, and measures clock skew."""

    def __init__(self, session: requests.Session, patience: Patience, env: Mapping[str, str]):
        super().__init__(session)
        self._timeout, self._env = patience.timeout, env
        self.skew: float | None = None  # seconds that this machine's clock is ahead of the server's

    def __call__(
        self, url: Any, method: Any = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **kwargs: Any
    ) -> Any:
        sent = parse_qs((body or b"").decode()).get("assertion", [""])[0]
        REDACTOR.learn({"assertion": sent, "signature": sent.rpartition(".")[2]}, ("assertion", "signature"))
        try:
            response = super().__call__(url, method, body, headers, self._timeout, **kwargs)  # type: ignore[no-untyped-call]
        except TransportError as error:
            raise _unanswered(error.__cause__ or error, self._env) from error
        self.skew = skew(response.headers.get("Date"))
        if response.status in _PASSES:
            raise _passing(response.status, response.headers, "")
        if response.status == 200 and not isinstance(_json(response.data), dict):
            raise Passing("the token's answer is not a JSON object")
        return response


def _token(account: Account, session: requests.Session, ask: Asking, env: Mapping[str, str]) -> str:
    info = {"client_email": account.email, "private_key": account.key, "token_uri": account.token}
    try:
        credentials = Credentials.from_service_account_info(info, scopes=[_SCOPE])  # type: ignore[no-untyped-call]
    except (ValueError, GoogleAuthError) as error:
        raise wrong_key(error) from error
    transport = _Transport(session, ask.patience, env)
    try:
        ask(lambda: credentials.refresh(transport))
    except RefreshError as error:
        said = _description(error)
        if (transport.skew is not None and abs(transport.skew) > SKEW) or re.search(r"\biat\b|timeframe", said):
            raise clock_is_wrong(transport.skew, said) from error
        raise refused_token(said, account.email) from error
    token = str(credentials.token)
    REDACTOR.learn({"access token": token}, ("access token",))
    if not token.strip():
        raise CredentialError(f"Google returned an empty token for {account.email}")
    return token


def _description(error: RefreshError) -> str:
    answer = error.args[1] if len(error.args) > 1 else None
    if isinstance(answer, Mapping):
        return str(answer.get("error_description") or answer.get("error") or answer)
    return _short(str(error.args[0]))


def _message(response: requests.Response) -> str:
    """The API's sentence, or the text of a gateway."""
    answer = _json(response.content)
    error = answer.get("error") if isinstance(answer, dict) else None
    return _short(str(error["message"]) if isinstance(error, dict) and "message" in error else response.text)


def _short(text: str) -> str:
    """One line of ``text``, which may be a whole page of a gateway."""
    line = " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE).split())
    return line if len(line) <= 600 else line[:600] + "…"


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _passing(status: int, headers: Mapping[str, str], message: str) -> Passing:
    words = {429: "too many requests"}.get(status, "")
    said = "; ".join(part for part in (words, message) if part)
    hint = _QUOTA if status == 429 else None
    return Passing(f"HTTP {status}" + (f", {said}" if said else ""), retry_after(headers.get("Retry-After")), hint=hint)


def _unanswered(error: BaseException, env: Mapping[str, str]) -> Exception:
    """A request without a whole answer: Passing for a temporary failure, else LauncherError."""
    # The reason of urllib3, without its own words for the address.
    cause = getattr(error.args[0] if error.args else None, "reason", None) or error
    said = re.sub(r"^HTTPS?Connection\(.*?\): ", "", _short(str(cause)))
    if isinstance(error, requests.exceptions.SSLError):
        hint = "set REQUESTS_CA_BUNDLE to a file with the certificates to trust"
        meaning = certificate(said) or "the server's certificate is not trusted"
        return LauncherError(f"Google Sheets: {meaning}: {said}\n    hint:     {hint}")
    if isinstance(error, requests.exceptions.ProxyError) and "407" in said:
        return CredentialError(f"Google Sheets: {PROXY_PASSWORD}: {said}")
    is_unconnected = any(word in repr(error) for word in ("NewConnectionError", "NameResolution", "ProxyError"))
    if is_unconnected or isinstance(error, requests.exceptions.ConnectTimeout):
        url = getattr(getattr(error, "request", None), "url", None) or ""
        return Passing(f"cannot connect to {urlsplit(url).hostname or 'the server'}{through(url, env)}: {reason(said)}", tries=3)
    if isinstance(error, requests.exceptions.Timeout):
        return Passing("timeout", tries=3)
    if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return Passing("connection lost")
    if isinstance(error, requests.exceptions.RequestException):
        return Passing(f"unreadable answer: {said}", tries=3)
    return LauncherError(f"Google Sheets: {said}")
