"""Translated: the keys and values of another tool's config as ours, and what has no place here. Pure.

``other_names`` says what a key means; here is what follows for its value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .method import DPO, SFT, refused
from .neutral import neutral_keys
from .other_names import KEYS, meaning, spelt
from .other_values import meant_value
from .tools import Tool
from .trl_fields import FIELDS, REFUSED, Fate, trl_fields

_SECTION: Final = "hyperparameters"
_METHODS: Final = ("rl", "stage", "rlhf_type")
_RPO: Final = "rpo_alpha"
# sections of other tools whose keys are read as if they stood at the top level
_INNER: Final = frozenset((*KEYS[""][_SECTION].split(), "trl"))
_USE: Final = re.compile(r"use ([\w.]+)(?: \(this project's name for \w+\))?")
# our key -> why another tool's value is not taken over
_OURS: Final[Mapping[str, str]] = {
    "model_output_dir": "runs are kept in data/dpo/model; `launcher ps` lists them",
    "use_gradient_checkpointing": "auto: only if GPU memory is short",
    "attn_implementation": "the attention kernel is chosen automatically",
    "compile": "auto: the layers are compiled where it pays",
    "dpo_path": "the fast path packs pairs without padding, and computes the loss in chunks",
    "experiment_id": "the name of the file is used",
    "resume_from_checkpoint": "checkpoints of another tool cannot be resumed; `launcher resume RUN` resumes a run",
}
_SPLITS: Final = ("train_filename", "validation_filename")
# types of Axolotl's preference datasets -> their columns: prompt, chosen, rejected
_TYPES: Final[Mapping[str, tuple[str, str, str]]] = {
    "intel": ("question", "chosen", "rejected"),
    "icr": ("input", "chosen", "rejected"),
    "prompt_pairs": ("prompt", "chosen", "rejected"),
    "ultra": ("prompt", "chosen", "rejected"),
    "argilla": ("instruction", "chosen_response", "rejected_response"),
}


@dataclass(frozen=True)
class Left:
    """A key that was not taken over, and why."""

    key: str
    value: Any
    why: str


@dataclass
class Translation:
    """``settings``: path of our key -> value, in the order of the config; ``left``: what has no place here; ``defaults``: the
    paths that the tool's defaults set; ``refused``: why the config's method is none of ours.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    defaults: list[str] = field(default_factory=list)
    refused: str | None = None


def translated(values: Mapping[str, Any], tool: Tool | None, of_experiment: Collection[str], own: Collection[str]) -> Translation:
    """``values`` of a config as settings of ours. ``of_experiment``: the keys of an experiment, ``own``: of hyperparameters."""
    found, flat = Translation(), dict(_flat(values))
    neutral = set(neutral_keys(_SECTION, flat, own)) | set(neutral_keys("", flat, of_experiment))
    _method(flat, tool, found)
    for key, value in flat.items():
        if key in (*_METHODS, _RPO) or key in found.settings:
            continue
        if key not in neutral and not _is_idle(key):
            _translate(key, value, of_experiment, own, found)
    _with_likelihood(flat.get(_RPO), found)
    if tool is not None:
        _defaults(flat, tool, found)
    return found


def _with_likelihood(alpha: Any, found: Translation) -> None:
    """The loss with ``alpha`` times the negative log-likelihood of the chosen answers (RPO), which TRL calls the loss sft."""
    if isinstance(alpha, int | float) and alpha > 0:
        loss = found.settings.get(f"{_SECTION}.loss_type", "sigmoid")
        found.settings[f"{_SECTION}.loss_type"] = [*(loss if isinstance(loss, list) else [loss]), "sft"]
        found.settings.setdefault(f"{_SECTION}.loss_weights", [*[1.0] * (1 if isinstance(loss, str) else len(loss)), alpha])


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if spelt(key) in _INNER and isinstance(value, Mapping):
            yield from value.items()
        else:
            yield key, value


