"""A spreadsheet is read in two requests; what fails for a while is tried again, what is refused is explained."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate
from time import time

import pytest

from launcher.data.tables.sheets.client import read_spreadsheet
from launcher.data.tables.sheets.patience import Patience
from launcher.data.tables.sheets.spreadsheet import Spreadsheet
from launcher.errors import CredentialError, ExperimentError, LauncherError, UnreachableError
from launcher.redact import REDACTOR
from tests.sheets.google import EMAIL, SPREADSHEET, Google, cut, new_key, none, quota, reset, silent, status, truncated

ALL = {"train": "Train", "validation": "Held out", "prompts": "Anna's prompts"}
BATCH = f"GET /v4/spreadsheets/{SPREADSHEET}/values:batchGet"


class Waits:
    """A clock that only counts."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.said: list[str] = []

    def read(
        self,
        google: Google,
        wanted: dict[str, str] = ALL,
        spreadsheet_id: str = SPREADSHEET,
        timeout: float = 60,
        **env: str,
    ) -> Spreadsheet:
        patience = Patience(timeout=(timeout, timeout), sleep=self.waited.append)
        return read_spreadsheet(spreadsheet_id, wanted, google.env(**env), self.said.append, patience)


def refused(google: Google, kind: type[LauncherError], wanted: dict[str, str] = ALL, **env: str) -> str:
    waits = Waits()
    with pytest.raises(kind) as caught:
        waits.read(google, wanted, **env)
    assert waits.waited == []
    assert type(caught.value) is kind
    return str(caught.value)


def test_three_worksheets_are_read_in_two_requests_with_their_cells_as_they_are_shown(google: Google) -> None:
    found = Waits().read(google)
    assert google.requests == ["POST /token", BATCH]
    assert found.id == SPREADSHEET
    assert [(w.role, w.title, w.values) for w in found.worksheets] == [
        (
            "train",
            "Train",
            (
                ("prompt", "chosen", "rejected"),
                ("a?", "yes", "no"),
                ("b?", "1.5 %"),
                (),
                ("c?", "24.11.2026", "no"),
            ),
        ),
        ("validation", "Held out", (("prompt", "chosen", "rejected"), ("d?", "yes", "no"))),
        ("prompts", "Anna's prompts", (("name", "system", "user"), ("prompt_default", "", "{prompt}"))),
    ]


def test_a_worksheet_without_a_cell_is_read_as_such(google: Google) -> None:
    google.sheets[SPREADSHEET]["Train"] = []
    assert Waits().read(google, {"train": "Train"}).worksheets[0].values == ()


@pytest.mark.parametrize(
    ("faults", "waited"),
    [
        ([quota("7")], [7]),
        ([none, quota("7"), quota("11")], [7, 11]),
        ([none, status(503, Retry_After=formatdate(time() - 5, usegmt=True))], [0]),
        ([status(500), none], [1]),
        ([none, status(502, b"<html>Bad gateway</html>"), status(504)], [1, 2]),
        ([none, reset, cut, truncated], [1, 2, 4]),
        ([reset, cut, truncated], [1, 2, 4]),
        ([none, status(200, [])], [1]),
    ],
)
def test_what_fails_for_a_while_is_asked_again_and_that_is_said_once(google: Google, faults, waited) -> None:  # type: ignore[no-untyped-def]
    google.faults = [*faults]
    waits = Waits()
    assert len(waits.read(google).worksheets) == 3
    assert len(waits.waited) == len(waited)
    assert all(0.75 * expected <= found <= 1.25 * expected for found, expected in zip(waits.waited, waited, strict=True))
    assert len(waits.said) == 1
    assert waits.said[0].startswith("Google Sheets: ")


def test_a_server_that_says_nothing_is_asked_again(google: Google) -> None:
    google.faults = [none, silent(3)]
    waits = Waits()
    assert len(waits.read(google, timeout=1).worksheets) == 3
    assert waits.said[0].startswith("Google Sheets: timeout; retrying in ")


