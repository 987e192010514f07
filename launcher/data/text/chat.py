"""The messages of one pair, for a chat template and as readable text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

Message = Mapping[str, Any]  # role and content, both text; where it has them tool_calls, name, reasoning_content …
Messages = tuple[Message, ...]

_PLAIN: Final = {"role", "content"}
_REASONING: Final = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True)
class Chat:
    """``prompt`` ends with a message of user or tool, an answer begins and ends with one of the assistant.

    ``tools``: what the assistant may call, as JSON schemas.
    """

    prompt: Messages
    chosen: Messages
    rejected: Messages | None
    tools: tuple[Mapping[str, Any], ...] | None = None

    @classmethod
    def parsed(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of ``json``."""
        parts = {name: None if data.get(name) is None else tuple(data[name]) for name in ("rejected", "tools")}
        return cls(tuple(data["prompt"]), tuple(data["chosen"]), **parts)

    def json(self) -> dict[str, Any]:
        parts = {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected, "tools": self.tools}
        return {name: [dict(one) for one in part] for name, part in parts.items() if part is not None}

    @property
    def answers(self) -> tuple[Messages, ...]:
        return (self.chosen,) if self.rejected is None else (self.chosen, self.rejected)

    @property
    def is_plain(self) -> bool:
        """Whether it is one user message with an answer, or two, of one message each."""
        return not self.tools and is_text(self.prompt, "user") and all(is_text(one, "assistant") for one in self.answers)

    @property
    def needs_template(self) -> bool:
        """Whether it is more than texts in turns: tools, calls, or answers of several messages."""
        messages = [one for part in (self.prompt, *self.answers) for one in part]
        is_more = any(one["role"] == "tool" or "tool_calls" in one for one in messages)
        return bool(self.tools) or is_more or any(len(answer) > 1 for answer in self.answers)

    @property
    def has_system(self) -> bool:
        return bool(self.prompt) and self.prompt[0]["role"] == "system"

    @property
    def user(self) -> str:
        """The prompt as readable text."""
        return written(self.prompt, "user")

    @staticmethod
    def answer(messages: Messages) -> str:
        """An answer as readable text."""
        return written(messages, "assistant")


def is_text(messages: Sequence[Message], role: str) -> bool:
    """Whether ``messages`` is one message of ``role`` with only text."""
    return len(messages) == 1 and messages[0]["role"] == role and messages[0].keys() == _PLAIN


def written(messages: Sequence[Message], alone: str) -> str:
    """``messages`` as readable text, each after its role; only the text if it is one message of the role ``alone``."""
    if is_text(messages, alone):
        return str(messages[0]["content"])
    return "\n\n".join(f"{one['role']}: {body(one)}" for one in messages)


def turns(text: str) -> list[str]:
    """The reverse of ``written``: messages with their roles; a text alone is one. The first message may be cut."""
    return re.split(r"\n\n(?=(?:system|developer|user|assistant|tool|function): )", text)


def body(message: Message) -> str:
    """Reasoning, text and calls of one message."""
    reasoning = [f"({name}) {message[name]}" for name in _REASONING if isinstance(message.get(name), str) and message[name]]
    calls = [f"→ {called(call)}" for call in message.get("tool_calls", ())]
    return "\n".join([*reasoning, *([message["content"]] if message["content"] else []), *calls])


def called(call: Mapping[str, Any]) -> str:
    """A call as readable text, such as ``weather({"city": "Bern"})``."""
    function = function_of(call)
    arguments = function.get("arguments")
    return f"{function['name']}({'' if arguments is None else json.dumps(arguments, ensure_ascii=False)})"


def function_of(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """{"name", "arguments"} of a call, which may be wrapped as OpenAI wraps it."""
    function: Mapping[str, Any] = call.get("function") or call
    return function
