"""A conversation with the base model and the trained one, each with its own history."""

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
    """The models that answer, in order: base, trained. An untrained model is one side."""
    if loaded.target.run is None and loaded.target.adapter is None:
        return (MODEL,)
    base = (BASE,) if with_base and loaded.has_base else ()
    return (*base, TRAINED)


class Conversation:
    """The models, their histories, and how they answer."""

    def __init__(self, loaded: Loaded, prompted: Prompted, wish: Wish, sides: Sequence[str]):
        self.sides = tuple(sides)
        self._loaded, self._prompted, self._wish = loaded, prompted, wish
        self._turns: dict[str, list[tuple[str, str]]] = {side: [] for side in sides}
        self._asked = 0

    def reset(self) -> None:
        """Clears the history."""
        for turns in self._turns.values():
            turns.clear()

    def ask(
        self, text: str, told: Told = lambda side, piece: None, stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, Answer]:
        """Each model's answer to ``text``. ``told`` receives (model, piece of text) while it is generated.

        When ``stopped`` becomes true, the current answer ends and is kept in the history; the remaining models do not answer.
        Raises UsageError if a model has no position left, DataError if the chat template rejects the conversation; then the
        history is unchanged.
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
        """The options, with at most as many tokens as the model has positions left."""
        limit = positions(self._loaded)
        if limit is None:
            return self._wish
        if length >= limit:
            raise UsageError(f"no room for an answer: the conversation has {length:,} tokens, and the model reads {limit:,}")
        return replace(self._wish, most=min(self._wish.most, limit - length))


def on(loaded: Loaded, side: str) -> AbstractContextManager[None]:
    """Makes the model ``side`` during the block. The base side is what training began with, as in a run's samples."""
    return loaded.started() if side == BASE else nullcontext()


def positions(loaded: Loaded) -> int | None:
    """The model's maximum number of tokens; None if unknown."""
    limit = getattr(loaded.causal.config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else None
