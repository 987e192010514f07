"""Conversation: several turns with the base model and with the trained one, each with a history of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from launcher.errors import UsageError

from ..evaluation.generation import Answer, Wish, generate
from .loaded import Loaded
from .prompted import Prompted

Told = Callable[[str, str], None]
BASE, TRAINED, MODEL = "base", "trained", "model"


def sides_of(loaded: Loaded, *, with_base: bool) -> tuple[str, ...]:
    """Who answers, in order: base and trained; a model that nobody trained here is one side."""
    if loaded.target.run is None and loaded.target.adapter is None:
        return (MODEL,)
    base = (BASE,) if with_base and loaded.has_base else ()
    return (*base, TRAINED)


class Conversation:
    """The sides of one model, their histories, and how they answer."""

    def __init__(self, loaded: Loaded, prompted: Prompted, wish: Wish, sides: Sequence[str]):
        self.sides = tuple(sides)
        self._loaded, self._prompted, self._wish = loaded, prompted, wish
        self._turns: dict[str, list[tuple[str, str]]] = {side: [] for side in sides}
        self._asked = 0

    def reset(self) -> None:
        """Forgets all turns."""
        for turns in self._turns.values():
            turns.clear()

    def ask(
        self, text: str, told: Told = lambda side, piece: None, stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, Answer]:
        """Each side's answer to ``text``; ``told`` gets (side, piece of its text) as it is generated.

        Once ``stopped`` is true, the answer in the making ends there and is remembered, and the sides after it do not answer.
        Raises UsageError where a side has no room left, DataError where the chat template refuses the conversation; nothing is
        remembered then.
        """
        user = ("user", self._prompted.prompt.message(text))
        prompts = {side: self._prompted.ids([*self._turns[side], user]) for side in self.sides}
        wishes = {side: self._fitting(len(ids)) for side, ids in prompts.items()}
        found: dict[str, Answer] = {}
        for side in self.sides:
            if stopped():
                break
            found[side] = self._answer(side, prompts[side], wishes[side], told, stopped)
            self._turns[side] += [user, ("assistant", found[side].text)]
        self._asked += 1
        return found

    def _answer(self, side: str, ids: list[int], wish: Wish, told: Told, stopped: Callable[[], bool]) -> Answer:
        loaded = self._loaded
        with loaded.autocast(), on(loaded, side):
            (found,) = generate(
                loaded.model,
                loaded.tokenizer,
                [ids],
                replace(wish, seed=wish.seed + self._asked),
                told=lambda piece: told(side, piece),
                stopped=stopped,
            )
        return found

    def _fitting(self, length: int) -> Wish:
        """The wish, with no more tokens than the model has positions for."""
        limit = positions(self._loaded)
        if limit is None:
            return self._wish
        if length >= limit:
            raise UsageError(f"no room for an answer: the conversation has {length:,} tokens, and the model reads {limit:,}")
        return replace(self._wish, most=min(self._wish.most, limit - length))


def on(loaded: Loaded, side: str) -> AbstractContextManager[None]:
    """The model is ``side`` for as long as this lasts; the base side is what the training began with, as in a run's samples."""
    return loaded.started() if side == BASE else nullcontext()


def positions(loaded: Loaded) -> int | None:
    """How many tokens the model reads at most; None where it does not tell."""
    limit = getattr(loaded.causal.config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else None
