"""The best checkpoint: its metric is checked early, and early stopping survives a resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher.errors import ExperimentError, Mistake, nearest


class MetricCheck(TrainerCallback):
    """Checks ``metric_for_best_model`` at the first evaluation, which comes before the first step."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **kwargs: Any) -> None:
        check_metric(args.metric_for_best_model, metrics)


def check_metric(metric: str | None, evaluation: Mapping[str, float]) -> None:
    """Raises ExperimentError if no evaluation holds the metric that decides which model is best."""
    names = sorted(name.removeprefix("eval_") for name in evaluation if name.startswith("eval_"))
    if metric is None or metric.removeprefix("eval_") in names:
        return
    raise ExperimentError(
        Mistake(
            "hyperparameters.metric_for_best_model",
            "no evaluation measures this metric",
            expected=f"one of {', '.join(names)}",
            found=metric,
            hint=nearest(metric, names),
        )
    )


class Patience(EarlyStoppingCallback):
    """Early stopping whose count continues from the checkpoint in a resumed run."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        stored = (state.stateful_callbacks or {}).get(type(self).__name__, self.state())
        self.early_stopping_patience_counter = stored["attributes"]["early_stopping_patience_counter"]
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
