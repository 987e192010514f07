"""The service account: its e-mail and private key, in the many forms in which people paste them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from ....errors import CredentialError
from ....redact import REDACTOR

EMAIL: Final = "GOOGLE_SHEETS_CLIENT_EMAIL"
KEY: Final = "GOOGLE_SHEETS_PRIVATE_KEY"
API: Final = ("GOOGLE_SHEETS_API_URL", "https://sheets.googleapis.com")
TOKEN: Final = ("GOOGLE_SHEETS_TOKEN_URL", "https://oauth2.googleapis.com/token")

_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_KINDS: Final = ("PRIVATE KEY", "RSA PRIVATE KEY")
_WHERE: Final = f"set {KEY} to private_key from the service account's JSON file"


@dataclass(frozen=True)
class Account:
    """``key`` is PEM with real line breaks; ``api`` and ``token`` are the addresses of the requests, without a final slash."""

    email: str
    key: str = field(repr=False)
    api: str
    token: str

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Account:
        """The account that ``env`` names; raises CredentialError for what is missing or wrong.

        GOOGLE_SHEETS_API_URL and GOOGLE_SHEETS_TOKEN_URL replace Google's addresses, for example behind a gateway. They come from
        the environment only: an experiment file that could set them could send a key anywhere.
        """
        missing = [name for name in (EMAIL, KEY) if not env.get(name, "").strip()]
        if missing:
            raise CredentialError(
                f"Google Sheets: {' and '.join(missing)} missing in the environment and in .env\n"
                "    hint:     take client_email and private_key from the JSON file of a service account"
            )
        account = cls(_email(env[EMAIL]), _key(env[KEY]), _address(env, *API), _address(env, *TOKEN))
        REDACTOR.learn({KEY: account.key})
        return account


def _email(text: str) -> str:
    email = text.strip().strip("'\"").strip()
    if not re.fullmatch(r"[^@\s\"'<>]+@[^@\s\"'<>]+\.[^@\s\"'<>]+", email):
        raise CredentialError(
            f"{EMAIL} is not an e-mail address: {email}\n    expected: client_email from the account's JSON file"
        )
    return email


def _key(text: str) -> str:
    """The key as PEM, however its line breaks were changed; raises CredentialError for what is not a key."""
    text = text.strip().strip("'\"").replace("\\r", "").replace("\\n", "\n").strip().strip("'\"")
    if text.startswith("{"):
        raise CredentialError(f"{KEY} contains a JSON file instead of a key\n    hint:     {_WHERE}")
    found = _PEM.search(text)
    if found is None:
        raise CredentialError(_no_pem(text))
    if found[1] not in _KINDS:
        raise CredentialError(f"{KEY} is a {found[1].lower()}, not a private key\n    hint:     {_WHERE}")
    body = "".join(found[2].split())
    try:
        base64.b64decode(body, validate=True)
    except ValueError:
        raise CredentialError(f"{KEY} is damaged: no base64 between its BEGIN and END lines\n    hint:     {_WHERE}") from None
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {found[1]}-----", *lines, f"-----END {found[1]}-----", ""])


def _no_pem(text: str) -> str:
    """The mistake of a text without a whole PEM block; the text is not shown, as it may be part of the key."""
    if _BEGIN.search(text):
        what, hint = (
            "is cut off: no END line",
            "in .env put the whole key into quotes",
        )
    elif text.endswith((".json", ".pem", ".p12")):
        what, hint = "is the name of a file, not a key", _WHERE
    elif "-----END" in text:
        what, hint = "is cut off: no BEGIN line", _WHERE
    else:
        what, hint = "is not a key: no BEGIN line", _WHERE
    # Not the literal lines: the redactor hides everything that begins like a key.
    return f"{KEY} {what}\n    expected: a line BEGIN PRIVATE KEY, base64, a line END PRIVATE KEY\n    hint:     {hint}"


def _address(env: Mapping[str, str], name: str, default: str) -> str:
    address = (env.get(name) or default).strip().rstrip("/")
    parts = urlsplit(address)
    is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_here)):
        raise CredentialError(f"{name} must begin with https://: a key is sent there\n    found:    {address}")
    return address
