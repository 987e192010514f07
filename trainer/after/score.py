"""The rewards of new pairs under a run's weights, for ``launcher score``.

    python -m trainer.after.score RUN FILE

RUN is the run's folder, FILE a CSV file with the columns of its data. The answer is {"pairs": […], "learned": {…},
"notices": […]}, the pairs as in ``evaluation/pairs.jsonl``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from launcher.data.pairs import read_other
from launcher.data.prompt import kept_prompt
from launcher.errors import LauncherError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir

from ..output import stage
from ..processes.ranks.importing import quickly
from .exchange import Requests, serve


def main(requests: Requests) -> Mapping[str, Any]:
    folder, file = map(Path, sys.argv[1:3])
    with stage("importing torch and transformers", after=0), quickly():
        from . import scoring  # noqa: F401 - what takes long is imported here
    return scored(RunDir(folder), file, Path(os.environ["DPO_CACHE_ROOT"]))


def scored(run: RunDir, file: Path, cache: Path) -> Mapping[str, Any]:
    """Rewards of the pairs in ``file`` under the run's weights. A relative model path is below the working directory."""
    from ..evaluation.ending import learned, rewarded
    from ..inputs.tokens.clock import FIELD
    from ..inputs.tokens.tokens import tokenize
    from ..step.loss.figures import rounded
    from .loaded import find
    from .scoring import Scorer

    experiment = Experiment.model_validate_json(run.experiment.read_text(encoding="utf-8"))
    if (prompt := kept_prompt(run)) is None:
        raise LauncherError(f"{run.prompt} not found: the run is older than `launcher score`")
    h, pairs = experiment.hyperparameters, read_other(experiment, file, prompt)
    weights = find(run.path, cache, masters=True, with_start=True)
    tokenizer, precision = weights.tokenizer, weights.precision
    day = h.template_date or run.read_record().get(FIELD)
    with stage(f"tokenizing {len(pairs.validation):,} pairs"):
        place: dict[str, Any] = {"cache": cache, "day": date.fromisoformat(day) if day else None, "system": pairs.system}
        tokens = tokenize(pairs.validation, tokenizer, h, source=str(file), **place)
    scorer = Scorer(run, weights)
    with stage(f"scoring {len(tokens.pairs):,} pairs") as progress:
        rewards = scorer.rewards(
            tokens.pairs, h.beta, tokenizer.pad_token_id, lambda done: progress.at(done, len(tokens.pairs), "pairs")
        )
    found = rewarded(tokens, rewards.tolist(), pairs.columns)
    noise = rounded(h.beta, half=precision.bf16 or precision.fp16)
    return {"pairs": [pair.json() for pair in found], "learned": learned(found, noise, None), "notices": list(_notices(h.trl))}


def _notices(settings: Mapping[str, Any]) -> list[str]:
    """Settings of the training under which its own rewards differ from these."""
    found = []
    if settings.get("sync_ref_model"):
        found.append("sync_ref_model: the rewards are against the base model, not against the reference that the training moved")
    if settings.get("ld_alpha") is not None:
        found.append("ld_alpha: the rewards are of whole answers, without the training's weights for the longer one's end")
    return found


if __name__ == "__main__":
    serve(main)
