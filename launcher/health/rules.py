"""The rules, each with its default action and threshold, and what to do about it: settings and docs come from this list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class Rule:
    """``about``: when it holds, with what its threshold counts; ``suggestion``: a setting, and in which direction."""

    name: str
    about: str
    suggestion: str
    threshold: float | None = None
    action: Literal["warn", "stop", "off"] = "warn"


_ALL: Final = (
    Rule(
        "not_finite",
        "a loss or gradient that is NaN or infinite (exit 46)",
        "lower learning_rate, or set health.not_finite to warn",
        action="stop",
    ),
    Rule(
        "first_loss",
        "loss or rewards of the first step differ from those of a policy equal to its reference; threshold: the difference",
        "remove the cause that the warning names, such as active dropout",
    ),
    Rule(
        "loss_stuck",
        "the loss stays at its initial value (ln 2); threshold: the share that it must fall",
        "raise learning_rate, and check that target_modules are trained",
        0.01,
    ),
    Rule(
        "margin_flat",
        "the margin does not grow, or falls; threshold: the share of its best value that it may lose",
        "check that the chosen answers are the better ones; if the margin fell, lower learning_rate",
        0.3,
    ),
    Rule(
        "accuracy_low",
        "the accuracy stays near 0.5 in the second half of the run; threshold: minimum accuracy",
        "check the labels, and raise learning_rate or num_train_epochs",
        0.6,
    ),
    Rule(
        "loss_spikes",
        "repeated losses above the initial value; threshold: multiple of that value",
        "lower learning_rate or max_grad_norm, or raise warmup_ratio",
        2.0,
    ),
    Rule(
        "gradient_spikes",
        "repeated gradients far above those of the first steps; threshold: multiple of their median",
        "lower learning_rate, or raise warmup_ratio",
        10.0,
    ),
    Rule(
        "chosen_falling",
        "both answers become less likely; threshold: relative loss of the chosen answer's log-probability",
        "lower learning_rate, raise beta, or set loss_type: [sigmoid, sft] with loss_weights: [1, 0.5]",
        0.25,
    ),
    Rule(
        "reward_scale",
        "rewards are too large for beta: the policy is far from its reference; threshold: the largest mean reward",
        "raise beta, or lower learning_rate",
        20.0,
    ),
    Rule(
        "learning_rate_low",
        "the learning rate is below 1 % of its peak too early; threshold: the share of the run that it must last",
        "set another lr_scheduler_type, or check max_steps",
        0.8,
    ),
    Rule(
        "overfitting",
        "the validation loss rises in two evaluations; threshold: relative increase over its best value",
        "set load_best_model_at_end: true with early_stopping_patience, or lower num_train_epochs or learning_rate",
        0.1,
    ),
    Rule(
        "flipped_labels",
        "more pairs have a clearly negative margin than noise explains; threshold: their share",
        "read the pairs with the lowest margins, and correct or remove the mislabelled ones",
        0.03,
    ),
    Rule(
        "swapped_columns",
        "training makes the rejected validation answers win, or the column names contradict the mapping; threshold: "
        "the validation accuracy",
        "check chosen and rejected in dpo_column_mapping_config, and the columns of both files",
        0.5,
    ),
    Rule(
        "length_bias",
        "longer answers win more and more; threshold: the correlation of the margin with the difference in length",
        "balance the lengths of chosen and rejected answers, or set ld_alpha below 1",
        0.6,
    ),
    Rule(
        "degenerate_answers",
        "sample answers are empty, repeat one text or do not end, more often than the base model's; threshold: "
        "their share",
        "lower learning_rate or raise beta; if answers do not end and training answers are cut, raise max_seq_length",
        0.5,
    ),
    Rule(
        "longer_answers",
        "every sample answer is longer than the base model's; threshold: multiple of the base's median and of the training "
        "answers' median",
        "read the answers; balance the lengths of chosen and rejected answers, or set ld_alpha below 1",
        1.5,
    ),
    Rule(
        "truncated",
        "answers are cut at max_seq_length; threshold: their share",
        "raise max_seq_length",
        0.05,
    ),
    Rule(
        "giant_answer",
        "one answer is far longer than the others; threshold: multiple of the median",
        "shorten or remove the row",
        10.0,
    ),
    Rule(
        "duplicates",
        "training pairs are repeated; threshold: their share",
        "remove the repeated rows",
        0.02,
    ),
    Rule(
        "slow",
        "the run is far slower than it was, or than planned, for five minutes; threshold: the share of its earlier speed",
        "check the machine for other work, its temperature and its disk",
        0.5,
    ),
    Rule(
        "gpu_idle",
        "the GPU waits for the program; threshold: its mean use in percent",
        "raise per_device_train_batch_size, or check the machine's CPU for other work",
        30.0,
    ),
)  # fmt: skip

RULES: Final[dict[str, Rule]] = {rule.name: rule for rule in _ALL}