def test_a_quota_that_does_not_come_back_is_given_up_with_the_servers_sentence(google: Google) -> None:
    google.faults = [none, *[quota()] * 7]
    waits = Waits()
    with pytest.raises(UnreachableError) as caught:
        waits.read(google)
    assert str(caught.value) == (
        "Google Sheets: HTTP 429, too many requests; Quota exceeded for quota metric "
        "'Read requests' and limit 'Read requests per minute per user' (gave up after 7 tries)\n"
        "    hint:     try again in a few minutes; a run's copy needs no request: launcher run EXP --data-of RUN"
    )
    assert caught.value.exit_code == 48  # a cluster starts the run again
    assert len(waits.waited) == 6


def test_a_server_that_asks_for_an_hour_is_not_waited_for(google: Google) -> None:
    google.faults = [none, quota("3600")]
    with pytest.raises(UnreachableError, match=r"\(gave up after 1 try; the server asks to wait 3600 s\)"):
        Waits().read(google)


def test_nobody_there_is_said_after_three_tries(google: Google) -> None:
    waits = Waits()
    with pytest.raises(UnreachableError) as caught:
        waits.read(google, GOOGLE_SHEETS_TOKEN_URL="http://127.0.0.1:1/token")
    assert str(caught.value) == "Google Sheets: cannot connect to 127.0.0.1: connection refused (gave up after 3 tries)"
    assert len(waits.waited) == 2


def test_a_proxy_that_is_away_is_named_without_its_password(google: Google) -> None:
    nobody = {"GOOGLE_SHEETS_TOKEN_URL": "http://localhost:1/token", "http_proxy": "http://me:hush-hush@127.0.0.1:9"}
    with pytest.raises(UnreachableError, match=r"to localhost through proxy http://127\.0\.0\.1:9: connection refused"):
        Waits().read(google, **nobody)


def test_a_token_that_expires_before_the_cells_are_read_is_replaced_once(google: Google) -> None:
    expired = status(401, {"error": {"code": 401, "message": "Invalid Credentials", "status": "UNAUTHENTICATED"}})
    google.faults = [none, expired]
    assert len(Waits().read(google).worksheets) == 3
    assert google.requests == ["POST /token", BATCH, "POST /token", BATCH]
    google.faults = [none, expired, none, expired]
    assert refused(google, CredentialError) == f"Google Sheets rejects the token of {EMAIL}: Invalid Credentials"


def test_a_proxy_is_used_that_only_env_names(google: Google) -> None:
    nobody = "http://localhost:1"
    env = {"GOOGLE_SHEETS_API_URL": nobody, "GOOGLE_SHEETS_TOKEN_URL": f"{nobody}/token", "HTTP_PROXY": google.url}
    Waits().read(google, **env)
    assert google.requests == [f"POST {nobody}/token", BATCH]
    with pytest.raises(LauncherError, match="cannot connect to localhost"):
        Waits().read(google, **env, NO_PROXY="localhost")
    assert len(google.requests) == 2


def test_a_spreadsheet_that_is_not_shared_is_said_with_the_address_to_share_it_with(google: Google) -> None:
    google.shared = False
    assert refused(google, CredentialError) == (
        f"spreadsheet {SPREADSHEET} is not shared with {EMAIL}: The caller does not have permission\n"
        f"    hint:     open https://docs.google.com/spreadsheets/d/{SPREADSHEET}, Share, add this address as a Viewer"
    )


def test_a_spreadsheet_that_does_not_exist_is_the_experiments_mistake(google: Google) -> None:
    with pytest.raises(ExperimentError) as caught:
        Waits().read(google, spreadsheet_id="1another")
    assert str(caught.value) == (
        "spreadsheet_id: spreadsheet not found\n"
        "    found:    1another\n"
        "    hint:     the id is between /d/ and /edit in its address"
    )


