"""Resolved: the text by which a run reads its experiment, ``experiment.json`` in its folder."""

from __future__ import annotations

from typing import Final

from .schema import Experiment
from .sections.lora import OF_ADAPTER, LoraSettings

# The LoRA settings that an adapter has: a run that continues one follows it where they are unset.
SHAPE: Final = tuple(name for name in LoraSettings.model_fields if name in OF_ADAPTER - {"random_state", "init_lora_weights"})


def default_of(name: str) -> object:
    """The value of a LoRA setting that nobody gave."""
    return LoraSettings.model_fields[name].get_default(call_default_factory=True)


def resolved(experiment: Experiment) -> str:
    """All settings with their values, in JSON; without those that nobody gave and an adapter decides that was not read yet.

    The run reads the adapter, and must tell ``r: 16`` in a file from the default.
    """
    h, is_continued = experiment.hyperparameters, experiment.adapter is not None and experiment.adapter_mode == "continue"
    unset = (name for name in SHAPE if name not in h.model_fields_set and getattr(h, name) == default_of(name))
    left_out = set(unset) if is_continued else set()
    return experiment.model_dump_json(indent=2, exclude={"hyperparameters": left_out} if left_out else None) + "\n"
