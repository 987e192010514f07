"""Finds the checkpoint to resume from, stops on request, and publishes the verified adapter."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher.errors import ExperimentError, LauncherError, Mistake
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import ASIDE, STAGING, RunDir, expanded, find_checkpoint_runs
from launcher.runs.whole import as_new

from ..inputs.models.adapter import copied, widen_adapter
from ..processes.disk import writing
from ..processes.ranks.sharding import stage, trained_tensors
from ..processes.stop import StopRequest
from .checkpointed import check_finite
from .sound import check_sound, sound


class StopCallback(TrainerCallback):
    """Ends the training after the step in which any rank was asked to stop, with a checkpoint."""

    def __init__(self, request: StopRequest):
        self._request = request
        self.stopped = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        control.should_training_stop = state.global_step >= state.max_steps  # resumed from the last step
        return control

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        self.stopped = any_rank(self._request.signal is not None, args.device)
        if self.stopped:
            control.should_save = not _ends_epoch(state)
            control.should_training_stop = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """transformers ends the epoch of a stop early, too: what belongs to a whole epoch must not be done then."""
        if self.stopped and not _ends_epoch(state):
            control.should_log = control.should_evaluate = control.should_save = False
        elif self.stopped:
            control.should_save = True  # after the evaluation, so that the checkpoint knows its outcome
        return control


def _ends_epoch(state: TrainerState) -> bool:
    return bool(state.epoch == int(state.epoch or 0))


def any_rank(mine: bool, device: torch.device) -> bool:
    """Whether ``mine`` is true on any rank; all ranks must call this."""
    if not torch.distributed.is_initialized():
        return mine
    flag = torch.tensor(float(mine), device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def resume_point(run: RunDir, experiment: Experiment, run_root: Path, *, together: bool = False) -> Path | None:
    """The checkpoint to resume from, or None to start at the first step.

    A run with its own checkpoints was interrupted and always resumes from the newest. Otherwise
    ``resume_from_checkpoint`` decides: true takes the newest checkpoint of the experiment's newest run that has one, a path
    names one. Raises ExperimentError if the path is no complete checkpoint, or a damaged one; of the run's own the newest is
    taken that is not. ``origin`` decides whether this run may resume from it. ``together``: the nodes share no folder, and take
    the newest that all of them have. Every rank must call this.
    """
    shutil.rmtree(run.path / STAGING, ignore_errors=True)
    own = run.checkpoints()
    if together:
        names = set.intersection(*map(set, gather_object([[path.name for path in own]])))
        own = [path for path in own if path.name in names]
    if own := sound(own):
        return own[-1]
    wish = experiment.hyperparameters.resume_from_checkpoint
    if wish is False:
        return None
    if wish is True:
        earlier = find_checkpoint_runs(run)
        return check_sound(earlier[0].checkpoints()[-1]) if earlier else None
    path = run_root / expanded(wish)
    if path.is_dir() and not (path / "trainer_state.json").exists():
        inside = RunDir(path).checkpoints()
        path = inside[-1] if inside else path
    if not (path / "trainer_state.json").exists():
        raise ExperimentError(
            Mistake(
                "hyperparameters.resume_from_checkpoint",
                "no complete checkpoint found",
                expected="true, false, or a folder checkpoint-<step> (or a run that holds one)",
                found=str(wish),
            )
        )
    return check_sound(path)


def save_verified(trainer: Any, run: RunDir) -> dict[str, Any]:
    """Writes the adapter aside, reads it back and compares; :func:`publish` then renames it into place.

    An adapter is loaded a second time beside the trained one; the two must be the same tensors bit for bit, and give the
    same log-probabilities for the first batch. Full weights are compared as tensors, file by file. Returns what was
    compared, for run.json; raises LauncherError if anything differs, HealthError if a weight is not a number.
    """
    check_finite(trainer.model)
    aside = run.path / ASIDE
    if trainer.args.should_save:  # no other rank: it could delete what this one is writing
        shutil.rmtree(aside, ignore_errors=True)
    try:
        with writing(run.path):
            trainer.save_model(str(aside))
    except BaseException:
        if trainer.args.should_save:
            shutil.rmtree(aside, ignore_errors=True)  # a full disk has no room to report that it is full
        raise
    is_spread = stage(trainer) == 3
    trained = trained_tensors(trainer.model, lambda name: trainer.args.should_save) if is_spread else {}
    if not trainer.args.should_save:
        return {}
    (aside / "training_args.bin").unlink(missing_ok=True)  # a pickle of this process's settings: run.json has them as text
    if is_spread:
        return _compare_spread(_by_every_name(trainer.model, trained), aside)
    model = trainer.accelerator.unwrap_model(trainer.model)
    return _compare_adapter(trainer, model, aside) if isinstance(model, PeftModel) else _compare_weights(model, aside)


def _compare_spread(trained: Mapping[str, torch.Tensor], folder: Path) -> dict[str, Any]:
    """Compares the whole trained tensors, by their names in the model, with all that the files hold."""
    reloaded: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        reloaded |= load_file(file)
    _same({_in_file(name): tensor for name, tensor in trained.items()}, reloaded, folder)
    return {"compared": "adapter" if (folder / "adapter_config.json").exists() else "weights", "tensors": len(reloaded)}


def _by_every_name(model: torch.nn.Module, trained: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """``trained``, of an adapter by both names of a tied copy: PEFT writes it by each, transformers writes weights once."""
    if not any(isinstance(module, PeftModel) for module in model.modules()):
        return dict(trained)
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = {name: first[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    return {name: trained[one] for name, one in every.items() if one in trained}


_OF_DEFAULT: Final = re.compile(r"(\.modules_to_save)?\.default(?=\.|$)")


def _in_file(name: str) -> str:
    """The name that PEFT writes for the trained tensor ``name``."""
    plain = _OF_DEFAULT.sub("", name)
    return re.sub(r"(?<=\.lora_magnitude_vector)\.weight$", "", plain)


def publish(run: RunDir) -> None:
    """The last step of a training: a run that has ``adapter/`` has everything else, too."""
    as_new(run.path / ASIDE)
    run.publish(run.path / ASIDE)


def _compare_adapter(trainer: Any, model: PeftModel, folder: Path) -> dict[str, Any]:
    if _has_tied_copies(model):
        everything = dict(model.named_parameters(remove_duplicate=False))
        return _compare_spread({name: everything[name] for name in everything if _OF_DEFAULT.search(name)}, folder)
    trained = _tensors(model, "default")
    is_wide = all(tensor.dtype == torch.float32 for tensor in trained.values())  # DeepSpeed's are bf16 where the step is
    options = {"adapter_name": "reloaded", "is_trainable": False, "autocast_adapter_dtype": is_wide}
    model.load_adapter(str(folder), **options)
    if is_wide and copied(model):  # PEFT has read the copies of modules in the type of the base weights
        widen_adapter(model, "reloaded")
        model.load_adapter(str(folder), **options)
    _same(trained, reloaded := _tensors(model, "reloaded"), folder)
    batch = first_batch(trainer)
    fast = getattr(trainer, "fast", None)
    with nullcontext() if fast is None else fast.packed.removed():  # the batch is padded: its mask is none of a packed row
        before = log_probs(trainer, model, batch)
        model.set_adapter("reloaded")
        after = log_probs(trainer, model, batch)
    model.set_adapter("default")
    model.delete_adapter("reloaded")
    worst = float((before - after).abs().max())
    if worst != 0.0:
        raise LauncherError(f"{folder}: the adapter read back gives other log-probabilities (off by up to {worst:g})")
    return {"compared": "adapter", "tensors": len(reloaded), "largest_logp_difference": worst}


def _has_tied_copies(model: PeftModel) -> bool:
    """Whether one trained copy stands for the embedding and the head: PEFT puts no second adapter beside such a one."""
    copies = [id(weight) for wrapper in copied(model) for weight in wrapper.modules_to_save["default"].parameters()]
    return len(set(copies)) < len(copies)


def _tensors(model: PeftModel, adapter: str) -> dict[str, torch.Tensor]:
    """The adapter's tensors by their names without the adapter's; an embedding's end with it, the others have more behind."""
    name = re.compile(rf"\.{adapter}(?=\.|$)")
    return {name.sub("", path): p for path, p in model.named_parameters() if name.search(path)}


