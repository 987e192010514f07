"""The final evaluation: rewards of every validation pair under the saved weights, and their summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launcher.runs.learned.json_lines import written
from launcher.runs.learned.pair_rewards import FILE, Group, PairReward, by_length
from launcher.runs.run_dir import RunDir
from launcher.runs.whole import write_whole

from ..inputs.tokens.tokens import Tokens
from ..output import stage
from ..step.dpo import DPOTrainer
from .rewards import pair_rewards


def evaluate(
    trainer: DPOTrainer, run: RunDir, held_out: Tokens, columns: Mapping[str, Sequence[str]], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """``learned`` of the run's record, and ``evaluation/pairs.jsonl``; all ranks must call this.

    ``columns``: of the validation rows. ``before``: the evaluation before the first step, where the run has one.
    """
    with stage("evaluating every validation pair") as progress:
        rewards = pair_rewards(trainer, train=False, tell=lambda done: progress.at(done, len(held_out.pairs), "pairs")).tolist()
    pairs = rewarded(held_out, rewards, columns)
    if trainer.args.should_save:
        run.evaluation.mkdir(exist_ok=True)
        write_whole(run.evaluation / FILE, written(pairs))
    return learned(pairs, trainer.noise, before)


def rewarded(tokens: Tokens, rewards: Sequence[Sequence[float]], columns: Mapping[str, Sequence[str]]) -> list[PairReward]:
    """The pairs with their ``rewards``, (chosen, rejected) of each; ``columns``: of their rows."""
    return [
        PairReward(
            row=pair.line,
            prompt_tokens=len(pair.prompt),
            chosen_tokens=len(pair.chosen),
            rejected_tokens=len(pair.rejected),
            chosen=round(chosen, 6),
            rejected=round(rejected, 6),
            columns={name: values[place] for name, values in columns.items()},
        )
        for place, (pair, (chosen, rejected)) in enumerate(zip(tokens.pairs, rewards, strict=True))
    ]


def learned(pairs: Sequence[PairReward], noise: float, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metrics of all ``pairs`` with their 95 % intervals, and by the length of their answers.

    Accuracy has Wilson's interval, a mean Student's t. ``before`` has none: policy and reference are equal before the first
    step, and nothing there is left to chance.
    """
    return {
        "pairs": len(pairs),
        "noise": noise,
        "before": None if before is None else _exact(before),
        "after": Group.of("all", pairs, noise).json(),
        "by_length": [group.json() for group in by_length(pairs, noise)],
    }


def _exact(logged: Mapping[str, Any]) -> dict[str, Any]:
    names = {"accuracy": "accuracies", "margin": "margins", "chosen": "chosen", "rejected": "rejected"}
    values = {name: logged.get(f"eval_rewards/{of_log}") for name, of_log in names.items()}
    return {name: {"value": value, "low": value, "high": value} for name, value in values.items()}
