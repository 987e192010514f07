"""A key is understood in every form in which people paste it, and what is none is named."""

from __future__ import annotations

import pytest

from launcher.data.tables.sheets.account import Account
from launcher.errors import CredentialError
from launcher.redact import REDACTOR
from tests.sheets.google import EMAIL


def account(key: str, email: str = EMAIL, **more: str) -> Account:
    return Account.of({"GOOGLE_SHEETS_CLIENT_EMAIL": email, "GOOGLE_SHEETS_PRIVATE_KEY": key, **more})


def refusal(key: str, email: str = EMAIL, **more: str) -> str:
    with pytest.raises(CredentialError) as caught:
        account(key, email, **more)
    assert caught.value.exit_code == 44
    return str(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        lambda key: key,
        lambda key: key.replace("\n", "\\n"),
        lambda key: f'"{key}"',
        lambda key: "'" + key.replace("\n", "\\n") + "'",
        lambda key: key.strip(),
        lambda key: key.replace("\n", "\r\n"),
        lambda key: key.replace("\n", "\\r\\n"),
        lambda key: key.replace("\n", " "),
        lambda key: "  " + key.replace("\n", "\n    "),
    ],
    ids=["as it is", "literal", "quoted", "literal, quoted", "no end", "Windows", "literal, Windows", "spaces", "indented"],
)
def test_a_key_is_understood_however_it_was_pasted(key: str, written) -> None:  # type: ignore[no-untyped-def]
    assert account(written(key)).key == key


def test_an_e_mail_may_have_quotes_and_spaces_around_it(key: str) -> None:
    assert account(key, f' "{EMAIL}" ').email == EMAIL


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"type": "service_account", "private_key": "-----BEGIN', "contains a JSON file instead of a key"),
        ("-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0", "is cut off: no END line"),
        ("MIIEvQIBADANBgkqhkiG9w0\n-----END PRIVATE KEY-----", "is cut off: no BEGIN line"),
        ("MIIEvQIBADANBgkqhkiG9w0", "is not a key: no BEGIN line"),
        ("keys/reader.json", "is the name of a file, not a key"),
        ("-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----", "is a certificate, not a private key"),
        ("-----BEGIN PRIVATE KEY-----\nMII…\n-----END PRIVATE KEY-----", "is damaged: no base64 between its BEGIN and END lines"),
    ],
)
def test_what_is_no_key_is_named_and_not_shown(text: str, says: str) -> None:
    said = refusal(text)
    assert said.startswith(f"GOOGLE_SHEETS_PRIVATE_KEY {says}")
    assert "MII" not in said
    assert "[hidden" not in said


def test_what_is_missing_is_named() -> None:
    with pytest.raises(CredentialError) as caught:
        Account.of({"GOOGLE_SHEETS_CLIENT_EMAIL": " "})
    assert str(caught.value) == (
        "Google Sheets: GOOGLE_SHEETS_CLIENT_EMAIL and GOOGLE_SHEETS_PRIVATE_KEY missing in the environment and in .env\n"
        "    hint:     take client_email and private_key from the JSON file of a service account"
    )


def test_what_is_no_e_mail_is_refused(key: str) -> None:
    assert refusal(key, "demo-project").startswith("GOOGLE_SHEETS_CLIENT_EMAIL is not an e-mail address: demo-project\n")


def test_google_is_asked_where_nothing_else_is_said_and_another_address_must_be_as_safe(key: str) -> None:
    plain = account(key)
    assert (plain.api, plain.token) == ("https://sheets.googleapis.com", "https://oauth2.googleapis.com/token")
    assert account(key, GOOGLE_SHEETS_API_URL="https://gateway.example/sheets/").api == "https://gateway.example/sheets"
    assert account(key, GOOGLE_SHEETS_API_URL="http://localhost:8080").api == "http://localhost:8080"
    said = refusal(key, GOOGLE_SHEETS_TOKEN_URL="http://gateway.example/token")
    assert said == (
        "GOOGLE_SHEETS_TOKEN_URL must begin with https://: a key is sent there\n    found:    http://gateway.example/token"
    )


def test_a_key_is_secret_in_the_form_in_which_it_is_used(key: str) -> None:
    account(key.replace("\n", " "))
    assert key.splitlines()[3] not in REDACTOR.text(f"cannot load {key.splitlines()[3]}")
