"""Template: pairs -> text with special tokens, by the tokenizer's chat template or, without one, as plain text.

A template sees one clock (``clock.Clock``) and no random numbers: the same pairs give the same text on every rank and every day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from jinja2 import TemplateError
from jinja2.meta import find_undeclared_variables
from transformers.utils.chat_template_utils import _compile_jinja_template

from launcher.data.tables.table import place_of
from launcher.data.text.chat import Message
from launcher.data.text.pair import Pair
from launcher.errors import DataError, ExperimentError, Mistake
from launcher.experiment.sections.hyperparameters import Hyperparameters

from .clock import Clock

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Message]
Tools = Sequence[Mapping[str, Any]] | None

BATCH: Final = 256
# Whatever a template does with a conversation that it does not expect: Jinja's own errors, and Python's inside its expressions.
_FAILURES: Final = (TemplateError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
SYSTEM, USER, ANSWER = "Zqsystemqz", "Zquserqz", "Zqanswerqz"  # of the conversation that shows what a template does


class Texts(NamedTuple):
    """One pair as text: the prompt, the prompt with the chosen answer, and with the rejected one, where it has one."""

    prompt: str
    chosen: str
    rejected: str | None


class Template:
    """Turns the messages of a pair into text; ``system`` is the place of the system message, for mistakes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, hyper: Hyperparameters, clock: Clock, *, system: str | None = None):
        self.tokenizer = tokenizer
        self.clock = clock
        self.is_chat = tokenizer.chat_template is not None
        self.options = template_options(hyper)
        self.begins_answer = hyper.add_generation_prompt is not False
        self._system = system or "system"
        self.eos = tokenizer.eos_token if isinstance(tokenizer.eos_token, str) else ""
        self.adds_eos = not self.is_chat and bool(self.eos) and self._ends_by_itself()

    @property
    def variables(self) -> frozenset[str]:
        """The variables that the chat template uses; none without a template."""
        if not self.is_chat:
            return frozenset()
        source = self.tokenizer.get_chat_template()
        return frozenset(find_undeclared_variables(_compile_jinja_template(source).environment.parse(source)))

    def texts(self, pairs: Sequence[Pair], source: str) -> list[Texts]:
        """The text of every pair, with all special tokens that are not the tokenizer's own.

        Raises ExperimentError if the template takes no system message or no conversation at all, or if there is none and
        plain text cannot hold the messages, and DataError at the row of ``source`` that it refuses.
        """
        if not self.is_chat:
            self._check_plain(pairs, source)
            return [self._plain(pair) for pair in pairs]
        found: list[Texts] = []
        mistakes: list[Mistake] = []
        with self._determined():
            for batch in _batches(pairs):
                try:
                    found += self._rendered(batch)
                except _FAILURES:
                    mistakes += self._refused(batch, source)
        if mistakes:
            raise DataError(mistakes)
        return found

    def text(self, messages: Messages, *, begins_answer: bool = False, tools: Tools = None, **options: Any) -> str | None:
        """One conversation as text, None if the template refuses it; ``options`` replace the experiment's."""
        with self._determined():
            try:
                return self._apply([messages], begins_answer, tools, **{**self.options, **options})[0]
            except _FAILURES:
                return None

    def plain(self, messages: Messages) -> str:
        """The text of ``messages`` without a chat template: paragraphs, with an end-of-text token after an answer."""
        return "".join(f"{one['content']}{self.eos if one['role'] == 'assistant' else ''}\n\n" for one in messages)

    def _plain(self, pair: Pair) -> Texts:
        """The text without a chat template; an answer ends with one end-of-text token, as TRL has it."""
        prompt = self.plain(messages_of(pair))
        rejected = None if pair.rejected is None else prompt + self._ended(pair.rejected)
        return Texts(prompt, prompt + self._ended(pair.chosen), rejected)

    def _check_plain(self, pairs: Sequence[Pair], source: str) -> None:
        pair = next((pair for pair in pairs if pair.chat is not None and pair.chat.needs_template), None)
        if pair is not None:
            what = "the tokenizer has no chat template, and tool calls and answers of several messages need one"
            place, hint = place_of(source, pair.line), "use a model that was tuned for chat"
            raise ExperimentError(Mistake("model_name", what, "a model with a chat template", f"first at {place}", hint))

    def _ended(self, answer: str) -> str:
        if self.adds_eos:
            while answer.endswith(self.eos):
                answer = answer.removesuffix(self.eos)
            return answer
        return answer if self.eos and answer.endswith(self.eos) else answer + self.eos

    def _ends_by_itself(self) -> bool:
        """Whether the tokenizer appends an end-of-text token to every text."""
        ids = self.tokenizer("a")["input_ids"]
        return bool(ids) and ids[-1] == self.tokenizer.eos_token_id

    def _rendered(self, pairs: Sequence[Pair]) -> list[Texts]:
        """The texts of ``pairs``, which may all call the same tools."""
        tools = tools_of(pairs[0])
        prompts = [messages_of(pair) for pair in pairs]
        begun = self._apply(prompts, self.begins_answer, tools, **self.options)
        answers = [answers_of(pair) for pair in pairs]
        chosen, rejected = (
            self._apply([[*m, *a[place]] for m, a in zip(prompts, answers, strict=True)], False, tools, **self.options)
            if len(answers[0]) > place
            else None
            for place in range(2)
        )
        assert chosen is not None, "every pair has a chosen answer"
        return [Texts(*three) for three in zip(begun, chosen, rejected or [None] * len(pairs), strict=True)]

    def _apply(self, conversations: Sequence[Messages], begins_answer: bool, tools: Tools, **options: Any) -> list[str]:
        made: Any = self.tokenizer.apply_chat_template(
            [list(messages) for messages in conversations],  # type: ignore[arg-type]
            tools=None if tools is None else list(tools),  # type: ignore[arg-type]
            tokenize=False,
            add_generation_prompt=begins_answer,
            **options,
        )
        return [str(one) for one in made]

    @contextmanager
    def _determined(self) -> Iterator[None]:
        """The template's environment with our clock, and without random numbers."""
        try:
            environment: Any = _compile_jinja_template(self.tokenizer.get_chat_template()).environment
        except (TemplateError, ValueError) as error:  # its syntax, or several templates and none called default
            raise ExperimentError(broken(_said(error))) from None
        names, filters = dict(environment.globals), dict(environment.filters)
        environment.globals |= {"strftime_now": self.clock.strftime_now, "lipsum": _random}
        environment.filters["random"] = _random
        try:
            yield
        finally:
            environment.globals.update(names)
            environment.filters.update(filters)

    def _refused(self, pairs: Sequence[Pair], source: str) -> Iterator[Mistake]:
        """A mistake for each pair that the template refuses; raises ExperimentError if it takes no system text, or no pair."""
        for pair in pairs:
            error = self._failure(pair)
            if error is None:
                continue
            own = pair.chat.prompt[0]["content"] if pair.chat is not None and pair.chat.has_system else None
            without = _without_system(pair)
            if pair.system and self._failure(without) is None:
                raise ExperimentError(
                    Mistake(
                        self._system,
                        "the model's chat template takes no system message",
                        expected="no system message",
                        found=f"{shown(pair.system)} (the template's error: {_said(error)})",
                        hint="leave system empty, or put its text into user",
                    )
                )
            if self._failure(Pair(None, USER, ANSWER, ANSWER, 0)) is not None:
                raise ExperimentError(broken(_said(error)))
            if own is not None and self._failure(without) is None:
                what, found = "the model's chat template takes no system message", shown(str(own))
                hint = "write its text into the prompt, or leave it out"
            else:
                what, found, hint = "the model's chat template refuses this pair", shown(pair.user), None
            yield Mistake(place_of(source, pair.line), what, found=f"{found} (the template's error: {_said(error)})", hint=hint)

    def _failure(self, pair: Pair) -> Exception | None:
        try:
            self._rendered([pair])
        except _FAILURES as error:
            return error
        return None


