"""The configuration of an adapter that a run starts from: its base model, its shape, and how it can be used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import ExperimentError, LauncherError, Mistake, Warned
from ..experiment.resolved import SHAPE, default_of
from ..experiment.schema import Experiment
from ..experiment.sections.targets import is_all_linear

ADAPTER: Final = "adapter_config.json"
# Values of init_lora_weights with which PEFT leaves the base's weights unchanged. Any other value subtracts a part of them when
# the adapter is made, and the adapter belongs to what is left.
_LEAVES_BASE: Final = ("gaussian", "eva", "orthogonal", "mica")
CONVERT: Final = (
    "convert it where it was trained, with PEFT: save_pretrained(…, path_initial_model_for_weight_conversion=…); "
    "or save the changed base, name it in base_model_name_or_path and set init_lora_weights: true"
)
# What makes an adapter more than two matrices a layer: its parts cannot be added to those of another adapter.
_NOT_PLAIN: Final = ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "target_parameters")
# Variants that cannot be trained on here: PEFT decides by the prompt's ids or at random what they add, changes the base when it
# loads them, or has several modules for one place in the base.
_NOT_TRAINED: Final = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "use_bdlora",
    "velora_config",
)


def changed_base(values: Mapping[str, Any]) -> str | None:
    """Why an adapter with PEFT's settings ``values`` does not fit the base model's published weights; None if it does."""
    start = values.get("init_lora_weights", True)
    if not isinstance(start, str) or start.lower() in _LEAVES_BASE:
        return None
    return f"init_lora_weights: {start}, which subtracts a part from the base's weights"


def check_loaded(folder: Path) -> None:
    """Raises LauncherError if the adapter in ``folder`` does not fit the base model's published weights.

    On loading, PEFT subtracts the part again for PiSSA and OLoRA, so the plain base cannot be restored by disabling the
    adapter. For the other methods PEFT loads the adapter on the published weights, without a warning.
    """
    changed = changed_base(json.loads((folder / ADAPTER).read_text(encoding="utf-8")))
    if changed is not None:
        raise LauncherError(f"the adapter in {folder} has {changed}\n    hint:     {CONVERT}")


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter's ``adapter_config.json`` says, under PEFT's names."""

    name: str
    values: Mapping[str, Any]
    text: str = field(default="", repr=False)

    @classmethod
    def read(cls, name: str, file: Path) -> AdapterConfig:
        """Reads the configuration of the adapter ``name``. Raises ExperimentError if ``file`` is not that of a LoRA adapter."""
        try:
            values = json.loads(text := file.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise TypeError("not a JSON object")
        except (OSError, ValueError, TypeError) as error:
            raise ExperimentError(
                Mistake("adapter", f"cannot read {file}", "the configuration of an adapter", str(error))
            ) from error
        if values.get("peft_type", "LORA") != "LORA":
            what = f"{name} is an adapter of another kind"
            raise ExperimentError(Mistake("adapter", what, "a LoRA adapter", f"peft_type {values['peft_type']}"))
        return cls(name, values, text)

    @property
    def base(self) -> str | None:
        """The model that it was trained on, according to its configuration."""
        found = self.values.get("base_model_name_or_path")
        return str(found) if found else None

    @property
    def not_plain(self) -> str | None:
        """Why it cannot be added to another adapter; None if it is a plain LoRA (two matrices per layer)."""
        names = [name for name in _NOT_PLAIN if self.values.get(name)]
        if self.values.get("bias", "none") != "none":
            names.append("bias")
        return ", ".join(f"{name}: {json.dumps(self.values[name])}" for name in names) or None

    def place(self, setting: str) -> str:
        """``file:line`` of a setting."""
        lines = self.text.splitlines()
        line = next((number for number, one in enumerate(lines, 1) if one.lstrip(" {").startswith(f'"{setting}"')), 1)
        return f"{self.name}/{ADAPTER}:{line}"

    def shape(self) -> dict[str, Any]:
        """Its LoRA settings, under the experiment's keys."""
        given = {name: self.values[name] for name in SHAPE if name in self.values}
        return {name: _default(name) if value is None else _frozen(value) for name, value in given.items()}


def _default(name: str) -> Any:
    """The default of a setting that the adapter leaves out. Without target_modules it trains only ``target_parameters``."""
    return () if name == "target_modules" else default_of(name)


def _frozen(value: Any) -> Any:
    return tuple(sorted(value)) if isinstance(value, list) else value


def followed(experiment: Experiment, config: AdapterConfig) -> Experiment:
    """``experiment`` with the shape of the adapter that it continues: unset settings take the adapter's values.

    Raises ExperimentError if a given setting contradicts the adapter; the message names both places.
    """
    if experiment.adapter_mode == "merge":
        return experiment
    h = experiment.hyperparameters
    shape = config.shape()
    mistakes = [
        Mistake(
            f"hyperparameters.{name}",
            f"{name} contradicts the adapter {config.name}, which adapter_mode: continue keeps",
            f"unset, or {_shown(value)} as in {config.place(name)}",
            _shown(getattr(h, name)),
            "remove it, or train a new adapter with adapter_mode: merge",
        )
        for name, value in shape.items()
        if name in h.model_fields_set and not _agrees(name, getattr(h, name), value)
    ]
    if mistakes:
        raise ExperimentError(mistakes)
    kept = h.model_copy(update=shape)
    kept.model_fields_set.intersection_update(h.model_fields_set)
    return experiment.model_copy(update={"hyperparameters": kept})


def _agrees(name: str, given: Any, value: Any) -> bool:
    if name == "target_modules" and is_all_linear(given):
        return True
    return bool(_comparable(given) == _comparable(value))


def _comparable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return sorted(value) if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value)


