"""Detects languages of answers, if the package for it is installed, which takes a second to load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

_LEAST_SURE: Final = 0.4  # by the model's own scale, on which a plain sentence has 0.5 to 1 and a single name below 0.2
_CHARACTERS: Final = 400  # of a text: more say the same


def can_tell() -> bool:
    """Whether languages can be detected here."""
    from importlib.util import find_spec

    return find_spec("py3langid") is not None


def language(text: str) -> str:
    """The ISO 639 code of the language of ``text``; empty if it is too short or unknown."""
    code, sure = _identifier().classify(text[:_CHARACTERS])
    return str(code) if sure >= _LEAST_SURE else ""


def languages(texts: Iterable[str]) -> Counter[str]:
    """How many of ``texts`` are in each language."""
    return Counter(map(language, texts))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
