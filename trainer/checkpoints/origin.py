"""A checkpoint's origin (``origin.json``), and whether a run may resume from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from launcher.errors import DataError, ExperimentError, Mistake, Warned
from launcher.experiment.schema import Experiment

from ..inputs.models.starting import Start
from ..inputs.tokens.tokens import Tokens
from ..processes.ranks.machine import Device, versions
from ..reference.reference import answer_keys

FILE: Final = "origin.json"
# Settings that change no number of the training: where things are written, when they are logged, how they are computed.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "hyperparameters_id", "model_cache_dir", "gpu_memory_utilization", "trust_remote_code", "report_to", "logging_steps",
        "save_strategy", "save_steps", "save_total_limit", "eval_strategy", "eval_steps", "load_best_model_at_end",
        "metric_for_best_model", "greater_is_better", "early_stopping_patience", "early_stopping_threshold",
        "resume_from_checkpoint", "model_output_dir", "template_date", "use_gradient_checkpointing", "dpo_path", "compile",
        "trl", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps",
    }
)  # fmt: skip
_TRL_WITHOUT_EFFECT: Final = ("logging_", "save_", "eval_", "dataloader_", "dataset_num_proc", "ddp_", "log_", "push_", "hub_")
_LENGTH: Final = ("num_train_epochs", "max_steps")


def mathematics(experiment: Experiment) -> dict[str, Any]:
    """The settings that change results: name -> JSON value."""
    dumped = experiment.model_dump(mode="json")["hyperparameters"]
    own = {name: value for name, value in dumped.items() if name not in _WITHOUT_EFFECT}
    trl = {name: value for name, value in dumped["trl"].items() if not name.startswith(_TRL_WITHOUT_EFFECT)}
    method = {"method": experiment.method} if experiment.is_sft else {}  # a checkpoint of an earlier version has none
    return {**own, **trl, "global_batch_size": experiment.global_batch, **method}


def data_key(tokens: Tokens | None) -> dict[str, Any] | None:
    """How many pairs there are, and the SHA-256 of their token ids in their order."""
    if tokens is None:
        return None
    digest = hashlib.sha256()
    for key in answer_keys(tokens.pairs):
        digest.update(key)
    return {"pairs": len(tokens.pairs), "sha256": digest.hexdigest()}


def origin(
    experiment: Experiment, tokens: Tokens, held_out: Tokens | None, device: Device, stage: int, start: Start | None = None
) -> dict[str, Any]:
    """The origin known before the model is loaded; ``base_model`` and ``reference`` are added later.

    ``start``: the adapter that the training starts from.
    """
    dumped = experiment.model_dump(mode="json")["hyperparameters"]
    return {
        "mathematics": mathematics(experiment),
        "length": {name: dumped[name] for name in _LENGTH},
        "data": {"train": data_key(tokens), "validation": data_key(held_out)},
        "per_epoch": experiment.kept(len(tokens.pairs), device.world),
        "adapter": None if start is None else {"name": start.name, "mode": start.mode, "identity": start.identity},
        "template_date": tokens.day,
        "ranks": device.world,
        "zero_stage": stage,
        "machine": {
            "device": torch.cuda.get_device_name() if device.cuda else "cpu",
            "threads": None if device.cuda else torch.get_num_threads(),
            "packages": versions(),
        },
    }


def read(checkpoint: Path) -> dict[str, Any] | None:
    """The checkpoint's ``origin.json``; None if another program, or an older version of this one, wrote it."""
    file = checkpoint / FILE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def day_of(checkpoint: Path | None) -> str | None:
    """The day that the chat template wrote into the checkpoint's pairs; None without a checkpoint or a date."""
    return None if checkpoint is None else (read(checkpoint) or {}).get("template_date")


def check(checkpoint: Path, now: Mapping[str, Any]) -> list[str]:
    """Notices about what is no longer bit-identical when a run of ``now`` resumes from ``checkpoint``.

    Raises ExperimentError if the checkpoint has other settings, and DataError if it has other pairs.
    """
    full = bool(now["mathematics"]["full_finetuning"])
    then = read(checkpoint)
    if (checkpoint / "adapter_config.json").exists() == full or (then or now)["mathematics"]["full_finetuning"] != full:
        kinds = ("an adapter (full_finetuning: false)", "all weights (full_finetuning: true)")
        what = f"{checkpoint} is from a run with another full_finetuning"
        found = "an adapter" if full else "all weights"
        raise ExperimentError(Mistake("hyperparameters.resume_from_checkpoint", what, kinds[full], found))
    if then is None:
        return [Warned(f"{checkpoint} has no {FILE}: it was not checked against this experiment")]
    mistakes = [*_other_start(then, now, checkpoint), *_other_settings(then["mathematics"], now["mathematics"], checkpoint)]
    if mistakes:
        raise ExperimentError(mistakes)
    if then["data"]["train"] != now["data"]["train"]:
        raise DataError(_other_data(then, now, checkpoint))
    if then.get("per_epoch", now["per_epoch"]) != now["per_epoch"]:
        raise ExperimentError(_other_epoch(then, now, checkpoint))
    return list(_differences(then, now))