def _is_idle(key: str) -> bool:
    return key in FIELDS and FIELDS[key].fate in (Fate.NOTHING, Fate.BATCHES)


def _method(flat: Mapping[str, Any], tool: Tool | None, found: Translation) -> None:
    """The method; a loss of DPO that stands where another tool names the method."""
    key, value = next(((key, flat[key]) for key in _METHODS if flat.get(key)), ("", None))
    if value is None and tool is not None:
        value = tool.trains
    if value == SFT:
        found.settings["method"] = SFT
    elif value == "ipo":
        found.settings[f"{_SECTION}.loss_type"] = "ipo"
    elif value is not None and value != DPO:
        found.refused = refused(str(value)) or f"{key}: {value} is no method of this tool, which knows dpo and sft"


def _translate(key: str, value: Any, of_experiment: Collection[str], own: Collection[str], found: Translation) -> None:
    name = spelt(key)
    if name == "adapter" and value in ("lora", "qlora"):
        if value == "qlora":
            found.settings.setdefault(f"{_SECTION}.load_in_4bit", True)
        return
    if name in _DATASETS:
        _DATASETS[name](key, value, found)
        return
    said = meaning("", key) or REFUSED.get(key) or ""
    if key in own or (key in trl_fields() and key not in REFUSED):
        path: str | None = f"{_SECTION}.{key}"
    elif key in of_experiment:
        path = key
    else:
        use = _USE.fullmatch(said)
        path = use and (f"{_SECTION}.{use[1]}" if use[1] in own else use[1])
    ours = "" if path is None else path.rpartition(".")[2]
    if path is None or ours in _OURS:
        why = (
            _OURS.get(ours)
            or re.sub(r"; remove (?:the key|it)(?=$|,)", "", said.removeprefix(f"{key} is "))
            or "no such key here"
        )
        found.left.append(Left(key, value, why))
    else:
        _put(key, value, path, found)


def _put(key: str, value: Any, path: str, found: Translation) -> None:
    """The value at our key ``path``, as our key takes it."""
    ours = path.rpartition(".")[2]
    if ours == "target_modules" and isinstance(value, str):
        value = "all-linear" if value in ("all", "all-linear") else value.split(",") if "," in value else value
    elif ours == "full_finetuning" and isinstance(value, str):
        if value != "full":
            found.left.append(Left(key, value, "not supported: this tool trains LoRA or all weights"))
            return
        value = True
    elif ours == "load_in_4bit" and str(value) == "8":
        path, value = f"{_SECTION}.load_in_8bit", True
    elif ours == "load_in_4bit" and str(value) in ("4", "nf4"):
        value = True
    elif ours == "parallelism" and (zero := re.search(r"z(?:ero_?)?([123])", str(value))) is not None:
        value = f"zero{zero[1]}"
    elif isinstance(value, str) and (meant := meant_value(ours, value)) is not None:
        use = re.fullmatch(r"use ([\w-]+)", meant)
        if use is None:
            found.left.append(Left(key, value, meant))
            return
        value = use[1]
    found.settings[path] = value


def _datasets(key: str, value: Any, found: Translation) -> None:
    """Axolotl's list, or a name: one dataset."""
    every = value if isinstance(value, list) else [value]
    if len(every) != 1:
        found.left.append(Left(key, value, meaning("", "dataset_mixer") or ""))
        return
    one = {"path": every[0]} if isinstance(every[0], str) else every[0]
    path = one.get("path") if isinstance(one, Mapping) else None
    if not isinstance(path, str) or not _place(path, one.get("name"), found):
        found.left.append(Left(key, value, "name its file: datasets_path is the folder, train_filename the file"))
        return
    if isinstance(one.get("split"), str) and "train_filename" not in found.settings:
        found.settings["train_filename"] = one["split"]
    columns = _TYPES.get(str(one.get("type")).rpartition(".")[2], ("prompt", "chosen", "rejected"))
    names = [one.get(f"field_{role}") or own for role, own in zip(("messages", "chosen", "rejected"), columns, strict=True)]
    if names != ["prompt", "chosen", "rejected"] or one.get("field_system"):
        mapping: dict[str, Any] = {"input_columns": {"prompt": names[0]}, "chosen": names[1], "rejected": names[2]}
        if one.get("field_system"):
            mapping["system"] = one["field_system"]
        found.settings["dpo_column_mapping_config"] = mapping


