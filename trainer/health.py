"""The health rules while a run trains: the first rank looks at every line, warns once, records, and stops after a checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher.errors import HealthError, Warned
from launcher.experiment.sections.watched import Health
from launcher.health import RULES, Answered, Facts, Finding, Watch, read_findings
from launcher.health.lines import NotFinite
from launcher.runs.run_dir import RunDir

from . import output
from .checkpoints.checkpoints import StopCallback, any_rank
from .logs import StepLog, event_of
from .processes.webhook.notify import tell_findings
from .step.loss.first import Expected, wrong

_AT_ONCE: Final = ("not_finite", "first_loss")  # what they stop has nothing worth a checkpoint


class HealthCallback(TrainerCallback):
    """Stops or warns by the experiment's ``health`` rules."""

    def __init__(
        self,
        health: Health,
        facts: Facts | None = None,
        *,
        run: str = "RUN",
        stopper: StopCallback | None = None,
        notify: str | None = None,
    ):
        """``run``: its name; ``stopper`` is told when a rule stops it; ``notify``: the experiment's."""
        facts = facts or Facts()
        self._settings: dict[str, Any] = health.model_dump()
        self._facts, self._stopper, self._run = facts, stopper, run
        self._notify = notify
        self._not_finite = NotFinite(facts)
        self._book: _Book | None = None
        self._waiting: Finding | None = None  # of sample answers, for the next line
        self._may_stop = any(_action(rule) == "stop" for name, rule in self._settings.items() if name not in _AT_ONCE)
        self.culprits: Callable[[], str] = str  # text that names the rows behind a loss that is not finite
        self.stopped: str | None = None  # why the run stops, on every rank; the first one has the sentence

    def begin(self, run: RunDir, log: StepLog) -> None:
        """On the first rank: the data's findings, and what the lines before a resume have shown."""
        self._book = _Book(run, log, self._settings, self._facts, self._notify)
        self._waiting = self._book.begin()

    def raise_for_data(self, device: torch.device) -> None:
        """Raises HealthError on every rank where the data's findings stop the run; all ranks must come here after ``begin``."""
        if not self._may_stop or not any_rank(self._waiting is not None, device):
            return
        found = str(self._waiting) if self._waiting is not None else "a health rule stopped it"
        resume = f"`launcher resume {self._run}` trains on them, and the rule then only warns"
        raise HealthError(f"{found}; stopped before the first step: {resume}")

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> TrainerControl:
        event = event_of(logs, state, time.monotonic())
        if event is None:
            return control
        self._check_finite(event)
        found = self._found(event)
        # The other ranks look at no line: they are asked only where a rule may stop the run.
        if self._may_stop and state.global_step < state.max_steps and any_rank(found is not None, args.device):
            self.stopped = str(found) if found is not None else "a health rule stopped it"
            control.should_save = control.should_training_stop = True
            if self._stopper is not None:
                self._stopper.stopped = True
        return control

    def _found(self, event: Mapping[str, Any]) -> Finding | None:
        """A finding that stops the run, of this line or of sample answers before it."""
        if self._book is None:
            return None
        waiting, self._waiting = self._waiting, None
        return self._book.feed(event) or waiting

    def answered(self, step: int, base: Sequence[Answered], trained: Sequence[Answered], *, is_training: bool) -> None:
        """Looks at the sample answers of the weights after ``step`` steps. What they show stops the run with its next line, which
        all ranks reach together; after the training it only warns.
        """
        if self._book is not None:
            self._waiting = self._book.answers(step, base, trained, may_stop=is_training)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._book is not None:
            self._book.record()

    def raise_if_stopped(self, step: int, last: int) -> None:
        """Raises HealthError where a rule has stopped the run after ``step``."""
        if self.stopped is not None:
            resume = f"`launcher resume {self._run}` continues with the same settings, and the rule then only warns"
            raise HealthError(f"{self.stopped}; stopped at step {step} of {last} with checkpoint-{step}: {resume}")

    def _check_finite(self, event: dict[str, Any]) -> None:
        """Every rank has the same loss and gradient, and all of them end at once."""
        if event["type"] != "train":
            return
        hit = self._not_finite.feed(event)
        action = _action(self._settings["not_finite"])
        if hit is None or action == "off":
            return
        event["rows"] = self.culprits()
        if action != "stop":
            return
        if self._book is not None:
            self._book.feed(event)
        raise HealthError(f"{hit.sentence}{event['rows']}: {RULES['not_finite'].suggestion}")

    def check_first(self, known: Expected, causes: Callable[[], Sequence[str]], figures: Mapping[str, float]) -> None:
        """Warns or raises HealthError where the ``figures`` of a fresh policy's first step are not those that are ``known``."""
        setting = self._settings["first_loss"]
        action = _action(setting)
        threshold = setting.get("threshold") if isinstance(setting, Mapping) else None
        found = list(wrong(figures, known, threshold)) if action != "off" else []
        if not found:
            return
        why = "; ".join(causes()) or "no cause found (no dropout, no noise, a fresh adapter)"
        sentence = f"{'; '.join(found)}: policy and reference must be equal before the first step; {why}"
        if self._book is not None:
            self._book.add("first_loss", 1, sentence)
        if action == "stop":
            raise HealthError(sentence)
        if self._book is None:
            output.notices([Warned(sentence)])


