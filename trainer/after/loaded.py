"""Loaded: trained weights, ready to compute: of a run, an adapter or a model. The only place that loads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from launcher.experiment.schema import Experiment
from launcher.job.adapter_config import check_loaded
from launcher.job.model import TOKENIZER_FILES
from launcher.job.target import Target

from ..inputs.models.adapter_copy import kept
from ..inputs.models.model import Precision, choose_precision, load_model, load_tokenizer, weights_size
from ..inputs.models.start_model import load_start, put
from ..inputs.models.starting import Start, locate
from ..inputs.recorded import recorded_base, recorded_commit
from ..output import notices, stage
from ..processes.ranks.machine import Device

Prepare = Callable[[Any], None]
START: Final = "start"  # name of the adapter that training started from, beside the trained one


@dataclass(frozen=True)
class Found:
    """Everything known before the weights are loaded. ``path``: the base model's folder or hub id."""

    tokenizer: PreTrainedTokenizerBase
    target: Target
    experiment: Experiment
    path: str
    device: torch.device
    precision: Precision
    start: Start | None  # the adapter that training started from

    def load(self, prepare: Prepare | None = None) -> Loaded:
        """Loads the weights. ``prepare`` receives the model before an adapter is added. Raises what ``load_model`` raises."""
        adapter = self.target.adapter
        source = self.path if adapter is not None else str(self.target.weights)
        with stage(f"loading the weights{weights_size(source)}"):
            model = self._model(source, prepare)
            whole = model if adapter is None else PeftModel.from_pretrained(model, str(adapter))
            if adapter is not None and self.start is not None:
                put(whole, self.start, START)
            return Loaded(**vars(self), model=self._ready(whole))

    def _model(self, source: str, prepare: Prepare | None) -> Any:
        model = load_model(self.experiment, source, self.precision, cuda=self.device.type == "cuda")
        if prepare is not None:
            prepare(model)
        return model

    def _ready(self, model: Any) -> Any:
        is_quantized = getattr(model, "is_quantized", False) or getattr(model.config, "quantization_config", None) is not None
        return (model if is_quantized else model.to(self.device)).eval()


@dataclass(frozen=True)
class Loaded(Found):
    """``model``: a PeftModel or whole weights, in evaluation mode."""

    model: Any

    @property
    def has_base(self) -> bool:
        """Whether disabling an adapter gives the base model."""
        return isinstance(self.model, PeftModel)

    @property
    def causal(self) -> Any:
        """The model that generates: with adapter layers, without PEFT's wrapper."""
        return self.model.get_base_model() if self.has_base else self.model

    @contextmanager
    def base(self) -> Iterator[None]:
        """Disables the adapter during the block. Loads nothing again."""
        assert self.has_base, "whole weights have nothing to switch off"
        with self.model.disable_adapter():
            yield

    def autocast(self) -> AbstractContextManager[Any]:
        """The autocast context of a training step."""
        half = torch.bfloat16 if self.precision.bf16 else torch.float16 if self.precision.fp16 else None
        return nullcontext() if half is None else torch.autocast(self.device.type, dtype=half)

    @contextmanager
    def started(self) -> Iterator[None]:
        """During the block the model is what training started from: with the adapter that it started from, or without any."""
        if self.start is None:
            with self.base():
                yield
            return
        self.model.set_adapter(START)
        try:
            yield
        finally:
            self.model.set_adapter("default")

    def reference(self, prepare: Prepare | None = None) -> Any:
        """The model that training began with: this one with its adapter disabled, or a second model."""
        if self.has_base:
            return self.model
        with stage(f"loading the reference{weights_size(self.path)}"):
            cuda = self.device.type == "cuda"
            return self._ready(load_start(self.experiment, self.path, self.precision, self.start, cuda=cuda, look=prepare))


def find(folder: Path, cache: Path, *, masters: bool = False, with_start: bool = False) -> Found:
    """Finds the weights in ``folder`` (see ``Target.of``). Paths in the experiment are relative to the working directory.

    ``masters``: whole weights in the precision that full fine-tuning stores, not in that of its step. ``with_start``: also the
    adapter that training started from, which the reference needs. Raises what ``Target.of``, ``check_loaded``,
    ``recorded_base`` and ``load_tokenizer`` raise.
    """
    target = Target.of(folder)
    if target.adapter is not None:
        check_loaded(target.adapter)
    device = Device.here(target.settings.hyperparameters.gpu_memory_utilization)
    experiment, said = _fitting(target.settings, device)
    notices(said)
    precision = choose_precision(experiment.hyperparameters, cuda=device.cuda, bf16=device.bf16, is_sharded=not masters)
    wanted = experiment if with_start else experiment.model_copy(update={"adapter": None})
    commit, own = None, None
    if target.run is not None:
        commit = recorded_commit(target.run)
        own, said = kept(target.run) if with_start else (None, [])
        notices(said)
    located = locate(wanted, Path(), cache, first=True, commit=commit, own=own)
    path = located.path
    if target.run is not None:  # the adapter fits the commit that it was trained on
        path, said = recorded_base(target.run, experiment, path)
        notices(said)
    place = torch.device("cuda" if device.cuda else "cpu")
    tokenizer = _tokenizer(target, experiment, path)
    return Found(tokenizer, target, experiment, path, place, precision, located.start)


def load(folder: Path, cache: Path) -> Loaded:
    """The weights in ``folder``, in the precision of a training step."""
    return find(folder, cache).load()


def _fitting(experiment: Experiment, device: Device) -> tuple[Experiment, list[str]]:
    """``experiment`` without features that this machine lacks, and notices about them."""
    h = experiment.hyperparameters
    lacking = []
    if (h.torch_dtype == "float16" and not device.cuda) or (h.torch_dtype == "bfloat16" and device.cuda and not device.bf16):
        lacking.append("torch_dtype")
    attention = h.attn_implementation or ""
    if attention.startswith("flash_attention") and not (
        is_flash_attn_3_available() if "3" in attention else is_flash_attn_2_available()
    ):
        lacking.append("attn_implementation")
    if not lacking:
        return experiment, []
    defaults = {name: type(h).model_fields[name].get_default(call_default_factory=True) for name in lacking}
    said = [f"{name}: {getattr(h, name)} is not possible here; computed without it" for name in lacking]
    return experiment.model_copy(update={"hyperparameters": h.model_copy(update=defaults)}), said


def _tokenizer(target: Target, experiment: Experiment, path: str) -> PreTrainedTokenizerBase:
    """The model's tokenizer, or the one of an adapter that brought its own."""
    is_own = target.run is None or experiment.adapter is not None
    if is_own and target.adapter is not None and any((target.adapter / name).is_file() for name in TOKENIZER_FILES):
        tokenizer = AutoTokenizer.from_pretrained(str(target.adapter))
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer
    return load_tokenizer(experiment, path)
