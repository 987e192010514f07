"""Unused: the keys of an experiment that have no effect, for the one notice that names them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import Warned
from .other_tools.method import SFT, idle
from .other_tools.neutral import neutral_keys
from .other_tools.other_names import spelt
from .other_tools.trl_fields import Fate, ignored
from .schema import ColumnMapping, Experiment, StorageConfig
from .sections.hyperparameters import Hyperparameters
from .sections.section import Section

_SECTIONS: Final[Mapping[str, type[Section]]] = {
    "hyperparameters": Hyperparameters,
    "storage_config": StorageConfig,
    "dpo_column_mapping_config": ColumnMapping,
    "column_mapping_config": ColumnMapping,
}


def without_effect(data: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence that names every key of an experiment that is left out, one for each field of TRL that does nothing here, and
    one for a warm-up that is given twice.
    """
    keys = list(neutral_keys("", data, Experiment.model_fields))
    h = data.get("hyperparameters")
    for section, known in _SECTIONS.items():
        values = data.get(section)
        if isinstance(values, Mapping):
            above = "" if section == "hyperparameters" else f"{section}."
            keys += [f"{above}{key}" for key in neutral_keys(section, values, known.model_fields)]
    said: list[str] = [f"no effect here: {', '.join(keys)}"] if keys else []
    if spelt(str(data.get("method"))) == SFT and isinstance(h, Mapping) and (unused := idle(h)):
        said.append(f"no effect with method: sft: {', '.join(unused)}")
    said += [Warned(one) for one in ignored(h, Fate.NOTHING)] if isinstance(h, Mapping) else []
    steps, ratio = (h.get("warmup_steps"), h.get("warmup_ratio")) if isinstance(h, Mapping) else (None, None)
    if steps and ratio is not None:
        said.append(f"warmup_steps: {steps} is used and warmup_ratio: {ratio} is not, as in transformers")
    return tuple(said)
