"""Writes README.md of trained weights: metadata for the hub, results for people."""

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
    """Writes the card of ``run`` (``experiment``) to ``folder``, replacing the one that PEFT leaves.

    ``is_merged``: ``folder`` holds base and adapter merged. Never fails a run: sections that cannot be written are left out
    with a warning.
    """
    try:
        (folder / FILE).unlink(missing_ok=True)  # PEFT's card has empty headings and a path of this machine
        found = Reported.of(run)
        trained = replace(found, record={**found.record, "experiment": experiment.model_dump(mode="json")})
        text = CardText(trained, base, is_merged)
        body = "\n\n".join(_written(text))
        card = ModelCard(f"---\n{metadata(text).to_yaml()}\n---\n\n{body}\n")
        write_whole(folder / FILE, REDACTOR.text(str(card)))
    except Exception as error:
        notices([Warned(f"no model card: {_reason(error)}")])


def metadata(text: CardText) -> ModelCardData:
    """Metadata for the hub. A base model that is not on a hub has no entry, which would name another model or a path."""
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
        except Exception as error:  # such as a record of another version, or a file of another program
            notices([Warned(f"the model card has no section {section.__name__!r}: {_reason(error)}")])
            continue
        if found:
            yield found


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
