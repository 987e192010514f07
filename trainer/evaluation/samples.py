"""Sample answers of the base and the trained model to a few prompts, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from peft import PeftModel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher.errors import Warned
from launcher.experiment.sections.samples import Samples
from launcher.health import Answered
from launcher.runs.learned.json_lines import written
from launcher.runs.learned.samples import FILE, Sample, parsed
from launcher.runs.run_dir import RunDir
from launcher.runs.whole import write_whole

from ..health import HealthCallback
from ..logs import StepLog
from ..output import notices, stage
from ..processes.ranks.sharding import stage as zero_stage
from ..step.dpo import DPOTrainer
from .generation import Answer, answers
from .prompts import SamplePrompt


class Sampler:
    """Writes ``evaluation/samples.jsonl``; only the first rank does. Nothing here changes weights or random numbers, and what
    fails is a warning: a run is never lost for its samples.
    """

    def __init__(
        self,
        run: RunDir,
        settings: Samples,
        prompts: Sequence[SamplePrompt],
        tokenizer: Any,
        log: StepLog | None,
        health: HealthCallback,
    ):
        """``health`` is shown the answers."""
        self._run, self._settings, self._prompts = run, settings, prompts
        self._tokenizer, self._log, self._health = tokenizer, log, health
        self._base: list[Answer] | None = None
        self._has_failed = False

    def before(self, trainer: DPOTrainer) -> None:
        """Keeps the answers of the model that the training starts from where it replaces those weights; call it before that."""
        if not _replaces(trainer) or not self._is_wanted(trainer):
            return
        trainer.model.to(trainer.accelerator.device)  # under DeepSpeed it is on the CPU until the training begins
        with stage("answering the sample prompts before the training"):
            self._base = self._answers(trainer, with_adapter=trainer.is_continued)

    def callbacks(self, trainer: DPOTrainer) -> list[TrainerCallback]:
        """Callbacks that must see the training."""
        return [_AtEvaluations(self, trainer)] if self._settings.every_evaluation and self._prompts else []

    def after(self, trainer: DPOTrainer, step: int) -> int:
        """Writes the answers after ``step`` steps; returns how many prompts were answered."""
        if not self._is_wanted(trainer) or (_replaces(trainer) and self._base is None):
            return 0
        with stage("answering the sample prompts"):
            if self._base is None:
                self._base = self._answers(trainer, with_adapter=False)
            trained = None if self._base is None else self._answers(trainer, with_adapter=True)
        if self._base is None or trained is None:
            return 0
        found = [
            Sample(step, prompt.row, prompt.text, base.text, one.text, base.tokens, base.is_cut, one.tokens, one.is_cut)
            for prompt, base, one in zip(self._prompts, self._base, trained, strict=True)
        ]
        self._write(found)
        self._health.answered(step, _answered(self._base), _answered(trained), is_training=trainer.is_in_train)
        return len(found)

    def _is_wanted(self, trainer: DPOTrainer) -> bool:
        if not self._prompts or self._has_failed or not trainer.args.should_save:
            return False
        if zero_stage(trainer) < 3:
            return True
        self._has_failed = True  # said once
        notices(["no sample answers: ZeRO-3 spreads the weights over the ranks; generate them from the adapter"])
        return False

    def _answers(self, trainer: DPOTrainer, *, with_adapter: bool) -> list[Answer] | None:
        """The answers; None with a notice if the model cannot generate."""
        unpacked = nullcontext() if trainer.fast is None else trainer.fast.packed.removed()
        ids = [prompt.ids for prompt in self._prompts]
        try:
            with unpacked, trainer.accelerator.autocast():
                most = self._settings.max_new_tokens
                return answers(trainer.model, self._tokenizer, ids, most, with_adapter=with_adapter)
        except Exception as error:  # a model's own code may raise anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        self._has_failed = True
        if trainer.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        notices([Warned(f"no sample answers: generating them failed ({reason}); the training is not affected")])
        return None

    def _write(self, samples: Sequence[Sample]) -> None:
        """Adds ``samples`` to the file; those of this or a later step, which an earlier attempt may have left, are replaced."""
        step, file = samples[0].step, self._run.evaluation / FILE
        kept = [one for one in parsed(file.read_text(encoding="utf-8")) if one.step < step] if file.exists() else []
        self._run.evaluation.mkdir(exist_ok=True)
        write_whole(file, written([*kept, *samples]))
        if self._log is not None:
            for number, one in enumerate(samples, start=1):
                self._log.text(f"samples/{number}", _markdown(one), step)


def _answered(answers: Sequence[Answer]) -> list[Answered]:
    return [Answered(one.text, one.tokens, one.is_cut) for one in answers]


def _replaces(trainer: DPOTrainer) -> bool:
    """Whether the training changes the weights that it starts from; a new adapter can be switched off."""
    return not isinstance(trainer.model, PeftModel) or trainer.is_continued


class _AtEvaluations(TrainerCallback):
    def __init__(self, sampler: Sampler, trainer: DPOTrainer):
        self._sampler, self._trainer = sampler, trainer

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step > 0 and self._trainer.is_in_train:
            self._sampler.after(self._trainer, state.global_step)


def _markdown(sample: Sample) -> str:
    parts = (("Prompt", sample.prompt), ("Base", sample.base), ("Trained", sample.adapter))
    return "\n\n".join(f"**{name}**\n\n{_quoted(text)}" for name, text in parts)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines() or [""])
