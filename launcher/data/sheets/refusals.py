"""What Google's refusals mean, each with what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any, Final

from ...errors import CredentialError, ExperimentError, LauncherError, Mistake, nearest
from .account import EMAIL, KEY

_SETTINGS: Final = {"train": "train_sheet", "validation": "validation_sheet", "prompts": "prompt_sheet"}


def wrong_key(error: Exception) -> CredentialError:
    """The key has the form of one, and is none."""
    # The library's own words are not shown: they may quote the key.
    return CredentialError(
        f"{KEY} is no RSA private key: a part of it is missing, or it was changed ({type(error).__name__})\n"
        "    hint:     copy private_key of the service account's JSON file again, all of it"
    )


def refused_token(said: str, email: str) -> CredentialError:
    """The token's endpoint refuses the signed request."""
    if "signature" in said.lower():
        return CredentialError(
            f"Google does not take the key for {email}: {said}\n"
            f"    hint:     {EMAIL} and {KEY} must be of one JSON file, and its key must not have been deleted"
        )
    if "account not found" in said.lower():
        return CredentialError(
            f"Google knows no service account {email}: {said}\n    hint:     {EMAIL} is client_email of the JSON file"
        )
    return CredentialError(f"Google refuses the service account {email}: {said}")


def clock_is_wrong(skew: float | None, said: str) -> CredentialError:
    """``skew``: seconds that this machine's clock is ahead of Google's."""
    if skew is None or abs(skew) < 1:
        return CredentialError(f"Google takes this machine's clock to be wrong: {said}")
    side = "ahead of" if skew > 0 else "behind"
    return CredentialError(
        f"this machine's clock is {_span(abs(skew))} {side} Google's, which refuses the request: {said}\n"
        "    hint:     set the clock (timedatectl set-ntp true)"
    )


def refused_by_api(status: int, message: str, email: str, spreadsheet_id: str) -> LauncherError:
    """The API refuses the read; ``message`` is its sentence."""
    lower = message.lower()
    if status == 403 and ("has not been used in project" in lower or "is disabled" in lower):
        return CredentialError(f"the Google Sheets API is off in the project of {email}: {message}")
    if status == 403 and "scope" in lower:
        return CredentialError(f"Google Sheets refuses {email}: {message}")
    if status == 403:
        return CredentialError(
            f"spreadsheet {spreadsheet_id} is not shared with {email}: {message}\n"
            f"    hint:     open https://docs.google.com/spreadsheets/d/{spreadsheet_id}, Share, and add that address as a Viewer"
        )
    if status == 404:
        what, hint = "there is no such spreadsheet", "the id is what stands between /d/ and /edit in its address"
        return ExperimentError(Mistake("spreadsheet_id", what, found=spreadsheet_id, hint=hint))
    if status == 400 and "not supported for this document" in lower:
        what, hint = (
            "the document is no Google Sheet (an Excel file in Drive, say)",
            "File, Save as Google Sheets; then take its id",
        )
        return ExperimentError(Mistake("spreadsheet_id", what, found=spreadsheet_id, hint=hint))
    if status == 401:
        return CredentialError(f"Google Sheets does not take the token of {email}: {message}")
    return LauncherError(f"Google Sheets refuses the read with status {status}: {message}")


def no_worksheet(wanted: Mapping[str, str], there: Mapping[str, Any]) -> LauncherError:
    """``there`` is what the spreadsheet says of its worksheets; charts on a sheet of their own hold no cells."""
    properties = [sheet.get("properties", {}) for sheet in there.get("sheets", [])]
    titles = [str(p.get("title")) for p in properties if p.get("sheetType", "GRID") == "GRID"]
    others = {str(p.get("title")) for p in properties} - set(titles)
    mistakes = []
    for role, title in wanted.items():
        if title in titles:
            continue
        what = f"{title!r} holds no cells: it is a chart, say" if title in others else f"there is no worksheet {title!r}"
        first = sorted(titles, key=lambda other: -SequenceMatcher(None, title.lower(), other.lower()).ratio())
        mistakes.append(Mistake(_SETTINGS[role], what, found=", ".join(map(repr, first)), hint=nearest(title, titles)))
    if not mistakes:  # it was made between the two requests
        return LauncherError("Google Sheets did not find a worksheet that is there now: start again")
    return ExperimentError(mistakes)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"
