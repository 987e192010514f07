"""The resolved experiment that a run reads: ``experiment.json`` in its folder."""

from __future__ import annotations

from typing import Final

from .schema import Experiment
from .sections.lora import OF_ADAPTER, LoraSettings

# LoRA settings that are part of an adapter: a run that continues one takes its values if they are unset.
SHAPE: Final = tuple(name for name in LoraSettings.model_fields if name in OF_ADAPTER - {"random_state", "init_lora_weights"})


def default_of(name: str) -> object:
    """The default of a LoRA setting."""
    return LoraSettings.model_fields[name].get_default(call_default_factory=True)


def resolved(experiment: Experiment) -> str:
    """All settings with their values, as JSON. Unset LoRA settings are left out if an adapter that is not read yet decides
    them.

    The run reads the adapter, and must be able to tell a given ``r: 16`` from the default.
    """
    h, is_continued = experiment.hyperparameters, experiment.adapter is not None and experiment.adapter_mode == "continue"
    unset = (name for name in SHAPE if name not in h.model_fields_set and getattr(h, name) == default_of(name))
    left_out = set(unset) if is_continued else set()
    return experiment.model_dump_json(indent=2, exclude={"hyperparameters": left_out} if left_out else None) + "\n"