def first_batch(trainer: Any) -> Mapping[str, torch.Tensor]:
    """The first pairs, padded. Not of the training's loader: its ranks agree on an order first, and only this rank is here."""
    pairs = range(min(2, len(trainer.train_dataset)))
    found: Mapping[str, torch.Tensor] = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in pairs]))
    return found


def log_probs(trainer: Any, model: PeftModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Summed answer log-probabilities, shape (2 × pairs,): chosen, then rejected."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    training = model.training
    model.eval()
    with torch.no_grad(), trainer.accelerator.autocast():
        outputs = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
        )
    model.train(training)
    return outputs.log_probs.sum(dim=1).float()


def _compare_weights(model: torch.nn.Module, folder: Path) -> dict[str, Any]:
    trained = dict(model.state_dict())
    count = 0
    for file in sorted(folder.glob("*.safetensors")):
        tensors = load_file(file)
        _same({name: trained[name] for name in tensors}, tensors, folder)
        count += len(tensors)
    if count == 0:
        raise LauncherError(f"{folder}: no weights were written")
    return {"compared": "weights", "tensors": count}


def _same(trained: Mapping[str, torch.Tensor], reloaded: Mapping[str, torch.Tensor], folder: Path) -> None:
    if not trained or trained.keys() != reloaded.keys():
        odd = sorted(trained.keys() ^ reloaded.keys())[:3]
        raise LauncherError(f"{folder}: tensors missing from what was written or read back: {', '.join(odd) or 'all'}")
    for name, tensor in trained.items():
        if not torch.equal(tensor.detach().cpu(), reloaded[name].detach().cpu().to(tensor.dtype)):
            raise LauncherError(f"{folder}: {name} was read back with other values than the trained ones")
