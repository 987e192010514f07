"""The survey of an experiment's pairs for the pages: its tables, and its histograms for bars.js. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_TITLES: Final = {"prompt": "Prompt", "chosen": "Chosen answer", "rejected": "Rejected answer"}


def told(survey: Mapping[str, Any] | None, place: str) -> dict[str, Any] | None:
    """The fields of ``launcher.data.survey.Survey`` as JSON, with "unit", "has_cut" and the "place" of its histograms; None for
    what is no survey, or one of another version.
    """
    try:
        lengths = survey["lengths"] if survey is not None else {}
        first = next(iter(lengths.values()))
        has_cut = any(of.get("cut") is not None for of in lengths.values())
        defaults: dict[str, Any] = {"near_training": None, "near_places": {}, "has_languages": False}
        return {**defaults, **(survey or {}), "unit": first["unit"], "has_cut": has_cut, "place": place}
    except (KeyError, TypeError, AttributeError, StopIteration):
        return None


def histograms(survey: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Of each part of the pairs, and of how much longer the chosen answers are; none if there is no survey."""
    if survey is None:
        return []
    place, found = survey["place"], []
    for name, of in survey["lengths"].items():
        if of.get("bins"):
            help = f"{of['unit']}; median {of['median']:,}, longest {of['longest']:,}"
            found.append({"place": place, "title": _TITLES.get(name, name), "unit": of["unit"], "help": help, "bins": of["bins"]})
    bias = survey.get("bias") or {}
    if bias.get("bins"):
        help = f"{bias['unit']}; right of 0: the chosen answer is longer"
        unit = f"{bias['unit']} more"
        found.append({"place": place, "title": "Chosen less rejected", "unit": unit, "help": help, "bins": bias["bins"]})
    return found
