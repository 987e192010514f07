"""The keyword arguments of ``DPOTrainer``: the keys of an experiment, as a type for editors and as text for ``help()``.

Types, defaults and sentences come from the schema; a test compares ``Settings`` with it. It loads no torch.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypedDict

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from launcher.experiment.schema import ColumnMapping, Experiment, Launch, StorageConfig
from launcher.experiment.sections.data_checks import DataChecks
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.experiment.sections.samples import Samples
from launcher.experiment.sections.watched import Health

Columns = ColumnMapping | Mapping[str, Any]


class Settings(TypedDict, total=False):
    """The keys of an experiment beside ``model_name``. A section is its class, or a mapping of the same keys."""

    experiment_id: str | int
    topic: str
    adapter: str
    adapter_mode: Literal["continue", "merge"]
    method: Literal["dpo", "sft"]
    framework: Literal["trl", "unsloth"]
    multimodal: bool
    datasets_path: str
    train_filename: str
    validation_filename: str
    validation_split: float
    prompt_filename: str
    spreadsheet_id: str
    train_sheet: str
    validation_sheet: str
    prompt_sheet: str
    prompt_name: str
    dpo_column_mapping_config: Columns
    column_mapping_config: Columns
    save_processed_dataset: bool
    output_processed_dir: str
    hyperparameters: Hyperparameters | Mapping[str, Any]
    storage_config: StorageConfig | Mapping[str, Any]
    checkpoint_to: str
    launch: Launch | Mapping[str, Any]
    data_checks: DataChecks | Mapping[str, Any]
    health: Health | Mapping[str, Any]
    samples: Samples | Mapping[str, Any] | list[int | str] | int
    notify: str


class _Written:
    """A type or a default as it is written in the documentation."""

    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return self._text


def signature(own: inspect.Signature) -> inspect.Signature:
    """``own`` with the experiment's keys, their types and defaults, for its ``**settings``."""
    kept = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD and p.name != "self"]
    keys = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=_Written(default(field)), annotation=_Written(written(field.annotation))
        )
        for name, field in Experiment.model_fields.items()
        if name != "model_name"
    ]
    return inspect.Signature([*kept, *keys])


def documented() -> str:
    """One line for every key of an experiment, and for every key of ``hyperparameters``: type, default, sentence."""
    parts = [("Keys of an experiment:", Experiment), ("Keys of hyperparameters:", Hyperparameters)]
    return "\n\n".join("\n".join([title, *_keys(section)]) for title, section in parts)


def _keys(section: type[BaseModel]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        value = "required" if field.is_required() else f"default {default(field)}"
        yield f"    {name}: {written(field.annotation)} ({value}): {field.description}"


def default(field: FieldInfo) -> str:
    """The default as a person writes it: a section by its class."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"{type(value).__name__}()"
    if isinstance(value, Mapping):
        return repr(dict(value))
    return repr(list(value) if isinstance(value, tuple) else value)


def written(hint: Any) -> str:
    """A type in a few words: what YAML can hold, without limits and validators."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return written(inner[0])
    if origin is Literal:
        return " | ".join(map(repr, inner))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(written(part) for part in inner))
    if origin is not None and issubclass(origin, Mapping):
        return "dict"
    if origin is tuple:
        return f"list[{written(inner[0])}]"
    return "None" if hint is type(None) else getattr(hint, "__name__", str(hint))