def _place(path: str, config: Any, found: Translation) -> bool:
    """Notes where the dataset ``path`` is, a file or a name on the hub; False for what is neither."""
    if re.search(r"\.(jsonl?|csv|tsv|parquet|arrow)$", path):
        folder, _, file = path.rpartition("/")
        found.settings |= {"datasets_path": folder or ".", "train_filename": file}
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None:
        found.settings["datasets_path"] = f"hf://{path}" + (f"?config={config}" if isinstance(config, str) else "")
    else:
        return False
    return True


def _as(name: str) -> Any:
    def noted(key: str, value: Any, found: Translation) -> None:
        found.settings[name] = value

    return noted


def _mixer(key: str, value: Any, found: Translation) -> None:
    """The alignment handbook's mixture: {name: share}, or the splits of a dataset in a list under ``datasets``."""
    listed = value.get("datasets") if isinstance(value, Mapping) else None
    named = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    if named and len(named) <= len(_SPLITS) and len({(one.get("id"), one.get("config")) for one in named}) == 1:
        _datasets(key, [{"path": named[0].get("id"), "name": named[0].get("config")}], found)
        _splits(key, [one.get("split", "train") for one in named], found)
        if len(named) == 1 and isinstance(share := value.get("test_split_size"), float):
            found.settings["validation_split"] = share
    elif isinstance(value, Mapping) and len(value) == 1 and all(isinstance(share, int | float) for share in value.values()):
        _datasets(key, next(iter(value)), found)
    else:
        found.left.append(Left(key, value, meaning("", key) or ""))


def _splits(key: str, value: Any, found: Translation) -> None:
    names = value if isinstance(value, list) else [value]
    found.settings |= dict(zip(_SPLITS, names, strict=False))


def is_of_data(key: str) -> bool:
    """Whether another tool's ``key`` names its data."""
    return spelt(key) in _DATASETS and key != "global_batch_size"


_DATASETS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(
        ("dataset", "datasets", "dataset_name", "dataset_path", "data_path", "train_dataset", "train_file"), _datasets
    ),
    **dict.fromkeys(("dataset_mixer", "dataset_mixture"), _mixer),
    "dataset_splits": _splits,
    "dataset_train_split": _as("train_filename"),
    "dataset_test_split": _as("validation_filename"),
    "global_batch_size": _as("launch.global_batch_size"),
}


def _defaults(flat: Mapping[str, Any], tool: Tool, found: Translation) -> None:
    """What the tool does where its config says nothing, and ours would do something else."""
    lora = tool.has_lora(flat)
    if not lora:
        found.settings[f"{_SECTION}.full_finetuning"] = True
    for name, value in {**tool.defaults, **(tool.of_lora if lora else {})}.items():
        if name != "learning_rate" or found.settings.get("method") != SFT:
            _default(name, value, found)
    if lora and tool.name == "LLaMA-Factory":
        _default("lora_alpha", 2 * found.settings[f"{_SECTION}.r"], found)
    if not lora:  # what belongs to an adapter has no effect there
        for name in [path for path in found.settings if path.rpartition(".")[2] in _OF_LORA]:
            del found.settings[name]


def _default(name: str, value: Any, found: Translation) -> None:
    if name == "gradient_accumulation_steps" and "launch.global_batch_size" in found.settings:
        return  # it follows
    if f"{_SECTION}.{name}" not in found.settings:
        found.settings[f"{_SECTION}.{name}"] = value
        found.defaults.append(f"{_SECTION}.{name}")


_OF_LORA: Final = ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "load_in_4bit", "load_in_8bit")
