"""What the lines of a run's log and the entries of its ``run.json`` mean: for readers of these files and the reference page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Field:
    """``lines``: the types of lines that have it. In ``eval`` lines the name of a figure begins with ``eval_``."""

    lines: tuple[str, ...]
    meaning: str


_TRAIN: Final = ("train",)
_BOTH: Final = ("train", "eval")
_EVERY: Final = ("train", "eval", "summary")
_SUMMARY: Final = ("summary",)

LOG: Final[Mapping[str, Field]] = {
    "type": Field(_EVERY, "train, eval or summary (the last line of a run that is done)"),
    "step": Field(_EVERY, "optimizer steps so far; eval at 0 is before the training"),
    "total_steps": Field(_EVERY, "optimizer steps of the whole run"),
    "epoch": Field(_EVERY, "passes over the training pairs so far"),
    "seconds": Field(_EVERY, "seconds since this attempt opened its log"),
    "loss": Field(_BOTH, "mean over the pairs since the last line; with method: sft over the answers' tokens"),
    "grad_norm": Field(_TRAIN, "norm of the gradient before it is clipped"),
    "learning_rate": Field(_TRAIN, "learning rate of the step"),
    "num_tokens": Field(_TRAIN, "tokens trained on so far, on all ranks"),
    "rewards/chosen": Field(_BOTH, "beta × (log-probability of the chosen answer − the reference's), in nats"),
    "rewards/rejected": Field(_BOTH, "the same for the rejected answer"),
    "rewards/margins": Field(_BOTH, "reward of chosen minus reward of rejected"),
    "rewards/accuracies": Field(_BOTH, "share of pairs whose chosen answer has the higher reward"),
    "rewards/margins_std": Field(_BOTH, "standard deviation of the margin over pairs (fast path)"),
    "rewards/margins_skew": Field(_BOTH, "skewness of the margin over pairs (fast path)"),
    "rewards/reversed": Field(_BOTH, "share of pairs with a margin below minus half the median of earlier lines (fast path)"),
    "rewards/length_correlation": Field(_BOTH, "correlation of the margin with the difference in length (fast path)"),
    "logps/chosen": Field(_BOTH, "log-probability of the whole chosen answer, in nats"),
    "logps/rejected": Field(_BOTH, "the same for the rejected answer"),
    "logits/chosen": Field(_BOTH, "mean logit at the tokens of chosen answers"),
    "logits/rejected": Field(_BOTH, "the same for rejected answers"),
    "entropy": Field(_BOTH, "entropy of the next token in nats, mean over the answers' tokens"),
    "mean_token_accuracy": Field(_BOTH, "share of the chosen answers' tokens that the model ranks first"),
    "aux_loss": Field(_BOTH, "loss that balances the experts of a mixture"),
    "memory_gib": Field(_TRAIN, "peak memory of tensors on the GPU so far, GiB"),
    "gpu_use": Field(_TRAIN, "percent of the time that the GPU was busy (needs nvidia-ml-py)"),
    "steps": Field(_SUMMARY, "optimizer steps of the run"),
    "train_loss": Field(_SUMMARY, "mean over the run's steps"),
    "train_seconds": Field(_SUMMARY, "seconds of the training alone"),
    "pairs_per_second": Field(_SUMMARY, "training pairs, mean over the training"),
    "best_step": Field(_SUMMARY, "step of the best evaluation; null without load_best_model_at_end"),
    "checkpoint_seconds": Field(_SUMMARY, "median time of a checkpoint; null without one"),
    "adapter": Field(_SUMMARY, "folder of the adapter"),
    "training": Field(_SUMMARY, "metrics over the first and the last tenth of the training lines, with their steps"),
    "before": Field(_SUMMARY, "validation metrics before the first step"),
    "after": Field(_SUMMARY, "validation metrics of the saved weights"),
}

RECORD: Final[Mapping[str, str]] = {
    "run": "name of the run",
    "key": "key of the experiment in its file",
    "experiment_id": "id of the experiment",
    "topic": "its topic, null without",
    "model_name": "base model",
    "method": "dpo or sft",
    "backend": "host, docker, kubernetes or python",
    "folder": "the run's folder",
    "gpus": "GPUs of all nodes",
    "origin": "file of the experiment",
    "experiment": "the resolved experiment, every key",
    "set": "what --set changed in it",
    "sweep": "name, point and settings of the sweep that the run is a point of",
    "again": "the run that launcher again repeats, and what it was made of",
    "inputs": "files that travelled in a ConfigMap, with their paths on the submitting machine",
    "image": "container image",
    "user": "who started the run",
    "code": "git revision of the launcher, whether it was changed, hash of its source",
    "created": "time, UTC",
    "started": "time of the newest start, UTC",
    "attempts": "of each attempt: number, times, exit code, state, sentence, pod and node",
    "outcome": "state, exit code, sentence and time of the end",
    "process": "pid, start time, boot id and host of the process; null after a run from Python",
    "container": "id and image of the container",
    "trackers": "project of the run in its trackers, its id in MLflow",
    "packages": "versions of Python and packages",
    "hardware": "processor, cores, threads, GPUs, ranks",
    "data": "of each file: role, name, SHA-256, rows; of a dataset its commit",
    "spreadsheet": "what was read of the spreadsheet, and when",
    "template_date": "date that the chat template writes",
    "model": "hash and commit of the base model",
    "adapter": "the layers with an adapter, and the adapter that the training started from",
    "work": "pairs, tokens, steps, lengths of the answers",
    "dpo_path": "fast or plain, the reason, tokens of a row",
    "layers": "whether decoder layers are compiled, and why not",
    "resumed_from": "checkpoint, null where the run began at step 0",
    "mirror": "the bucket that checkpoints are copied to, and the newest one there",
    "health": "findings of the health rules",
    "result": "the last line of the log, the check of the adapter, what the run learned",
    "uploaded": "address of the adapter in the bucket, with its hashes",
    "pushed": "repository and commit of the weights on a model hub",
}
