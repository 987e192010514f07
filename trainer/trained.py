"""Trained: what a training in Python has come to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from launcher.errors import LauncherError, labelled
from launcher.runs.learned.figures import Figures
from launcher.runs.run_dir import RunDir

from .output import notices
from .processes.ranks.quiet import without_deprecations

if TYPE_CHECKING:
    from .after.loaded import Loaded
    from .after.prompted import Prompted


@dataclass(frozen=True, repr=False)
class Trained(os.PathLike[str]):
    """The paths and figures of a finished training. Wherever a path is expected, it is the adapter's folder."""

    run: str  #: its name, for `launcher status RUN`
    folder: Path  #: all that the run has written
    adapter: Path  #: folder of the adapter (or of whole weights) with its tokenizer
    logs: Path  #: dpo_train_steps.jsonl: one JSON line per logged step
    tensorboard: Path  #: folder of the event files
    steps: int  #: optimizer steps, those before a resume included
    seconds: float  #: of the training alone: without imports, reference and the adapter's verification
    loss: float | None  #: mean over the run's steps
    before: Mapping[str, float] | None  #: validation metrics before the first step, by their names in the log
    after: Mapping[str, float] | None  #: of the weights in `adapter`
    training: Mapping[str, Any] | None  #: means over the first and the last steps, with their numbers
    best_step: int | None  #: of the best evaluation, with metric_for_best_model
    verified: int  #: tensors that were read back and compared
    uploaded: str | None  #: s3://…, None without an upload

    @property
    def metrics(self) -> Mapping[str, float]:
        """The final figures by their names in the log: ``train_loss``, those of the last training steps (``loss``,
        ``rewards/margins`` …), and those of ``adapter`` on the validation pairs (``eval_loss``, ``eval_rewards/accuracies`` …).
        """
        last = (self.training or {}).get("last") or {}
        whole = {"train_loss": self.loss} if self.loss is not None else {}
        return {**whole, **{name: last[name] for name in last if name != "steps"}, **(self.after or {})}

    def chat(self, text: str, *, base: bool = False, max_new_tokens: int = 256) -> str:
        """The greedy answer to one message, of at most ``max_new_tokens`` tokens; ``base``: of the model before the training.

        The run's chat template, system text and template of user messages are used; no earlier message is remembered. The weights
        are loaded at the first call. Raises UsageError where the model has no room for an answer.
        """
        from .after.conversation import BASE, TRAINED, Conversation
        from .evaluation.generation import Wish

        with without_deprecations():
            loaded, prompted = self._loaded
            side = BASE if base and loaded.has_base else TRAINED
            chosen = self._reference if base else loaded
            return Conversation(chosen, prompted, Wish(max_new_tokens), (side,)).ask(text)[side].text

    def push(self, repository: str, *, public: bool = False, revision: str | None = None) -> str:
        """Pushes the adapter with its model card to ``repository`` (owner/name) of a model hub; returns its page.

        A new repository is private, unless ``public``; ``revision`` is a branch, by default main. HF_TOKEN and HF_ENDPOINT are
        those of the environment or of ``.env``. Raises UsageError for an address or a public repository that was not asked for,
        CredentialError where the hub refuses the token, UnreachableError where it does not answer.
        """
        from launcher.after.push import Destination, push
        from launcher.experiment.files import read_env
        from launcher.job.target import Target

        try:
            done = push(Target.of(self.folder), Destination(repository, public, revision), read_env(Path()))
        except LauncherError as error:
            raise error from None  # the frames of the hub's client would hide the message
        notices(done.notices)
        return done.url

    @cached_property
    def _loaded(self) -> tuple[Loaded, Prompted]:
        from .after.loaded import find
        from .after.prompted import Prompted
        from .prepare.rank import Roots

        found = find(self.folder, Roots.from_environment().cache, with_start=True)
        return found.load(), Prompted.of(found)

    @cached_property
    def _reference(self) -> Loaded:
        """What answers for the base model: the same weights with the adapter switched off, or the base beside whole weights."""
        loaded, _ = self._loaded
        return loaded if loaded.has_base else replace(loaded, model=loaded.reference())

    @classmethod
    def of(cls, run: RunDir) -> Self:
        """What the record and the log of ``run``, which is done, say."""
        record = run.read_record()
        result = record["result"]
        return cls(
            run=run.name,
            folder=run.path,
            adapter=run.adapter,
            logs=run.steps,
            tensorboard=run.tensorboard,
            steps=int(result["steps"]),
            seconds=float(result["train_seconds"]),
            loss=result["train_loss"],
            before=_copied(result.get("before")),
            after=_copied(result.get("after")),
            training=_copied(result.get("training")),
            best_step=result["best_step"],
            verified=int(result["verified"]["tensors"]),
            uploaded=(record.get("uploaded") or {}).get("uri"),
        )

    def __fspath__(self) -> str:
        return str(self.adapter)

    def json(self) -> dict[str, Any]:
        """The same in JSON's types."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
        return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}

    def __repr__(self) -> str:
        loss = "" if self.loss is None else f", loss={self.loss:.4f}"
        return f"Trained({self.run!r}, steps={self.steps}{loss})"

    def _repr_html_(self) -> str | None:
        """The summary that a notebook shows; None, which makes it show the ``repr``, where the run's folder is gone."""
        from launcher.report.reported import Reported
        from launcher.report.summary import summary

        run = RunDir(self.folder)
        return summary(Reported.of(run)) if run.record.is_file() else None

    def __str__(self) -> str:
        lines = [f"{self.run}: {self.steps} steps in {self.seconds:.1f} s"]
        figures = Figures.of({"before": self.before, "after": self.after, "training": self.training})
        if figures is not None:
            lines += [f"  {figures.what}", f"  {'':<24}" + "".join(f"{moment:>14}" for moment in figures.moments)]
            lines += [f"  {label:<24}" + "".join(f"{cell:>14}" for cell in cells) for label, *cells in figures.rows]
        elif self.loss is not None:
            lines.append(f"  loss      {self.loss:.4f}")
        if figures is not None and figures.displaced is not None:
            lines.append(f"  {labelled(figures.displaced)}")
        lines.append(f"  adapter   {self.adapter} ({self.verified} tensors, read back and compared)")
        if self.uploaded is not None:
            lines.append(f"  uploaded  {self.uploaded}")
        return "\n".join(lines)


def _copied(figures: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if figures is None else dict(figures)
