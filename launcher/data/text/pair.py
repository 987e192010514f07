"""Pair: a prompt with its answers as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .chat import Chat


@dataclass(frozen=True)
class Pair:
    """One preference as text, before any chat template; ``line`` is where its row begins in the file or worksheet.

    ``rejected`` is None if only the chosen answer is learned (``method: sft``). ``chat`` has the messages of a pair that is
    more than a user message with plain answers; the texts then are its messages as a person reads them, and ``system`` is that of
    the prompt table, which comes before them.
    """

    system: str | None
    user: str
    chosen: str
    rejected: str | None
    line: int
    chat: Chat | None = field(default=None, hash=False)

    @property
    def has_system(self) -> bool:
        return bool(self.system) or (self.chat is not None and self.chat.has_system)

    @property
    def question(self) -> str:
        """The identity of a prompt: its text, and the tools that the answer may call."""
        if self.chat is None or not self.chat.tools:
            return self.user
        return f"{self.user}\n{json.dumps(self.chat.tools, sort_keys=True, default=str)}"

    @classmethod
    def of_chat(cls, system: str | None, chat: Chat, line: int) -> Self:
        """A pair of messages; one user message with plain answers is a pair of texts."""
        rejected = None if chat.rejected is None else chat.answer(chat.rejected)
        return cls(system, chat.user, chat.answer(chat.chosen), rejected, line, None if chat.is_plain else chat)

    @classmethod
    def parsed(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of ``json``."""
        texts = {name: data[name] for name in ("system", "user", "chosen", "rejected", "line")}
        return cls(**texts, chat=Chat.parsed(data["messages"]) if "messages" in data else None)

    def json(self) -> dict[str, Any]:
        """The texts and, of a conversation, also its messages."""
        texts = {"system": self.system, "user": self.user, "chosen": self.chosen, "rejected": self.rejected, "line": self.line}
        return texts if self.chat is None else {**texts, "messages": self.chat.json()}
