"""Turns messages into token ids, with a run's template, system text, thinking settings and date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from launcher.data.prompt import ALONE, Prompt, kept_prompt
from launcher.errors import DataError, Mistake, Warned

from ..inputs.tokens.clock import FIELD, Clock, today
from ..inputs.tokens.template import Messages, Template, Tools
from .loaded import Found


@dataclass(frozen=True)
class Prompted:
    """``prompt``: the prompt of the run's data; without a run the message alone."""

    template: Template
    prompt: Prompt
    notices: tuple[str, ...]

    @classmethod
    def of(cls, found: Found) -> Prompted:
        h, run = found.experiment.hyperparameters, found.target.run
        day = h.template_date or (run.read_record().get(FIELD) if run is not None else None)
        kept = None if run is None else kept_prompt(run)
        notices: tuple[str, ...] = ()
        if run is not None and kept is None:
            notices = (Warned(f"{run.prompt} not found: no system message, and messages are sent as typed"),)
        prompt = kept or ALONE
        clock = Clock(date.fromisoformat(day) if day else today())
        template = Template(found.tokenizer, h, clock, system=prompt.place)
        return cls(template, prompt, notices)

    def ids(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        """Tokens of a conversation: (role, text), ending with the user's message, with the system text in front.

        Raises DataError if the chat template rejects it.
        """
        return self.ids_of([{"role": role, "content": text} for role, text in turns])

    def ids_of(self, messages: Messages, tools: Tools = None) -> list[int]:
        """The same for ``messages``; their own system message replaces the run's. ``tools``: tools that the answer may call."""
        has_own = not self.prompt.system or messages[0]["role"] == "system"
        whole = messages if has_own else [{"role": "system", "content": self.prompt.system}, *messages]
        text = self._text(whole, tools)
        if text is None:
            found = f"{messages[-1]['content']!r}"
            raise DataError(Mistake("the conversation", "the model's chat template refuses it", found=found))
        template = self.template
        ids: list[int] = template.tokenizer(text, add_special_tokens=not template.is_chat)["input_ids"]
        return list(ids[:-1] if template.adds_eos else ids)

    def _text(self, messages: Messages, tools: Tools) -> str | None:
        if self.template.is_chat:
            return self.template.text(messages, begins_answer=self.template.begins_answer, tools=tools)
        return self.template.plain(messages)
