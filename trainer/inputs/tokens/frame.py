"""What a chat template writes around texts, found once with a conversation of three words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from launcher.errors import ExperimentError, Warned

from .template import ANSWER, SYSTEM, USER, Template, broken, shown

_SYSTEM: Final = {"role": "system", "content": SYSTEM}
_ADDRESS: Final = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")
_USER: Final = {"role": "user", "content": USER}


@dataclass(frozen=True)
class Frame:
    """An answer stands between ``opening`` and ``closing``, which follow the prompt without its end ``begin``.

    ``begin`` is empty where the prompt begins the whole conversation, as it should. ``generation``: what begins an answer at the
    end of a prompt; ``bare``: a prompt without it; ``system``: the system text that the template writes where there is none.
    """

    begin: str = ""
    generation: str = ""
    opening: str = ""
    closing: str = ""
    bare: str = ""
    drops_system: bool = False
    system: str = ""

    @classmethod
    def of(cls, template: Template) -> Frame:
        """Raises ExperimentError if the template leaves out the user's text or the answer."""
        if not template.is_chat:
            return cls()
        prompt = [_USER] if template.text([_USER]) is not None else [_SYSTEM, _USER]
        bare, begun = template.text(prompt), template.text(prompt, begins_answer=template.begins_answer)
        whole = template.text([*prompt, {"role": "assistant", "content": ANSWER}])
        if bare is None or whole is None or begun is None:
            return cls()
        for what, found, text in (("the user's text", USER, begun), ("the answer", ANSWER, whole)):
            if not _holds(text, found):
                raise ExperimentError(broken(f"it leaves out {what}: {shown(text)}"))
        if address := _ADDRESS.search(whole):
            raise ExperimentError(broken(f"it writes an object's memory address, which differs in every process: {address[0]}"))
        # Where the prompt begins the whole, the answer follows it; else what they share is the prompt without its end.
        body = begun if whole.startswith(begun) else bare if begun.startswith(bare) else begun[: shared(begun, whole)]
        opening, kept, closing = whole[shared(body, whole) :].rpartition(ANSWER)
        given = template.text([_SYSTEM, _USER]) or SYSTEM
        own = "" if _SYSTEM in prompt else _own_system(bare, given)
        generation = begun.removeprefix(bare) if begun.startswith(bare) else ""
        return cls(
            begun[len(body) :], generation, opening if kept else "", closing if kept else "", bare, not _holds(given, SYSTEM), own
        )

    def notices(self, template: Template, *, has_system: bool) -> Iterator[str]:
        """Notices that do not depend on the data: the template's own system message, one BOS too many or too few."""
        if not template.is_chat:
            return
        if self.system and not has_system:
            yield f"the chat template adds its own system message: {shown(self.system, 120)}"
        yield from self._beginning(template.tokenizer)

    def _beginning(self, tokenizer: Any) -> Iterator[str]:
        bos = tokenizer.bos_token
        if not bos or not self.bare:
            return
        if self.bare.lstrip().removeprefix(bos).lstrip().startswith(bos):
            yield Warned(f"the chat template writes {bos!r} twice at the beginning: {shown(self.bare)}")
        ids = tokenizer("a")["input_ids"]
        if bos not in self.bare and ids and ids[0] == tokenizer.bos_token_id:
            yield Warned(
                f"the chat template writes no {bos!r}, which the tokenizer puts before plain text, and none is added: "
                f"{shown(self.bare)}"
            )


def _own_system(bare: str, given: str) -> str:
    """The text that stands in ``bare``, a conversation without a system message, where it is in ``given``, one with it."""
    before, found, after = given.partition(SYSTEM)
    between = after.partition(USER)[0]
    if not found or not between or not bare.startswith(before) or between not in bare[len(before) :]:
        return ""
    own = bare[len(before) :].partition(between)[0].strip()
    return "" if USER in own else own


def _holds(text: str, word: str) -> bool:
    """Whether ``word`` is in ``text``, in whatever case."""
    return word.casefold() in text.casefold()


def shared(a: str, b: str) -> int:
    """How many characters at the beginning of both are equal."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low