def check_start(experiment: Experiment, config: AdapterConfig) -> None:
    """Raises ExperimentError for an adapter that does not fit its base's published weights or is of an unsupported variant, and
    if the new adapter on the merged one could not be published for the plain base.
    """
    h = experiment.hyperparameters
    if (changed := changed_base(config.values)) is not None:
        raise ExperimentError(Mistake("adapter", f"{config.name} has {changed}", "an adapter of the base as it is", hint=CONVERT))
    variant = next((setting for setting in _NOT_TRAINED if config.values.get(setting)), None)
    if variant is not None:
        raise ExperimentError(
            Mistake("adapter", f"{config.name} has {variant}, which is not supported", "a LoRA or DoRA adapter")
        )
    if experiment.adapter_mode != "merge" or h.full_finetuning:
        return
    merged = "merge it with: launcher merge, and name the folder of the merged model in model_name"
    why = config.not_plain
    if why is not None:
        what = f"{config.name} has {why}: it cannot be joined with the adapter that is trained on it"
        raise ExperimentError(Mistake("adapter", what, "adapter_mode: continue, or a plain LoRA adapter", hint=merged))
    new = next((name for name in _NOT_PLAIN if getattr(h, name, None)), None)
    if new is not None:
        what = f"an adapter with {new} cannot be joined with the merged one"
        raise ExperimentError(Mistake(f"hyperparameters.{new}", what, "unset with adapter_mode: merge", hint=merged))


def of_model(experiment: Experiment, config: AdapterConfig) -> tuple[Experiment, str]:
    """For a ``model_name`` that is an adapter with this ``config``: (the experiment with base and adapter apart, a notice)."""
    name = experiment.model_name
    if experiment.adapter is not None:
        what = f"{name} is an adapter, and adapter names another one"
        raise ExperimentError(Mistake("model_name", what, f"the base model{f' {config.base}' if config.base else ''}", name))
    if config.base is None:
        what = f"{name} is an adapter, and its {ADAPTER} names no base model"
        hint = f"set model_name to its base model, and adapter: {name}"
        raise ExperimentError(Mistake("model_name", what, "base_model_name_or_path in it", hint=hint))
    values = {**experiment.model_dump(mode="python", include={"adapter_mode"}), "model_name": config.base, "adapter": name}
    found = experiment.model_copy(update=values)
    h = found.hyperparameters
    needs_base = {"full_finetuning": h.full_finetuning, "ld_alpha": h.trl.get("ld_alpha") is not None and not found.is_sft}
    wrong = next((setting for setting, is_set in needs_base.items() if is_set), None)
    if wrong is not None and found.adapter_mode == "continue":
        what = f"{name} is an adapter: {wrong} cannot continue it"
        hint = f"set model_name: {config.base}, adapter: {name} and adapter_mode: merge"
        raise ExperimentError(Mistake("model_name", what, "a model with all its weights", hint=hint))
    return found, f"model {name} is an adapter: base {config.base}, adapter {name}, {found.adapter_mode}"


def other_base(experiment: Experiment, config: AdapterConfig) -> Iterator[str]:
    """A warning where the adapter's configuration names another base than the experiment."""
    named = config.base
    if named is not None and _last(named) != _last(experiment.model_name):
        yield Warned(f"the adapter {config.name} was trained on {named}, and model_name is {experiment.model_name}")


def _last(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()
