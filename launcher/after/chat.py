"""``launcher chat``: a conversation with trained weights, and with their base model, in a process of the trainer."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

from ..backends.session import Session
from ..errors import LauncherError
from ..job.exchange import encoded
from ..planning.weights import uses
from .target import target
from .tool import Say, events, held, tell, tool


@dataclass(frozen=True)
class Wish:
    """Options of a conversation. ``base``: also ask the base model. ``temperature``: 0 is greedy. ``backend``: host, docker or
    None (choose).
    """

    base: bool
    max_tokens: int
    temperature: float
    backend: str | None = None

    def settings(self, **more: Any) -> str:
        """As JSON, for the trainer's process."""
        return json.dumps({"max_tokens": self.max_tokens, "temperature": self.temperature, "base": self.base, **more})


@dataclass(frozen=True)
class Answer:
    """``finish``: ``stop`` (end of text), ``length`` (token limit reached) or ``stopped`` (Ctrl-C)."""

    text: str
    tokens: int
    finish: str

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Ready:
    """The models that answer, in order, and their device. ``notices`` start with ``warning:`` or ``notice:``."""

    name: str
    sides: tuple[str, ...]
    device: str
    notices: tuple[str, ...]


class Refused(LauncherError):
    """A message that cannot be answered. The conversation goes on without it."""


class Chat:
    """An open conversation. Each model has its own history: the user's messages and its own answers."""

    def __init__(self, session: Session, say: Say, ready: Ready):
        self._session, self._say, self.ready = session, say, ready

    def ask(self, text: str, on_piece: Callable[[str, str], None], *, alone: bool = False) -> Mapping[str, Answer]:
        """The answer of each model, by its name. ``on_piece`` receives (model, piece of text) while it is generated. ``alone``:
        ignore earlier turns.

        The first Ctrl-C ends the answer, a second one stops waiting for it. Raises Refused, and LauncherError if the process
        ends.
        """
        with self._stopping():
            self._session.send(encoded({"ask": text, "alone": alone}))
            for event in self._events():
                if "side" in event:
                    on_piece(event["side"], event["text"])
                elif "refused" in event:
                    raise Refused(event["refused"])
                elif "turn" in event:
                    return {side: Answer(**answer) for side, answer in event["turn"].items()}
        raise LauncherError("the conversation ended without an answer")

    def reset(self) -> None:
        """Clears the history."""
        self._session.send(encoded({"reset": True}))

    def _events(self) -> Iterator[dict[str, Any]]:
        return events(self._session, self._say, "the conversation ended")

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        before = signal.getsignal(signal.SIGINT)
        was_asked = False

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal was_asked
            if was_asked:
                raise KeyboardInterrupt
            was_asked = True
            self._session.send(encoded({"stop": True}))

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def open_chat(name: str, wish: Wish, say: Say) -> Iterator[Chat]:
    """Opens a conversation with the weights that ``name`` means. ``say``: receives progress lines.

    Raises UsageError if ``name`` means no weights, MemoryShortage if they do not fit, and the errors of the process.
    """
    found = target(name)
    place = tool(found, wish.backend, "chat", say)
    weights = held(place)
    if weights is not None:
        planned = uses.chat(weights, wish.max_tokens, 1 + (wish.base and found.adapter is not None))
        planned.check()
        tell(planned, say)
    with place.open("chat", [wish.settings()]) as session:
        for event in events(session, say, f"cannot talk to {found.name}"):
            if "ready" in event:
                ready = event["ready"]
                notices = list(ready["notices"])
                if wish.base and not ready["has_base"] and found.run is not None:
                    what = f"notice: {found.name} has full weights, without the base model"
                    notices.append(f"{what}. Talk to that with: launcher chat {found.base}")
                device = "the GPU" if ready["device"].startswith("cuda") else "the CPU"
                yield Chat(session, say, Ready(found.name, tuple(ready["sides"]), device, tuple(notices)))
                return
