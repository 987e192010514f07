"""The page of an experiment's data: rows, lengths, pairs, findings, and pairs as the model sees them, in one HTML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..runs.whole import write_whole
from .page import embedded, environment, whole
from .survey_view import histograms, told

_PLACES: Final = 3  # of a finding
_TOKENS: Final = 2000  # shown of a part
_PAIRS: Final = ("train", "validation")
_ORDER: Final = ("error", "warning", "notice")


def render(data: Mapping[str, Any], now: datetime | None = None) -> str:
    """The page of ``data``, as ``launch.surveyed.Surveyed.page`` gives it."""
    survey = told(data["survey"], "bars")
    rows = sum(source["rows"] for source in data.get("sources") or () if source["role"] in _PAIRS)
    pairs = data.get("training_pairs", 0) + data.get("validation_pairs", 0)
    found = [*_mistakes(data["errors"]), *map(_finding, data["found"]), *_notices(data["notices"], data["found"])]
    found.sort(key=lambda one: _ORDER.index(one["action"]))
    text = (
        environment()
        .get_template("data.html")
        .render(
            title=f"Data of {data.get('key', 'an experiment')}",
            made=(now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
            data={"key": "-", "file": "-", "sources": [], "columns": [], **data},
            told=survey,
            dropped=rows - pairs,
            findings=found,
            examples=list(map(_example, data["examples"])),
            histograms=embedded(histograms(survey)),
        )
    )
    return whole(text)


def write(data: Mapping[str, Any], file: Path) -> None:
    """Writes the page whole or not at all; raises OSError."""
    write_whole(file, render(data))


def _mistakes(mistakes: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Groups mistakes that differ only in their place."""
    same: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for one in mistakes:
        same.setdefault((one["what"], one["expected"], one["hint"]), []).append(one)
    for (what, expected, hint), those in same.items():
        about = [f"expected {expected}" if expected else "", f"found {those[0]['found']}" if those[0]["found"] else ""]
        sentence = "; ".join([f"{len(those):,} times: {what}" if len(those) > 1 else what, *filter(None, about)])
        places = [one["where"] for one in those[:_PLACES]]
        yield {
            "rule": "",
            "action": "error",
            "table": "",
            "sentence": sentence,
            "places": places,
            "count": len(those),
            "hint": hint,
        }


def _notices(notices: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Notices that no rule covers."""
    for one in notices:
        if not any(
            f"{rule['table']}: {rule['count']} of {rule['total']} {rule['unit']} {rule['what']}" in one["text"] for rule in found
        ):
            action = "warning" if one["is_warning"] else "notice"
            yield {"rule": "", "action": action, "table": "", "sentence": one["text"], "places": [], "count": 0, "hint": None}


def _finding(found: Mapping[str, Any]) -> dict[str, Any]:
    sentence = f"{found['count']:,} of {found['total']:,} {found['unit']} {found['what']}"
    short = [place.removeprefix(f"{found['table']}:") for place in found["places"]]
    places = [f"line {place}" if place.isdigit() else place for place in short]
    return {**found, "sentence": sentence, "places": places}


def _example(shown: Mapping[str, Any]) -> dict[str, Any]:
    """A pair of ``trainer.inputs.tokens.preview.shown``, with long parts cut."""
    answers = {name: shown[name] for name in ("chosen", "rejected") if shown[name]["kept"] or shown[name]["cut"]}
    counts = {"prompt": len(shown["prompt"]), **{name: len(of["kept"]) + len(of["cut"]) for name, of in answers.items()}}
    parts = {name: {part: _part(of[part]) for part in ("kept", "cut")} for name, of in answers.items()}
    return {"line": shown["line"], "why": shown["why"], "prompt": _part(shown["prompt"]), "answers": parts, "counts": counts}


def _part(texts: Sequence[str]) -> dict[str, Any]:
    return {"texts": texts[:_TOKENS], "left": max(0, len(texts) - _TOKENS)}
