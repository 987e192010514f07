"""What Google's refusals mean, each with a fix. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any, Final

from ....errors import CredentialError, ExperimentError, LauncherError, Mistake, nearest
from ....network import wrong_clock
from .account import EMAIL, KEY

_SETTINGS: Final = {"train": "train_sheet", "validation": "validation_sheet", "prompts": "prompt_sheet"}


def wrong_key(error: Exception) -> CredentialError:
    """The text looks like a key but is not one."""
    # The library's message is not shown: it may quote the key.
    return CredentialError(
        f"{KEY} is not a valid RSA private key: incomplete or changed ({type(error).__name__})\n"
        "    hint:     copy the whole private_key from the service account's JSON file again"
    )


def refused_token(said: str, email: str) -> CredentialError:
    """The token endpoint rejects the signed request."""
    if "signature" in said.lower():
        return CredentialError(
            f"Google rejects the key of {email}: {said}\n"
            f"    hint:     take {EMAIL} and {KEY} from the same JSON file; its key may have been deleted"
        )
    if "account not found" in said.lower():
        return CredentialError(
            f"service account {email} not found: {said}\n    hint:     set {EMAIL} to client_email from the JSON file"
        )
    return CredentialError(f"Google rejects the service account {email}: {said}")


def clock_is_wrong(skew: float | None, said: str) -> CredentialError:
    """``skew``: seconds that this machine's clock is ahead of Google's."""
    return CredentialError(wrong_clock(skew, "Google's", said))


def refused_by_api(status: int, message: str, email: str, spreadsheet_id: str) -> LauncherError:
    """The API rejects the read; ``message`` is its sentence."""
    lower = message.lower()
    if status == 403 and ("has not been used in project" in lower or "is disabled" in lower):
        return CredentialError(f"the Google Sheets API is disabled in the project of {email}: {message}")
    if status == 403 and "scope" in lower:
        return CredentialError(f"Google Sheets rejects {email}: {message}")
    if status == 403:
        return CredentialError(
            f"spreadsheet {spreadsheet_id} is not shared with {email}: {message}\n"
            f"    hint:     open https://docs.google.com/spreadsheets/d/{spreadsheet_id}, Share, add this address as a Viewer"
        )
    if status == 404:
        what, hint = "spreadsheet not found", "the id is between /d/ and /edit in its address"
        return ExperimentError(Mistake("spreadsheet_id", what, found=spreadsheet_id, hint=hint))
    if status == 400 and "not supported for this document" in lower:
        what, hint = (
            "not a Google Sheet (perhaps an Excel file in Drive)",
            "use File > Save as Google Sheets, then the id of the new document",
        )
        return ExperimentError(Mistake("spreadsheet_id", what, found=spreadsheet_id, hint=hint))
    if status == 401:
        return CredentialError(f"Google Sheets rejects the token of {email}: {message}")
    return LauncherError(f"Google Sheets: HTTP {status}: {message}")


def no_worksheet(wanted: Mapping[str, str], there: Mapping[str, Any]) -> LauncherError:
    """``there``: the spreadsheet's answer about its worksheets; a chart on its own sheet has no cells."""
    properties = [sheet.get("properties", {}) for sheet in there.get("sheets", [])]
    titles = [str(p.get("title")) for p in properties if p.get("sheetType", "GRID") == "GRID"]
    others = {str(p.get("title")) for p in properties} - set(titles)
    mistakes = []
    for role, title in wanted.items():
        if title in titles:
            continue
        what = f"{title!r} has no cells (perhaps a chart)" if title in others else f"worksheet {title!r} not found"
        first = sorted(titles, key=lambda other: -SequenceMatcher(None, title.lower(), other.lower()).ratio())
        mistakes.append(Mistake(_SETTINGS[role], what, found=", ".join(map(repr, first)), hint=nearest(title, titles)))
    if not mistakes:  # it was added between the two requests
        return LauncherError("Google Sheets: a worksheet was missing and exists now; run the command again")
    return ExperimentError(mistakes)
