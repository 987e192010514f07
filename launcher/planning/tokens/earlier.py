"""Tokens as an earlier run of the same data counted them: exact numbers, where one is found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from ...data.pairs import Pairs
from ...experiment.schema import Experiment
from ...runs.finding import newest_first, output_dirs, remembered
from .work import Work, work_at_most

# What the tokens of a pair depend on, beside model and data.
_TOKENS: Final = ("max_seq_length", "enable_thinking", "thinking_mode", "add_generation_prompt", "template_date")


def counted_work(experiment: Experiment, pairs: Pairs) -> Work:
    """The work of ``pairs``: exact where an earlier run has counted their tokens, else upper bounds."""
    most = work_at_most(pairs.train, experiment.hyperparameters.max_seq_length, experiment.global_batch)
    most = replace(most, held_out=len(pairs.validation))
    mine = _hashes([asdict(source) for source in pairs.sources])
    for run in newest_first(output_dirs(Path()), remembered(Path())):
        record = run.read_record()
        work, data = record.get("work"), record.get("data")
        if not isinstance(work, dict) or not isinstance(data, list) or _hashes(data) != mine:
            continue
        if work.get("pairs") != most.pairs or not _same_tokens(experiment, run.experiment):
            continue
        return _of_record(work, most)
    return most


def _of_record(work: Mapping[str, Any], most: Work) -> Work:
    """What a run's record says of its tokens; an older version of this program recorded less, and ``most`` bounds the rest."""
    tokens, longest = int(work["tokens"]), int(work["longest"])
    packed = min(tokens, max(tokens // 2, round(tokens * most.packed / most.tokens)))
    lengths = [int(length) for length in work.get("longest_pairs") or [min(2 * longest, most.longest_pair)]]
    return replace(
        most,
        tokens=tokens,
        packed=int(work.get("packed", packed)),
        longest=longest,
        longest_pair=lengths[0],
        longest_pairs=tuple(lengths),
        answer_tokens=None if most.answer_tokens is None else int(work.get("answer_tokens", most.answer_tokens)),
        exact=True,
    )


def _hashes(sources: list[Any]) -> dict[str, str]:
    """Of what the tokens of an epoch are made: hashes, and the share that is held out of a table."""
    made = [source for source in sources if source.get("role") != "validation"]
    return {str(source.get("role")): f"{source.get('sha256')} {source.get('held_out')}" for source in made}


def _same_tokens(experiment: Experiment, file: Path) -> bool:
    """Whether the run whose experiment is in ``file`` made the same tokens of the same rows."""
    try:
        other = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    mine = experiment.model_dump(mode="json")
    names = ("model_name", "prompt_name", "dpo_column_mapping_config", "column_mapping_config")
    hyper = other.get("hyperparameters", {})
    if mine["method"] != other.get("method", "dpo"):
        return False
    return all(mine[name] == other.get(name) for name in names) and all(
        mine["hyperparameters"][name] == hyper.get(name) for name in _TOKENS
    )
