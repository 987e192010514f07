"""Messages to the experiment's webhook: how the run ended, and each health finding once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from launcher.errors import Warned
from launcher.experiment.other_tools.method import SFT
from launcher.health import Finding
from launcher.runs.evidence import gather, last_metric
from launcher.runs.learned.quality import Quality, last_evaluation
from launcher.runs.run_dir import RunDir
from launcher.runs.status import Status
from launcher.why import explain

from ... import output
from .webhook import Outbox, Webhook, secret_values

PATIENCE: Final = 40.0  # seconds that the end of a run waits for its message
HURRY: Final = 10.0  # likewise where the run was asked to stop, and will be killed if it takes long
OUTBOX: Final = Outbox()


class Ended(Protocol):
    """How a run ended; see ``verdict.Ending``."""

    @property
    def state(self) -> str: ...
    @property
    def code(self) -> int: ...
    @property
    def sentence(self) -> str: ...


def notify_name(run: RunDir) -> str | None:
    """The variable that the run's experiment names under ``notify``; in a pod the run's folder may not exist yet."""
    config = os.environ.get("DPO_CONFIG")
    for folder in (run.path, *([Path(config)] if config else [])):
        with suppress(OSError, ValueError):
            name = json.loads((folder / run.experiment.name).read_text(encoding="utf-8")).get("notify")
            return name if isinstance(name, str) else None
    return None


def tell_end(run: RunDir, ending: Ended, env: Mapping[str, str] | None = None, *, patience: float = PATIENCE) -> Warned | None:
    """Sends how the run ended, with the sentence and the suggestion of ``launcher why``; returns why it was not sent.

    ``env`` has the address, by default this process's environment and secrets. Returns after ``patience`` seconds at most.
    """
    name = notify_name(run)
    if name is None:
        return None
    failed: list[Warned | None] = []

    def send() -> None:
        hook = Webhook(name, secret_values() if env is None else env)
        failed.append(hook.send(*_end(run, ending)))

    OUTBOX.put(send)
    if not OUTBOX.wait(patience):
        return Warned(f"notification not sent: {name}: no answer within {patience:.0f} s")
    return failed[0] if failed else Warned(f"notification not sent: {name}: the run's folder cannot be read")


def tell_findings(run: RunDir, name: str, found: Sequence[Finding]) -> None:
    """Sends each finding while the training continues; a failure is a warning in the run's log."""
    for one in found:
        message = _finding(run, one)

        def send(message: tuple[str, dict[str, Any]] = message) -> None:
            wrong = Webhook(name, secret_values()).send(*message)
            if wrong is not None:
                output.notices([wrong])

        OUTBOX.put(send)


def _end(run: RunDir, ending: Ended) -> tuple[str, dict[str, Any]]:
    """The message as a text for people, and as fields for programs."""
    why = explain(gather(run, Status(ending.state, ending.code, ending.sentence)))
    how = f"{run.name} {ending.state} with exit code {ending.code}"
    head = why.sentence if why.sentence.startswith(f"{run.name} ") else f"{how}: {why.sentence}"
    fields = {"exit_code": ending.code, "cause": why.cause, "sentence": why.sentence, "suggestion": why.suggestion}
    return _message(run, ending.state, head, why.suggestion, fields)


def _finding(run: RunDir, found: Finding) -> tuple[str, dict[str, Any]]:
    fields = {"rule": found.rule, "steps": [found.first_step, found.last_step]}
    fields |= {"sentence": found.sentence, "suggestion": found.suggestion}
    head = f"{run.name}: warning: {found.sentence} (health.{found.rule}, {found.steps})"
    return _message(run, "health", head, found.suggestion, fields)


def _message(run: RunDir, event: str, head: str, suggestion: str, fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    record = run.read_record()
    figures = _figures(run, record)
    formats = (("accuracy", ".2f"), ("margin", "+.3f"), ("loss", ".4f"))
    shown = ", ".join(f"{name} {figures[name]:{spec}}" for name, spec in formats if name in figures)
    lines = [head, suggestion, *([f"{shown} ({figures['pairs']} pairs, step {figures['step']})"] if shown else [])]
    about = {"run": run.name, "experiment": record.get("key"), "model": record.get("model_name"), "event": event}
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return "\n".join(lines), {**about, **fields, "figures": figures, "time": time}


def _figures(run: RunDir, record: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy, margin and loss on validation pairs, else of the last training line; empty before the first one."""
    last, evaluated = last_metric(run), last_evaluation(run.steps)
    trained = last if last is not None and last.kind == "train" else None
    quality = Quality.of(record, evaluated, trained)
    saved = ((record.get("result") or {}).get("after") or {}).get("eval_loss")
    line = evaluated if quality.pairs == "validation" else trained
    loss = saved if quality.pairs == "validation" and saved is not None else line and line.number("loss")
    step = quality.step if quality.step is not None else last and last.step
    pairs = quality.pairs
    if pairs is None and record.get("method") == SFT:  # no rewards, and still losses
        line, pairs = (evaluated, "validation") if evaluated is not None else (trained, "training")
        loss, step = (saved, step) if saved is not None else (line and line.number("loss"), line and line.step)
    found = {"accuracy": quality.accuracy, "margin": quality.margin, "loss": loss, "pairs": pairs, "step": step}
    return {name: value for name, value in found.items() if value is not None}
