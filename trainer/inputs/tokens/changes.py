"""Compares the text of pairs with the chat template's output: sentences about changes, and mistakes that cannot be trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from launcher.data.tables.table import place_of
from launcher.data.text.chat import Message, function_of
from launcher.data.text.pair import Pair
from launcher.errors import Mistake, Warned

from .frame import Frame, shared
from .template import Messages, Template, Texts, answers_of, messages_of, shown, tools_of

_THOUGHT: Final = re.compile(r"think|thought|reason", re.IGNORECASE)  # marks of reasoning, which belong into answers
_ANSWERS: Final = ("chosen", "rejected")


def _answers(pair: Pair) -> tuple[str, ...]:
    """The names of the answers that ``pair`` has."""
    return _ANSWERS if pair.rejected is not None else _ANSWERS[:1]


@dataclass
class Tally:
    """How often a change was seen, and its first place with the text before and after."""

    count: int = 0
    first: str = ""

    def add(self, place: str, before: str, after: str) -> None:
        if not self.count:
            self.first = f"first {place}: {before} → {after}"
        self.count += 1


@dataclass
class Changes:
    """``differing``: numbers of the pairs whose text with an answer does not begin with the prompt; ``mistakes``: in the data."""

    template: Template
    frame: Frame
    source: str
    mistakes: list[Mistake] = field(default_factory=list)
    differing: set[int] = field(default_factory=set)
    _seen: dict[str, Tally] = field(default_factory=dict)
    _answered: int = 0  # answers that were looked at
    _kept_by: str = ""  # part of a sentence: the setting with which the template would keep what it cuts

    def look(self, pairs: Sequence[Pair], texts: Sequence[Texts], first: int = 0) -> None:
        """``first``: the number of the first of these pairs."""
        for number, (pair, found) in enumerate(zip(pairs, texts, strict=True), first):
            if self.template.is_chat:
                self._prompt(pair, found.prompt)
                left, *_ = [
                    self._answer(pair, name, answer, found, number)
                    for name, answer in zip(_ANSWERS, answers_of(pair), strict=False)
                ]
                if found.chosen == found.rejected:
                    self._identical(pair, left)
            for name in _answers(pair):
                self._answered += 1
                self._end(pair, name, getattr(found, name))
            self._special(pair)

    def _add(self, kind: str, pair: Pair, what: str, before: str, after: str) -> None:
        place = f"at {place_of(self.source, pair.line)}"
        self._seen.setdefault(kind, Tally()).add(f"{what} {place}" if what else place, before, after)

    def _prompt(self, pair: Pair, prompt: str) -> None:
        for message in messages_of(pair):
            text, role = message["content"], message["role"]
            is_dropped = role == "system" and self.frame.drops_system
            if text and (is_dropped or (text not in prompt and not self._respaced(pair, f"{role} text", text, prompt))):
                kind = role if role in ("system", "user") else "turn"
                self._add(kind, pair, "" if kind != "turn" else f"the {role} text", shown(text), shown(prompt))
            for name in _calls_of(message):
                if name not in prompt:
                    self._add("call", pair, "", shown(name), shown(prompt))
        tools = tools_of(pair)
        if tools and not all(function_of(tool)["name"] in prompt for tool in tools):
            self._add("tools", pair, "", ", ".join(str(function_of(tool)["name"]) for tool in tools), shown(prompt))

    def _respaced(self, pair: Pair, what: str, text: str, found: str, after: str | None = None) -> bool:
        """Whether ``found`` has the same ``text`` with other white space."""
        if _squeezed(text) not in _squeezed(found):
            return False
        self._add("space", pair, f"the {what}", shown(text), shown(text.strip() if after is None else after))
        return True

    def _answer(self, pair: Pair, name: str, messages: Messages, texts: Texts, number: int) -> str:
        """What is left of the answer ``name``."""
        whole, prompt, frame = getattr(texts, name), texts.prompt, self.frame
        if not whole.startswith(prompt) and number not in self.differing:
            self.differing.add(number)
            at = shared(prompt, whole)
            self._add("begin", pair, "", shown(prompt[max(0, at - 30) :]), shown(whole[max(0, at - 30) : at + 30]))
        body = prompt.removesuffix(frame.begin)
        region = whole[len(body) if whole.startswith(body) else shared(body, whole) :]
        left = region.removeprefix(frame.opening if region.startswith(frame.opening) else frame.begin).removesuffix(frame.closing)
        if self._is_opened and region.startswith(frame.opening):
            self._add("opening", pair, f"the {name} answer", shown(getattr(pair, name)), shown(region))
        for message in messages:
            text = None if len(messages) > 1 else left
            self._kept(pair, name, message, text, region, self._with_generation(prompt, whole))
        return left

    def _kept(self, pair: Pair, name: str, message: Message, left: str | None, region: str, wide: str) -> None:
        """Notes what of one message of the answer ``name`` is missing in the tokens. ``left``: its text there, None if it
        stands among others; ``region`` and ``wide``: with what the template writes around the answer.
        """
        answer = message["content"]
        for call in _calls_of(message):
            if call not in region:
                what = f"the chat template leaves out a tool call of the {name} answer"
                place, hint = place_of(self.source, pair.line), "use a model whose chat template takes tool calls"
                self.mistakes.append(Mistake(place, what, f"the call of {call} in the text", shown(region), hint))
        if answer in region or self._respaced(pair, f"{name} answer", answer, region, left):
            return
        if answer in wide or self._respaced(pair, f"{name} answer", answer, wide, wide.removesuffix(self.frame.closing)):
            return
        if left is not None:
            self._changed(pair, name, answer, left)
        else:
            kind = "reasoning" if _THOUGHT.search(answer) and not _THOUGHT.search(region) else "answer"
            self._kept_by = self._kept_by or self._setting_that_keeps(pair, answer)
            self._add(kind, pair, f"the {name} answer", shown(answer), shown(region))

    def _with_generation(self, prompt: str, whole: str) -> str:
        """The end of ``whole`` from what begins an answer in the prompt: it may be a part of the answer, such as ``<think>``."""
        body = prompt.removesuffix(self.frame.generation)
        return whole[len(body) :] if whole.startswith(body) else ""

    def _changed(self, pair: Pair, name: str, answer: str, left: str) -> None:
        if not left.strip():
            what = f"the chat template leaves nothing of the {name} answer"
            found = f"{shown(answer)} → {shown(left)}"
            self.mistakes.append(Mistake(place_of(self.source, pair.line), what, "text that the template keeps", found))
            return
        kind = "answer"
        if _squeezed(left) in _squeezed(answer):
            kind = "reasoning" if _THOUGHT.search(answer) and not _THOUGHT.search(left) else "part"
            self._kept_by = self._kept_by or self._setting_that_keeps(pair, answer)
        self._add(kind, pair, f"the {name} answer", shown(answer), shown(left))

    def _setting_that_keeps(self, pair: Pair, answer: str) -> str:
        conversation: list[Message] = [*messages_of(pair), {"role": "assistant", "content": answer}]
        for name in sorted(self.template.variables & {"enable_thinking", "thinking_mode"}):
            for value in (True, False):
                text = self.template.text(conversation, tools=tools_of(pair), **{name: value})
                if text is not None and _squeezed(answer) in _squeezed(text):
                    return f"hyperparameters.{name}: {str(value).lower()} keeps it"
        return "no setting of the template keeps it"

    def _identical(self, pair: Pair, left: str) -> None:
        what = "the chat template makes both answers the same: the pair states no preference"
        found = f"{shown(pair.chosen)} and {shown(pair.rejected or '')} → {shown(left)}"
        place = place_of(self.source, pair.line)
        self.mistakes.append(Mistake(place, what, "different answers", found, "change or delete the row"))

    def _end(self, pair: Pair, name: str, whole: str) -> None:
        """Notes a missing end token, or one in the cell besides the template's."""
        cell, text, ends = getattr(pair, name).rstrip(), whole.rstrip(), self._ends
        if not text.endswith(ends) and not self.template.adds_eos:
            self._add("endless", pair, f"the {name} answer", shown(cell[-40:]), shown(whole[-40:]))
        elif cell.endswith(ends):
            is_twice = next((text.removesuffix(end) for end in ends if text.endswith(end)), "").rstrip().endswith(ends)
            kind = "twice" if is_twice else "cell's" if self.template.is_chat else "once"
            self._add(kind, pair, f"the {name} answer", shown(cell[-40:]), shown(whole[-40:]))

    def _special(self, pair: Pair) -> None:
        """Notes special tokens inside a cell, except an end token at the end of an answer."""
        for name in ("system", "user", *_ANSWERS):
            text = getattr(pair, name) or ""
            if not any(begin in text for begin in self._special_begins):  # most texts: much faster than the pattern
                continue
            found = self._special_token.search(text)
            if found is not None and (name not in _ANSWERS or text[found.end() :].strip()):
                self._add("special", pair, f"the {name} {'answer' if name in _ANSWERS else 'text'}", shown(text), repr(found[0]))

    @cached_property
    def _is_opened(self) -> bool:
        """Whether the template writes something between a prompt that is there to begin an answer, and the answer."""
        return self.template.begins_answer and not self.frame.begin and bool(self.frame.opening.strip())

    @cached_property
    def _specials(self) -> tuple[str, ...]:
        tokenizer: Any = self.template.tokenizer
        added = [str(one) for one in tokenizer.added_tokens_decoder.values() if one.special]
        return tuple(dict.fromkeys(one for one in [*tokenizer.all_special_tokens, *added] if one and not _THOUGHT.search(one)))

    @cached_property
    def _ends(self) -> tuple[str, ...]:
        """Tokens with which an answer may end: a model's end of a turn need not be its end of a text."""
        tokenizer = self.template.tokenizer
        return tuple(one for one in self._specials if one == tokenizer.eos_token or one != tokenizer.bos_token)

    @cached_property
    def _special_begins(self) -> frozenset[str]:
        return frozenset(one[:2] for one in self._specials)

    @cached_property
    def _special_token(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, sorted(self._specials, key=len, reverse=True))) or "(?!)")

    def sentences(self, pairs: int) -> Iterator[str]:
        """Sentences about the changes in ``pairs`` pairs."""
        for kind, tally in self._seen.items():
            every = (
                "texts" if kind in _OF_TEXTS else f"of {pairs:,} pairs" if kind in _OF_PAIRS else f"of {self._answered:,} answers"
            )
            some = f"{tally.count:,} {every}"
            said = _SENTENCES[kind].format(
                some=some, first=tally.first, kept=self._kept_by, eos=self.template.eos, frame=self.frame
            )
            yield f"{self.source}: {said}" if kind in _HARMLESS else Warned(f"{self.source}: {said}")


