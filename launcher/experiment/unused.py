"""Keys of an experiment without effect, for one notice. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..errors import Warned
from .other_tools.method import SFT, idle
from .other_tools.neutral import neutral_keys
from .other_tools.other_names import spelt
from .other_tools.trl_fields import Fate, ignored
from .schema import ColumnMapping, Experiment, StorageConfig
from .sections.hyperparameters import Hyperparameters
from .sections.optimizer import BY_EVALUATIONS, WITHOUT_WARMUP
from .sections.section import Section

_SECTIONS: Final[Mapping[str, type[Section]]] = {
    "hyperparameters": Hyperparameters,
    "storage_config": StorageConfig,
    "dpo_column_mapping_config": ColumnMapping,
    "column_mapping_config": ColumnMapping,
}


def without_effect(data: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence with all dropped keys; one for each TRL field without effect; one for a warm-up given twice; one for each
    setting that another setting disables.
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
    said += map(Warned, _idle(h)) if isinstance(h, Mapping) else ()
    return tuple(said)


def _idle(h: Mapping[str, Any]) -> Iterator[str]:
    """For each setting that another one disables, a sentence that names both."""
    schedule, saves, logs = h.get("lr_scheduler_type"), h.get("save_strategy"), h.get("logging_strategy")
    if (instead := WITHOUT_WARMUP.get(str(schedule))) is not None:
        names = [name for name in ("warmup_ratio", "warmup_steps") if h.get(name)]
        yield from (f"{name} has no effect with lr_scheduler_type: {schedule}; use {instead}" for name in names)
    if saves in ("epoch", "no") and h.get("save_steps") is not None:
        yield f"save_steps has no effect with save_strategy: {saves}"
    if logs in ("epoch", "no") and h.get("logging_steps") is not None:
        yield f"logging_steps has no effect with logging_strategy: {logs}"
    patience = h.get("early_stopping_patience") is not None
    chooses = h.get("load_best_model_at_end") or patience or saves == "best" or schedule in BY_EVALUATIONS
    for name in () if chooses else ("metric_for_best_model", "greater_is_better"):
        if h.get(name) is not None:
            yield f"{name} has no effect without load_best_model_at_end, early_stopping_patience or save_strategy: best"
    if h.get("early_stopping_threshold") and not patience:
        yield "early_stopping_threshold has no effect without early_stopping_patience"
