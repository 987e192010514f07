"""Token lengths of pairs, and one pair as the model sees it, for ``launcher data``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from launcher.data.survey import bins_of

from .token_pairs import PARTS, TokenPair, TokenPairs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def lengths(whole: TokenPairs, limit: int) -> Mapping[str, Any]:
    """Of the pairs before their answers are cut: for each part {"median", "high" (95 %), "longest", "cut", "bins"}; and of the
    answers' difference {"share", "median", "bins"}, as in launcher.data.survey. ``limit``: tokens of prompt and answer.
    """
    room = limit - whole.lengths[:, 0]
    found: dict[str, Any] = {}
    for place, name in enumerate(PARTS):
        numbers = np.sort(whole.lengths[:, place])
        cut = int((whole.lengths[:, place] > room).sum()) if place else 0
        ranks = [max(0, int(np.ceil(share * len(numbers))) - 1) for share in (0.5, 0.95)]
        median, high, longest = (int(numbers[place]) for place in (*ranks, -1))
        bins = asdict(bins_of(numbers.tolist()))
        found[name] = {"median": median, "high": high, "longest": longest, "cut": cut, "bins": bins}
    apart = np.sort(whole.lengths[:, 1] - whole.lengths[:, 2])
    unequal = apart[apart != 0]
    share = float((unequal > 0).mean()) if len(unequal) else 0.5
    median = int(apart[max(0, int(np.ceil(0.5 * len(apart))) - 1)])
    return {"parts": found, "bias": {"share": share, "median": median, "bins": asdict(bins_of(apart.tolist()))}}


def examples(whole: TokenPairs, limit: int, tokenizer: PreTrainedTokenizerBase) -> Sequence[Mapping[str, Any]]:
    """The first pair, one whose answer is cut, and the longest, each once: as ``shown``, with "why"."""
    sums = whole.lengths[:, 0] + whole.lengths[:, 1:].max(axis=1)
    cut = np.flatnonzero(sums > limit)
    places = {0: "the first pair"}
    if len(cut):
        places.setdefault(int(cut[0]), "an answer is cut")
    places.setdefault(int(sums.argmax()), "the longest pair")
    return [{**shown(whole[place], limit, tokenizer), "why": why} for place, why in places.items()]


def shown(pair: TokenPair, limit: int, tokenizer: PreTrainedTokenizerBase) -> Mapping[str, Any]:
    """{"line", "prompt": [texts of its tokens], "chosen": {"kept": […], "cut": […]}, "rejected": {…}}.

    A text of several tokens, such as an emoji, is given with the last of them; the others are empty.
    """
    room = limit - len(pair.prompt)
    answers = {name: _texts(getattr(pair, name), tokenizer) for name in PARTS[1:]}
    cut = {name: {"kept": texts[:room], "cut": texts[room:]} for name, texts in answers.items()}
    return {"line": pair.line, "prompt": _texts(pair.prompt, tokenizer), **cut}


def _texts(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text that each token adds."""
    texts: list[str] = []
    begin = 0
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[begin:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd") and end < len(ids) and end - begin < 8:
            texts.append("")  # a part of a character: the next tokens complete it
            continue
        texts.append(text)
        begin = end
    return texts
