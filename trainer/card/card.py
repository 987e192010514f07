"""README.md of what a run trained: a model card with metadata that a hub reads and figures that a person reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from huggingface_hub import ModelCard, ModelCardData

from launcher.errors import Warned
from launcher.experiment.schema import Experiment
from launcher.redact import REDACTOR
from launcher.report.reported import Reported
from launcher.runs.run_dir import RunDir
from launcher.runs.whole import write_whole

from ..output import notices
from .base import Base
from .text import CardText

FILE: Final = "README.md"


def write_card(run: RunDir, experiment: Experiment, folder: Path, base: Base, *, is_merged: bool = False) -> None:
    """Writes the card of ``run``, which trained ``experiment``, into ``folder``, in place of the one that PEFT leaves.

    The run's record has its result. ``is_merged``: ``folder`` holds base and adapter in one. Never fails a run: a section that
    cannot be written is left out with a warning, and a card that cannot is missing.
    """
    try:
        (folder / FILE).unlink(missing_ok=True)  # PEFT's: empty headings and a path of this machine
        found = Reported.of(run)
        trained = replace(found, record={**found.record, "experiment": experiment.model_dump(mode="json")})
        text = CardText(trained, base, is_merged)
        body = "\n\n".join(_written(text))
        card = ModelCard(f"---\n{metadata(text).to_yaml()}\n---\n\n{body}\n")
        write_whole(folder / FILE, REDACTOR.text(str(card)))
    except Exception as error:
        notices([Warned(f"no model card: {_reason(error)}")])


def metadata(text: CardText) -> ModelCardData:
    """What a hub reads. A base model that is not on a hub has no entry: it would name another one, or a path."""
    base, tags = text.base, [text.method, "trl", "transformers", "dpo-launcher"]
    more: dict[str, Any] = dict(base.licence)
    if base.hub is not None:
        more |= {"base_model": base.hub, "base_model_relation": "finetune" if text.is_whole else "adapter"}
    if text.data_sets:
        more["datasets"] = sorted(text.data_sets)
    library = "transformers" if text.is_whole else "peft"
    tags += [] if text.is_whole else ["lora"]
    return ModelCardData(library_name=library, pipeline_tag="text-generation", tags=sorted(tags), **more)


def _written(text: CardText) -> Iterator[str]:
    sections: tuple[Callable[[], str], ...] = (
        text.title, text.summary, text.loading, text.figures, text.answers, text.data, text.training, text.repeating,
    )  # fmt: skip
    for section in sections:
        try:
            found = section()
        except Exception as error:  # a record of another version, a file that another program wrote
            notices([Warned(f"the model card has no section {section.__name__!r}: {_reason(error)}")])
            continue
        if found:
            yield found


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