_OF_PAIRS: Final = frozenset({"system", "user", "begin", "tools"})
_OF_TEXTS: Final = frozenset({"space", "special", "turn", "call"})
_HARMLESS: Final = frozenset({"space", "opening", "once", "cell's", "special", "turn"})
_SENTENCES: Final = {
    "system": "the chat template leaves the system message out of the prompt in {some}, {first}; put it into user",
    "user": "the chat template changes the user's text in {some}, {first}",
    "turn": "the chat template changes earlier messages of the prompt in {some}, {first}",
    "call": "the chat template leaves tool calls out of the prompt in {some}, {first}",
    "tools": "the chat template leaves the tools out of the prompt in {some}, {first}",
    "begin": "in {some} the training text does not begin with the inference prompt, {first}",
    "opening": "the chat template writes {frame.opening!r} between the prompt and {some}: the model learns to write it, {first}",
    "space": "the chat template changes white space in {some}, {first}",
    "reasoning": "the chat template cuts the reasoning from {some} (it is not in the tokens; {kept}), {first}",
    "part": "the chat template cuts a part from {some} (it is not in the tokens; {kept}), {first}",
    "answer": "the chat template changes {some}, {first}",
    "endless": "{some} end without an end token: the model does not learn to stop, {first}",
    "twice": "{some} end with two end tokens, one of them in the cell; remove it there, {first}",
    "once": "{some} end with {eos!r} already: no second one is added, {first}",
    "cell's": "{some} end with the end token of their cell: the chat template adds none, {first}",
    "special": "{some} contain special tokens, which the tokenizer does not read as text, {first}",
}


def _calls_of(message: Message) -> list[str]:
    """The names of the tools that ``message`` calls."""
    return [str(function_of(call)["name"]) for call in message.get("tool_calls", ())]


def _squeezed(text: str) -> str:
    return "".join(text.split())