def _action(setting: Any) -> str:
    return str(setting["action"] if isinstance(setting, Mapping) else setting)


class _Book:
    """The first rank's findings: printed and sent once, kept in the run's record, shown in TensorBoard."""

    def __init__(self, run: RunDir, log: StepLog, settings: Mapping[str, Any], facts: Facts, notify: str | None):
        self._run, self._log, self._notify = run, log, notify
        before = read_findings(run.read_record()) or []
        self._told = {one.rule: one for one in before}
        # A rule stops a run once: whoever resumes it has read why.
        warned = {one.rule: _warn(settings[one.rule]) for one in before if one.action == "stop" and one.rule in settings}
        self._watch = Watch({**settings, **warned}, facts)

    def begin(self) -> Finding | None:
        """A finding about the data that stops the run; those of lines before a resume have stopped it then."""
        found = self._tell(self._watch.data())
        for event in _events(self._run):
            self._tell(self._watch.feed(event))
        self.record()
        return found

    def feed(self, event: Mapping[str, Any]) -> Finding | None:
        """A new finding that stops the run."""
        return self._tell(self._watch.feed(event))

    def add(self, rule: str, step: int, sentence: str) -> None:
        found = self._watch.add(rule, step, sentence)
        self._tell([] if found is None else [found])

    def answers(self, step: int, base: Sequence[Answered], trained: Sequence[Answered], *, may_stop: bool) -> Finding | None:
        """A new finding that stops the run; where none may, all are warnings."""
        return self._tell(self._watch.answers(step, base, trained), may_stop=may_stop)

    def record(self) -> None:
        """Writes the whole list; a finding of an earlier attempt that its lines show no more stays."""
        found = {**self._told, **self._watch.found}
        kept = {
            name: one if name not in self._told else replace(one, action=self._told[name].action) for name, one in found.items()
        }
        self._run.update_record(health=[one.json() for one in kept.values()])

    def _tell(self, new: Sequence[Finding], *, may_stop: bool = True) -> Finding | None:
        news = [one for one in new if one.rule not in self._told]
        if not news:
            return None
        self._told |= {one.rule: one for one in news}
        for one in news:
            self._log.text("health", f"**{one.rule}** ({one.steps}): {one.sentence}: {one.suggestion}", one.last_step)
        self.record()
        stops = [one for one in news if one.action == "stop" and may_stop]
        warned = [one for one in news if one not in stops]
        # The sentence about the first loss names its cause itself.
        output.notices([Warned(one.sentence if one.rule == "first_loss" else str(one)) for one in warned])
        if self._notify is not None:  # what stops the run is told with its end
            tell_findings(self._run, self._notify, warned)
        return next((one for one in stops if one.rule not in _AT_ONCE), None)


def _warn(setting: Any) -> Any:
    return {**setting, "action": "warn"} if isinstance(setting, Mapping) else "warn"


def _events(run: RunDir) -> Iterator[dict[str, Any]]:
    if run.steps.is_file():
        yield from map(json.loads, run.steps.read_text(encoding="utf-8").splitlines())
