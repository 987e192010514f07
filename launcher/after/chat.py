"""``launcher chat``: a conversation with a base model and with what was trained from it, in a process of the trainer."""

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
    """``base``: whether the base model answers, too; ``temperature`` 0 is greedy; ``backend``: host or docker, None chooses."""

    base: bool
    max_tokens: int
    temperature: float
    backend: str | None = None

    def settings(self, **more: Any) -> str:
        """For the process, as JSON."""
        return json.dumps({"max_tokens": self.max_tokens, "temperature": self.temperature, "base": self.base, **more})


@dataclass(frozen=True)
class Answer:
    """``finish``: stop, length (cut at the most tokens) or stopped."""

    text: str
    tokens: int
    finish: str

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Ready:
    """The models that answer, in order, and their device; ``notices`` are labelled."""

    name: str
    sides: tuple[str, ...]
    device: str
    notices: tuple[str, ...]


class Refused(LauncherError):
    """A message that has no answer; the conversation continues without it."""


class Chat:
    """An open conversation. Every side has a history of its own: what it was told, and what it answered itself."""

    def __init__(self, session: Session, say: Say, ready: Ready):
        self._session, self._say, self.ready = session, say, ready

    def ask(self, text: str, told: Callable[[str, str], None], *, alone: bool = False) -> Mapping[str, Answer]:
        """Every side's answer; ``told`` gets (side, piece of its text) as it is generated; ``alone``: without earlier turns.

        Ctrl-C ends the answer, and a second one the wait for it. Raises Refused, and LauncherError where the process ends.
        """
        with self._stopping():
            self._session.send(encoded({"ask": text, "alone": alone}))
            for event in self._events():
                if "side" in event:
                    told(event["side"], event["text"])
                elif "refused" in event:
                    raise Refused(event["refused"])
                elif "turn" in event:
                    return {side: Answer(**answer) for side, answer in event["turn"].items()}
        raise LauncherError("the conversation ended without an answer")

    def reset(self) -> None:
        """Forgets all turns."""
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
    """A conversation with what ``name`` means; ``say`` is told what takes a while.

    Raises UsageError where no weights are meant, MemoryShortage where they cannot fit, and what the process raises.
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
