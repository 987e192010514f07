"""Known names: what columns are called in data for other tools and in spreadsheets. A table, and how a name is read.

Of TRL, LLaMA-Factory, Axolotl, OpenAI, Argilla and distilabel, LMSYS's arena, UltraFeedback, HelpSteer, SHP, PKU-SafeRLHF and
annotation tools.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# In the order in which they are taken, where a table has several.
PROMPTS: Final = _words(
    "prompt instruction question query user_prompt user_query user_question user_message user_input user input request task "
    "problem context dialogue history post title source_text source text messages conversations conversation"
)
PARTS: Final = _words("input context passage document")  # a second part of the prompt, beside an instruction or a question
# Alone, or beside a word for an answer (`chosen_response`).
CHOSEN: Final = _words("chosen accepted accept preferred good better best winning positive pos win j")
REJECTED: Final = _words(
    "rejected reject refused dispreferred unpreferred non_preferred not_preferred nonpreferred bad worse worst losing negative "
    "neg lose k"
)
SYSTEMS: Final = _words(
    "system system_prompt system_message system_msg system_instruction system_instructions sys sys_prompt sys_msg persona"
)
WINNERS: Final = _words(
    "winner preference preferences preferred preferred_id winning better better_id choice chosen_id verdict vote label labels "
    "overall_preference human_preference judgement judgment best decision selected selection"
)
RATINGS: Final = _words("score scores rating ratings reward rewards grade stars points votes quality winner overall_score")
# Of one answer a row.
LABELS: Final = _words(
    "label labels feedback thumb thumbs liked helpful desirable vote verdict judgement judgment correct accepted"
)
DEGREES: Final = _words("score scores rating ratings margin strength confidence")  # how much better, and not which
RANKS: Final = _words("rank ranks ranking rankings position place")
ANSWERS: Final = _words(
    "response responses answer answers output outputs completion completions reply replies candidate candidates generation "
    "generations conversation conversations text texts ref summary translation option result message messages"
)
CONVERSATIONS: Final = ("messages", "conversations", "conversation")
TOOLS: Final = "tools"
_SIDES: Final[Mapping[str, Sequence[str]]] = {
    "letter": "abcdef",
    "number": "0123456789",
    "place": ("left", "right"),
    "ordinal": ("first", "second", "third", "fourth"),
    "count": ("one", "two", "three", "four"),
}


def tokens(name: str) -> list[str]:
    """The words of a column's name: ``chosenResponse_1`` -> chosen, response, 1."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])", "_", name.strip())
    return [word for word in re.split(r"[\W_]+", apart.lower()) if word]


def is_named(name: str, names: Sequence[str]) -> bool:
    """Whether ``name`` is one of ``names``, also beside a word for an answer, or inside objects (``input.messages``)."""
    for words in (tokens(name), tokens(name.rpartition(".")[2])):
        rest = [word for word in words if word not in ANSWERS]
        if "_".join(words) in names or (len(rest) < len(words) and "_".join(rest) in names):
            return True
    return False


def has_word(name: str, words: Sequence[str]) -> bool:
    """Whether one of the ``words`` is in ``name``."""
    return not set(words).isdisjoint(tokens(name))


def families(names: Sequence[str]) -> list[dict[str, str]]:
    """The ``names`` that differ in one word that counts or places: side -> name, in the order of the sides.

    >>> families(["score_b", "id", "score_a", "text1", "text2"])
    [{'a': 'score_a', 'b': 'score_b'}, {'1': 'text1', '2': 'text2'}]
    """
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        words = tokens(name)
        for place, word in enumerate(words):
            kind = next((kind for kind, sides in _SIDES.items() if word in sides), None)
            if kind is not None:
                found.setdefault((kind, *words[:place], "*", *words[place + 1 :]), {})[word] = name
    order = {word: place for sides in _SIDES.values() for place, word in enumerate(sides)}
    several = [family for family in found.values() if len(family) > 1]
    return [dict(sorted(family.items(), key=lambda one: order[one[0]])) for family in several]
