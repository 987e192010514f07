"""The service account that asks: its e-mail and private key, in the many forms in which people paste them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from ...errors import CredentialError
from ...redact import REDACTOR

EMAIL: Final = "GOOGLE_SHEETS_CLIENT_EMAIL"
KEY: Final = "GOOGLE_SHEETS_PRIVATE_KEY"
API: Final = ("GOOGLE_SHEETS_API_URL", "https://sheets.googleapis.com")
TOKEN: Final = ("GOOGLE_SHEETS_TOKEN_URL", "https://oauth2.googleapis.com/token")

_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_KINDS: Final = ("PRIVATE KEY", "RSA PRIVATE KEY")
_WHERE: Final = f"{KEY} is the value of private_key in the service account's JSON file"


@dataclass(frozen=True)
class Account:
    """``key`` is PEM with real line breaks; ``api`` and ``token`` are the addresses that are asked, without a final slash."""

    email: str
    key: str = field(repr=False)
    api: str
    token: str

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Account:
        """The account that ``env`` names; raises CredentialError with what is missing, or cannot be it.

        GOOGLE_SHEETS_API_URL and GOOGLE_SHEETS_TOKEN_URL stand for Google's addresses where those are reached by another one, as
        behind a gateway. They come from the environment alone: an experiment file that could set them could send a key anywhere.
        """
        missing = [name for name in (EMAIL, KEY) if not env.get(name, "").strip()]
        if missing:
            raise CredentialError(
                f"Google Sheets needs {' and '.join(missing)}, in your environment or in .env\n"
                "    hint:     both are in the JSON file of a service account: client_email and private_key"
            )
        account = cls(_email(env[EMAIL]), _key(env[KEY]), _address(env, *API), _address(env, *TOKEN))
        REDACTOR.learn({KEY: account.key})
        return account


def _email(text: str) -> str:
    email = text.strip().strip("'\"").strip()
    if not re.fullmatch(r"[^@\s\"'<>]+@[^@\s\"'<>]+\.[^@\s\"'<>]+", email):
        raise CredentialError(f"{EMAIL} is no e-mail address: {email}\n    expected: client_email of the account's JSON file")
    return email


def _key(text: str) -> str:
    """The key as PEM, whatever has become of its line breaks; raises CredentialError with what the text is instead."""
    text = text.strip().strip("'\"").replace("\\r", "").replace("\\n", "\n").strip().strip("'\"")
    if text.startswith("{"):
        raise CredentialError(f"{KEY} holds a whole JSON file, or its beginning\n    expected: {_WHERE}")
    found = _PEM.search(text)
    if found is None:
        raise CredentialError(_no_pem(text))
    if found[1] not in _KINDS:
        raise CredentialError(f"{KEY} is a {found[1].lower()}, not a private key\n    hint:     {_WHERE}")
    body = "".join(found[2].split())
    try:
        base64.b64decode(body, validate=True)
    except ValueError:
        raise CredentialError(f"{KEY} is damaged: between its first and last line is no base64\n    hint:     {_WHERE}") from None
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {found[1]}-----", *lines, f"-----END {found[1]}-----", ""])


def _no_pem(text: str) -> str:
    """What a text without a whole PEM block is; it is not shown, as it may be a part of the key."""
    if _BEGIN.search(text):
        what, hint = (
            "is cut short: it begins, and has no END line",
            "in .env put it into quotes, on one line or several",
        )
    elif text.endswith((".json", ".pem", ".p12")):
        what, hint = "names a file", _WHERE
    elif "-----END" in text:
        what, hint = "has lost its beginning: there is no BEGIN line", _WHERE
    else:
        what, hint = "is no key: there is no BEGIN line", _WHERE
    # Not the lines themselves: what begins as a key does is hidden wherever it is shown.
    return f"{KEY} {what}\n    expected: a line BEGIN PRIVATE KEY, base64, a line END PRIVATE KEY\n    hint:     {hint}"


def _address(env: Mapping[str, str], name: str, default: str) -> str:
    address = (env.get(name) or default).strip().rstrip("/")
    parts = urlsplit(address)
    is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_here)):
        raise CredentialError(f"{name}: a key goes there, so it must be https://…\n    found:    {address}")
    return address
