"""The sample prompts of an experiment as token ids: rows of its data, or its own texts."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from launcher.data.pairs import Pairs
from launcher.data.text.pair import Pair
from launcher.errors import ExperimentError, Mistake
from launcher.experiment.schema import Experiment

from ..inputs.tokens.clock import Clock
from ..inputs.tokens.template import Template

T = TypeVar("T")


@dataclass(frozen=True)
class SamplePrompt:
    """``text`` is the user message, ``row`` its line in the file; None for a text of the experiment."""

    text: str
    row: int | None
    ids: list[int]


def sample_prompts(experiment: Experiment, pairs: Pairs, tokenizer: Any, clock: Clock) -> list[SamplePrompt]:
    """Those that ``samples.prompts`` names; raises ExperimentError for a row that the file does not have."""
    chosen = _chosen(experiment, pairs)
    if not chosen:
        return []
    template = Template(tokenizer, experiment.hyperparameters, clock, system=pairs.system)
    texts = template.texts(chosen, "samples.prompts")
    found = tokenizer([text.prompt for text in texts], add_special_tokens=not template.is_chat)["input_ids"]
    ids = [one[:-1] if template.adds_eos else one for one in found]
    return [SamplePrompt(pair.user, pair.line or None, list(one)) for pair, one in zip(chosen, ids, strict=True)]


def _chosen(experiment: Experiment, pairs: Pairs) -> list[Pair]:
    """The prompts as pairs whose answers do not matter; those of texts have the line 0."""
    wanted = experiment.samples.prompts
    data = pairs.validation or pairs.train
    if isinstance(wanted, int):
        return [data[place] for place in spread(_distinct(data), wanted)]
    role = "validation" if pairs.validation else "train"
    name = next(source.name for source in pairs.sources if source.role == role)
    rows = {pair.line: pair for pair in data if pair.line in wanted}
    assert pairs.prompt is not None, "pairs were made with a prompt"
    found, mistakes = [], []
    for number, one in enumerate(wanted, start=1):
        if isinstance(one, str):
            found.append(Pair(pairs.prompt.system, pairs.prompt.message(one), "a", "b", 0))
        elif one in rows:
            found.append(rows[one])
        else:
            lines = [pair.line for pair in data]
            expected = f"a row from {min(lines)} to {max(lines)}"
            mistakes.append(Mistake(f"samples.prompts[{number}]", f"no pair begins in this row of {name}", expected, str(one)))
    if mistakes:
        raise ExperimentError(mistakes)
    return found


def _distinct(pairs: Sequence[Pair]) -> Sequence[int]:
    """The index of the first pair of every prompt."""
    seen, places = set[int](), array("q")
    for place, pair in enumerate(pairs):
        prompt = hash(pair.user)
        if prompt not in seen:
            seen.add(prompt)
            places.append(place)
    return places


def spread(some: Sequence[T], count: int) -> list[T]:
    """``count`` of them, evenly spaced from the first on; all of them if there are not as many."""
    return [some[place * len(some) // count] for place in range(count)] if count < len(some) else list(some)