def check_base(checkpoint: Path, now: str) -> None:
    """Raises ExperimentError if the checkpoint's base weights differ from ``now``."""
    then = (read(checkpoint) or {}).get("base_model", now)
    if then != now:
        what = f"{checkpoint} was trained on another base model"
        raise ExperimentError(Mistake("model_name", what, f"weights {then[:12]}", f"weights {now[:12]}", _ANEW))


_DEFAULTS: Final = {"method": "dpo"}
_PLACES: Final = {"global_batch_size": "launch.global_batch_size", "method": "method"}
_ANEW: Final = "restore the old value, or start over with resume_from_checkpoint: false"


def _other_start(before: Mapping[str, Any], after: Mapping[str, Any], checkpoint: Path) -> Iterator[Mistake]:
    """The mistake if the checkpoint started from another adapter, or used it differently."""
    then, now = before.get("adapter"), after.get("adapter")
    if (then or {}).get("identity") != (now or {}).get("identity"):
        yield Mistake("adapter", f"{checkpoint} was trained from another adapter", _start(then), _start(now), _ANEW)


def _start(adapter: Mapping[str, Any] | None) -> str:
    return "none" if adapter is None else f"{adapter['name']}, {adapter['mode']}, files {adapter['identity'][:12]}"


def _other_settings(then: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> list[Mistake]:
    # A setting that only one of the two versions has is at its default in the other.
    names = [name for name in now if name in then and then[name] != now[name]]
    names += [name for name in then.keys() ^ now.keys() if name in _fields_set(then, now)]
    before = {**_of_ours(), **_DEFAULTS}
    names += [name for name in now.keys() - then.keys() - set(names) if name in before and now[name] != before[name]]
    return [
        Mistake(
            _PLACES.get(name, f"hyperparameters.{name}"),
            f"{checkpoint} was trained with another value",
            json.dumps(then.get(name, before.get(name))),
            json.dumps(now.get(name, before.get(name))),
            _ANEW,
        )
        for name in sorted(names)
    ]


def _of_ours() -> dict[str, Any]:
    """Defaults of our own settings, for checkpoints of versions that lacked them."""
    from launcher.experiment.sections.hyperparameters import Hyperparameters

    return {name: value for name, value in Hyperparameters().model_dump(mode="json").items() if name != "trl"}


def _fields_set(then: Mapping[str, Any], now: Mapping[str, Any]) -> frozenset[str]:
    """TRL's fields that either of the two sets, without our own settings."""
    from launcher.experiment.sections.hyperparameters import Hyperparameters

    return frozenset((then.keys() | now.keys()) - Hyperparameters.model_fields.keys() - {"global_batch_size"})


def _other_data(before: Mapping[str, Any], after: Mapping[str, Any], checkpoint: Path) -> Mistake:
    then, now = before["data"]["train"], after["data"]["train"]
    same_count, day = then["pairs"] == now["pairs"], before.get("template_date")
    if same_count and day is not None and day != after["template_date"]:
        what, found = f"the chat template wrote another date into the pairs of {checkpoint}", str(after["template_date"])
        return Mistake("hyperparameters.template_date", what, day, found, _ANEW)
    return Mistake(
        "training data",
        f"{checkpoint} was trained on other pairs (compared as token ids)",
        f"{then['pairs']} pairs, {then['sha256'][:12]}",
        f"{now['pairs']} pairs, {now['sha256'][:12]}" + (" (another text, prompt, order or tokenizer)" if same_count else ""),
        _ANEW,
    )


def _other_epoch(then: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> Mistake:
    """The position in the epoch would change: some pairs would be trained twice, or never."""
    return Mistake(
        "hyperparameters.dataloader_drop_last",
        f"{checkpoint} was trained on epochs of other pairs (an epoch holds what fills micro-batches on all processes)",
        *(f"{one['per_epoch']} of {one['data']['train']['pairs']} pairs" for one in (then, now)),
        _ANEW,
    )


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    if then["ranks"] != now["ranks"] or then["zero_stage"] != now["zero_stage"]:
        before, after = (f"{x['ranks']} process(es){_zero(x['zero_stage'])}" for x in (then, now))
        found.append(
            f"resumed on {after}; the checkpoint was written by {before}. Weights, optimizer, learning rate and the order of the "
            "pairs continue, but sums round differently: the result is not bit for bit that of an uninterrupted run"
        )
    if then["length"] != now["length"]:
        pairs = [(name, then["length"][name], now["length"][name]) for name in _LENGTH]
        changes = [f"{name} {before} → {after}" for name, before, after in pairs if before != after]
        found.append(f"the run has another length ({', '.join(changes)}): the learning rate follows the new schedule from here")
    if then["machine"] != now["machine"]:
        parts = [name for name in now["machine"] if then["machine"].get(name) != now["machine"][name]]
        found.append(f"not bit for bit the run of the checkpoint: another {', '.join(parts)}")
    both = then["data"]["validation"], now["data"]["validation"]
    if both[0] != both[1] and None not in both:
        found.append(Warned("the validation pairs have changed: metrics before and after the checkpoint cannot be compared"))
    return found


def _zero(stage: int) -> str:
    return f" under ZeRO {stage}" if stage else ""
