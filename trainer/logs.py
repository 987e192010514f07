"""The log of a run: one dictionary per event, written as a JSONL line, as TensorBoard scalars and to the output."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher.runs.run_dir import RunDir
from launcher.runs.whole import write_whole

from . import output
from .processes.ranks.gpu_use import gpu_use

# TensorBoard's tab "Custom Scalars": curves that belong together in one chart, what matters most first.
_OPTIMIZER: Final = {"learning rate": ["Multiline", ["train/learning_rate"]], "gradient": ["Multiline", ["train/grad_norm"]]}
CHARTS: Final = {
    "training and validation": {
        name: ["Multiline", [f"{kind}/{tag}" for kind in ("train", "eval") for tag in tags]]
        for name, tags in {
            "loss": ("loss",),
            "margin": ("rewards/margins",),
            "rewards": ("rewards/chosen", "rewards/rejected"),
            "accuracy": ("rewards/accuracies",),
            "log-probabilities": ("logps/chosen", "logps/rejected"),
        }.items()
    },
    "optimizer": _OPTIMIZER,
}
CHARTS_OF_SFT: Final = {
    "training and validation": {
        name: ["Multiline", [f"{kind}/{tag}" for kind in ("train", "eval")]]
        for name, tag in (("loss", "loss"), ("token accuracy", "mean_token_accuracy"), ("entropy", "entropy"))
    },
    "optimizer": _OPTIMIZER,
}
_NO_CURVES: Final = ("step", "total_steps", "epoch", "seconds", "num_tokens")  # constants, and lines that only count on


class StepLog:
    """``dpo_train_steps.jsonl`` and ``logs_tensorboard/`` of one run; rank 0 alone has one."""

    def __init__(self, run: RunDir, *, resume_step: int, attempt: int, events: bool = True, charts: Mapping[str, Any] = CHARTS):
        """``resume_step``: the step of the checkpoint that the run resumes from, 0 without; later lines are kept aside.

        ``events``: whether TensorBoard's files are written, too; ``charts``: their layout.
        """
        # An attempt from the beginning evaluates at step 0 itself: nothing of an earlier one is kept.
        kept = resume_step or -1
        cut_back(run.steps, kept, run.logs / f"dpo_train_steps.cut-{attempt}.jsonl")
        self._events = SummaryWriter(str(run.tensorboard), purge_step=kept + 1) if events else None
        if self._events is not None:
            self._events.add_custom_scalars(dict(charts))
        self._own = ("mean_token_accuracy",) if charts is CHARTS_OF_SFT else ()
        self._drawn: set[str] = set()  # tags
        self._file = run.steps.open("a", encoding="utf-8")
        self._began = time.monotonic()

    def write(self, event: Mapping[str, Any]) -> None:
        """Adds one event: ``type``, ``step`` and finite or null numbers."""
        line = json.dumps({key: _json(value) for key, value in event.items()})
        self._file.write(line + "\n")
        self._file.flush()
        output.event(line)
        if self._events is None:
            return
        drawn = {_tag(event["type"], name): float(value) for name, value in event.items() if _is_drawn(event, name)}
        if drawn:  # in one record: one for each curve takes three times as long
            self._drawn |= drawn.keys()
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in drawn.items()]
            self._events.file_writer.add_summary(Summary(value=values), event["step"])
        self._events.flush()

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Shows ``markdown`` among TensorBoard's texts."""
        if self._events is not None:
            self._events.add_text(tag, markdown, step)
            self._events.flush()

    def settings(self, values: Mapping[str, Any]) -> None:
        """Shows ``values`` in TensorBoard's tab HPARAMS, beside the last loss, margin and accuracy."""
        if self._events is None:
            return
        plain = {name: value for name, value in values.items() if isinstance(value, bool | int | float | str)}
        kind = "eval" if any(tag.startswith("eval/") for tag in self._drawn) else "train"
        shown = [f"{kind}/{name}" for name in ("loss", "rewards/margins", "rewards/accuracies", *self._own)]
        for summary in hparams(plain, {tag: 0.0 for tag in shown if tag in self._drawn}):  # the values are those of the curves
            self._events.file_writer.add_summary(summary)
        self._events.flush()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def close(self) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()


def _is_drawn(event: Mapping[str, Any], name: str) -> bool:
    value = event[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and name not in _NO_CURVES and event["type"] != "summary"


def _json(value: Any) -> Any:
    """JSON has no NaN: such a number becomes its name as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _tag(kind: str, name: str) -> str:
    """``train/rewards/margins`` and ``eval/rewards/margins``: TensorBoard draws one chart a tag, grouped by its head."""
    return f"eval/{name.removeprefix('eval_')}" if kind == "eval" else f"{kind}/{name}"


def cut_back(steps: Path, last_step: int, aside: Path) -> None:
    """Keeps the lines up to ``last_step``; later ones and the summary go to ``aside``."""
    if not steps.exists():
        return
    kept, tail = [], []
    for line in steps.read_text(encoding="utf-8").splitlines():
        (kept if _belongs(line, last_step) else tail).append(line)
    if tail:
        write_whole(aside, "\n".join(tail) + "\n")
        write_whole(steps, "".join(f"{line}\n" for line in kept))


def _belongs(line: str, last_step: int) -> bool:
    try:
        event = json.loads(line)
    except ValueError:
        return False  # a line that a killed process left unfinished
    return event.get("type") != "summary" and event.get("step", 0) <= last_step


class LogCallback(TrainerCallback):
    """Turns what transformers logs into events of the run."""

    def __init__(self, log: StepLog, total_steps: int):
        self._log, self._total = log, total_steps

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if "loss" in logs:
            logs.update(gpu_use())  # the health rules, which come next, see it too
        event = event_of(logs, state, self._log.seconds, self._total)
        if event is not None:
            self._log.write(event)


def event_of(logs: Mapping[str, Any], state: TrainerState, seconds: float, total: int | None = None) -> dict[str, Any] | None:
    """A line of the log from what transformers logs; None for its closing line: train.py writes the summary."""
    kind = "train" if "loss" in logs else "eval" if "eval_loss" in logs else None
    if kind is None:
        return None
    event = {"type": kind, "step": state.global_step, "total_steps": state.max_steps if total is None else total}
    event |= {name: value for name, value in logs.items() if not _superfluous(name)}
    return event | {"seconds": seconds}


def _superfluous(name: str) -> bool:
    """Speed figures of transformers that count its own batches, and what an evaluation repeats of the training."""
    return name.endswith(("_runtime", "_per_second", "total_flos", "_preparation_time")) or name == "eval_num_tokens"
