"""Finds training pairs that look mislabelled, in a pass with the saved weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from launcher.data.text.pair import Pair
from launcher.runs.learned.json_lines import written
from launcher.runs.learned.suspects import FILE, Suspect, count, cut, ranked, scores
from launcher.runs.run_dir import RunDir
from launcher.runs.whole import write_whole

from ..output import stage
from ..step.dpo import DPOTrainer
from .rewards import pair_rewards

LEAST: Final = 20  # pairs: fewer have no median worth the name
FEW: Final = 5000  # pairs that are looked at whatever that costs beside the training
SHARE: Final = 0.3  # of the pairs that were trained on: a pass without gradients over them costs a tenth of their training


def look(trainer: DPOTrainer, run: RunDir, pairs: Sequence[Pair]) -> dict[str, Any]:
    """``{"suspects": n, "looked_at": pairs}`` for the run's record, and ``evaluation/suspects.jsonl``; all ranks must call this.

    ``pairs``: the training pairs as text. Of many pairs an even sample is looked at, so that the pass costs at most about a tenth
    of the training; of a training that saw few, as many as it saw.
    """
    places = sample(len(pairs), round((trainer.state.epoch or 0.0) * len(pairs)))
    if len(places) < LEAST:
        return {"suspects": 0, "looked_at": 0}
    with stage("looking for training pairs with swapped answers") as progress:
        found = pair_rewards(trainer, train=True, places=places, tell=lambda done: progress.at(done, len(places), "pairs"))
    margins = (found[:, 0] - found[:, 1]).tolist()
    if trainer.args.should_save:
        run.evaluation.mkdir(exist_ok=True)
        write_whole(run.evaluation / FILE, written(_suspects(margins, pairs, places)))
    return {"suspects": count(margins, trainer.noise), "looked_at": len(places)}


def sample(pairs: int, trained: int) -> list[int]:
    """Places of the pairs to look at, evenly spaced; ``trained``: pairs that the steps have seen, some more than once."""
    most = min(trained, max(FEW, round(SHARE * trained)))
    return list(range(pairs)) if pairs <= most else [place * pairs // most for place in range(most)]


def _suspects(margins: Sequence[float], pairs: Sequence[Pair], places: Sequence[int]) -> list[Suspect]:
    """``margins``: of the pairs at ``places``."""
    distances, order = scores(margins), ranked(margins)
    texts = {number: pairs[places[number]] for number in sorted(order)}  # in ascending order: one pass over a large table
    return [
        Suspect(
            row=texts[number].line,
            margin=round(margins[number], 6),
            score=round(distances[number], 3),
            prompt=cut(texts[number].user, keeps_end=texts[number].chat is not None),
            chosen=cut(texts[number].chosen),
            rejected=cut(texts[number].rejected),
        )
        for number in order
    ]