def test_worksheets_that_do_not_exist_are_named_with_those_that_do_nearest_first(google: Google) -> None:
    google.charts = {"Curve"}
    assert refused(google, ExperimentError, {"train": "Trian", "validation": "Curve", "prompts": "Anna's prompts"}) == (
        "train_sheet: worksheet 'Trian' not found\n"
        "    found:    'Train', 'Anna\\'s prompts', 'Held out'\n"
        "    hint:     did you mean 'Train'?\n"
        "validation_sheet: 'Curve' has no cells (perhaps a chart)\n"
        "    found:    'Train', 'Held out', 'Anna\\'s prompts'"
    ).replace("'Anna\\'s prompts'", '"Anna\'s prompts"')
    assert google.requests == ["POST /token", BATCH, f"GET /v4/spreadsheets/{SPREADSHEET}"]


def test_an_api_that_is_off_is_said_with_the_projects_sentence(google: Google) -> None:
    google.enabled = False
    said = refused(google, CredentialError)
    assert said.startswith(
        f"the Google Sheets API is disabled in the project of {EMAIL}: Google Sheets API has not been used in project"
    )
    assert "overview?project=123456" in said


def test_an_excel_file_in_drive_is_no_google_sheet(google: Google) -> None:
    message = "This operation is not supported for this document"
    google.faults = [none, status(400, {"error": {"code": 400, "message": message, "status": "FAILED_PRECONDITION"}})]
    assert refused(google, ExperimentError).startswith("spreadsheet_id: not a Google Sheet")


def test_the_key_of_another_account_is_refused(google: Google) -> None:
    said = refused(google, CredentialError, GOOGLE_SHEETS_PRIVATE_KEY=new_key())
    assert said == (
        f"Google rejects the key of {EMAIL}: Invalid JWT Signature.\n    hint:     take GOOGLE_SHEETS_CLIENT_EMAIL and "
        "GOOGLE_SHEETS_PRIVATE_KEY from the same JSON file; its key may have been deleted"
    )


def test_an_address_that_google_does_not_know_is_refused(google: Google) -> None:
    said = refused(google, CredentialError, GOOGLE_SHEETS_CLIENT_EMAIL="other@demo-project.iam.gserviceaccount.com")
    assert said.startswith("service account other@demo-project.iam.gserviceaccount.com not found: Invalid grant:")


@pytest.mark.parametrize("part", [slice(0, 10), slice(3, None)])
def test_a_key_that_has_lost_lines_is_refused_before_anybody_is_asked(google: Google, key: str, part: slice) -> None:
    lines = key.splitlines()
    said = refused(google, CredentialError, GOOGLE_SHEETS_PRIVATE_KEY="\n".join([lines[0], *lines[1:-1][part], lines[-1]]))
    assert said.startswith("GOOGLE_SHEETS_PRIVATE_KEY is not a valid RSA private key: incomplete or changed")
    assert google.requests == []
    assert lines[5] not in said


@pytest.mark.parametrize(("skew", "says"), [(7200 + 1800, "2.5 h behind"), (-900, "15 min ahead of")])
def test_a_clock_that_is_wrong_is_said_with_how_much(google: Google, skew: float, says: str) -> None:
    google.skew = skew
    said = refused(google, CredentialError)
    begins, _, rest = said.partition(" (")
    there, _, why = rest.partition("): ")
    assert begins == f"this machine's clock is {says} Google's"
    assert abs(datetime.strptime(there, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC).timestamp() - time() - skew) < 10
    assert why.startswith("Invalid JWT: Token must be")
    assert said.endswith("    hint:     set the clock (timedatectl set-ntp true)")


def test_a_clock_that_is_a_minute_off_does_not_matter(google: Google) -> None:
    google.skew = 60
    assert len(Waits().read(google).worksheets) == 3


def test_what_was_sent_and_given_is_secret_from_then_on(google: Google) -> None:
    Waits().read(google)
    assertion, token = google.assertions[0], google.tokens[0]
    shown = REDACTOR.text(f"sent {assertion}; signed {assertion.split('.')[2]}; given {token}")
    assert shown == "sent [hidden: assertion]; signed [hidden: signature]; given [hidden: access token]"