def messages_of(pair: Pair) -> list[Message]:
    """The messages of the prompt; an empty system message is left out."""
    system = [{"role": "system", "content": pair.system}] if pair.system else []
    return [*system, *(({"role": "user", "content": pair.user},) if pair.chat is None else pair.chat.prompt)]


def answers_of(pair: Pair) -> list[Messages]:
    """The messages of each answer, the chosen one first."""
    if pair.chat is not None:
        return list(pair.chat.answers)
    return [({"role": "assistant", "content": text},) for text in (pair.chosen, pair.rejected) if text is not None]


def tools_of(pair: Pair) -> Tools:
    return None if pair.chat is None else pair.chat.tools


def _batches(pairs: Sequence[Pair]) -> Iterator[Sequence[Pair]]:
    """``pairs`` in their order, each batch with the same tools."""
    start = 0
    for _, same in groupby(pairs, key=tools_of):
        end = start + sum(1 for _ in same)
        for begin in range(start, end, BATCH):
            yield pairs[begin : min(begin + BATCH, end)]
        start = end


def _without_system(pair: Pair) -> Pair:
    chat = pair.chat
    if chat is not None and chat.has_system:
        chat = replace(chat, prompt=chat.prompt[1:])
    return replace(pair, system=None, chat=chat)


def template_options(hyper: Hyperparameters) -> dict[str, Any]:
    """What the experiment passes to the chat template."""
    options = {"enable_thinking": hyper.enable_thinking, "thinking_mode": hyper.thinking_mode}
    return {name: value for name, value in options.items() if value is not None}


def shown(text: str, most: int = 60) -> str:
    """``text`` in quotes with visible white space, and without its middle if it is long."""
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most // 2) :]}"
    return repr(text)


def _random(*args: Any, **kwargs: Any) -> NoReturn:
    raise TemplateError("it draws random numbers, and every run and rank would train on other tokens")


def broken(found: str) -> Mistake:
    return Mistake(
        "model_name",
        "the model's chat template cannot be used",
        expected="a template that takes a user message and an answer",
        found=found,
        hint="use a model with another chat template, or fix the template in the tokenizer's folder",
    )


def _said(error: Exception) -> str:
    """The error in one line: Jinja's text, or Python's with its type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, TemplateError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
