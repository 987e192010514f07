"""The result of a training: the last line of its log, and ``result`` in its record."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from launcher.runs.run_dir import RunDir

from .logs import StepLog
from .step.dpo import DPOTrainer

# Figures that a run's result keeps, by the beginnings of their names in the log.
_OF_DPO: Final = ("loss", "rewards/", "logps/")
_OF_SFT: Final = ("loss", "mean_token_accuracy", "entropy")


def final_metrics(trainer: DPOTrainer) -> dict[str, float]:
    """The validation metrics of the saved weights: those of the best step where it was loaded, else the last."""
    state, step = trainer.state, saved_step(trainer)
    trainer.is_stop_wanted = lambda: False  # training is over: the rest is short, and a stop now would lose it
    logged = next((e for e in reversed(state.log_history) if "eval_loss" in e and e["step"] == step), None)
    return dict(logged or trainer.evaluate())


def saved_step(trainer: DPOTrainer) -> int:
    """After how many steps the weights were as they are saved."""
    state = trainer.state
    was_loaded = trainer.args.load_best_model_at_end and state.best_model_checkpoint is not None
    return int(state.best_global_step if was_loaded else state.global_step)


def logged_at_start(run: RunDir) -> dict[str, Any] | None:
    """The evaluation at step 0 that an earlier attempt of this run logged."""
    events = (json.loads(line) for line in run.steps.read_text(encoding="utf-8").splitlines())
    return next((event for event in events if event["type"] == "eval" and event["step"] == 0), None)


def training_figures(run: RunDir, logging_steps: int, *, is_sft: bool = False) -> dict[str, Any] | None:
    """Means over the first and over the last tenth of the log's training lines, at most 50, with the steps that they are of.

    None where there are not two lines. A mean over some steps, because each step has other pairs.
    """
    events = (json.loads(line) for line in run.steps.read_text(encoding="utf-8").splitlines())
    lines = [event for event in events if event["type"] == "train"]
    if len(lines) < 2:
        return None
    count = min(50, max(1, len(lines) // 10))
    begins = [max(1, lines[0]["step"] - logging_steps + 1), *(line["step"] + 1 for line in lines)]
    first, last = slice(count), slice(-count, None)
    return {
        "first": {"steps": [begins[0], lines[first][-1]["step"]], **_means(lines[first], is_sft)},
        "last": {"steps": [begins[len(lines) - count], lines[-1]["step"]], **_means(lines[last], is_sft)},
    }


def _means(lines: Sequence[Mapping[str, Any]], is_sft: bool) -> dict[str, float]:
    wanted = _OF_SFT if is_sft else _OF_DPO
    names = [name for name in lines[0] if name.startswith(wanted)]
    numbers = {name: [line.get(name) for line in lines] for name in names}
    return {name: statistics.fmean(values) for name, values in numbers.items() if all(isinstance(x, float) for x in values)}


def summarise(
    run: RunDir,
    log: StepLog,
    trainer: DPOTrainer,
    evaluated: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None],
    seconds: float,
    verified: Mapping[str, Any],
    learned: Mapping[str, Any],
) -> None:
    """Writes the last line of the log and the record's ``result``.

    ``train_loss`` is the mean over all steps of the run, those before a resume included; ``pairs_per_second`` counts the pairs
    that all ranks have trained in ``seconds``. ``evaluated``: figures of the evaluations before the training and after it;
    ``learned``: what the room ``evaluation`` found, for the record alone.
    """
    state = trainer.state
    summary: dict[str, Any] = {
        "steps": state.global_step,
        "train_loss": trainer.train_loss,
        "train_seconds": round(seconds, 3),
        "pairs_per_second": round(trainer.pairs_trained / seconds, 3) if seconds else None,
        "epoch": state.epoch,
        "best_step": state.best_global_step,
        "checkpoint_seconds": round(statistics.median(trainer.save_seconds), 3) if trainer.save_seconds else None,
        "adapter": str(run.adapter),
    }
    is_sft = not trainer.has_reference
    summary["training"] = training_figures(run, trainer.args.logging_steps, is_sft=is_sft)
    wanted = tuple(f"eval_{name}" for name in (_OF_SFT if is_sft else _OF_DPO))
    for name, metrics in zip(("before", "after"), evaluated, strict=True):
        if metrics is not None:
            summary[name] = {key: metrics[key] for key in metrics if key.startswith(wanted)}
    log.write({"type": "summary", "step": state.global_step, "total_steps": state.max_steps, **summary, "seconds": log.seconds})
    record = run.update_record(result={**summary, "verified": dict(verified), "learned": dict(learned)})
    log.settings((record.get("experiment") or {}).get("hyperparameters") or {})
