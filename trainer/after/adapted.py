"""An adapter on a model without weights: which parameters it changes, and PEFT's own code to merge each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import MultiheadAttention, ParamWrapper
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn

from launcher.errors import LauncherError
from launcher.job.adapter_config import CONVERT, changed_base

Merge = Callable[[Tensor], Tensor]
_NAME: Final = "default"


class Adapted:
    """``changed``: parameter name in the model -> function that merges the adapter into it.

    The function receives the parameter's values in fp32, may overwrite them, and returns the merged ones in fp32.
    """

    def __init__(self, model: nn.Module, folder: Path):
        """``model``: without values (see :func:`hollow`); it belongs to this object afterwards.

        Raises LauncherError if peft cannot merge the adapter in ``folder``, or if it does not fit the model.
        """
        self.config = _config(folder)
        own = {name for name, _ in model.named_parameters()}
        try:
            adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=False, low_cpu_mem_usage=True)
        except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise LauncherError(f"the adapter in {folder} does not fit its base model: {first}") from error
        self.changed: dict[str, Merge] = {}
        for path, module in adapted.named_modules():
            self._add(_plain(path.removeprefix("base_model.model.")), module, folder)
        for path, parameter in adapted.get_base_model().named_parameters():
            name = _plain(path)
            if name in own and name not in self.changed and not _is_hollow(parameter):  # biases, if the adapter has them
                self.changed[name] = _replaced(parameter)

    def _add(self, plain: str, module: nn.Module, folder: Path) -> None:
        if isinstance(module, MultiheadAttention):
            raise LauncherError(f"cannot merge the adapter in {folder}: {plain} is an nn.MultiheadAttention")
        if isinstance(module, ParamWrapper):
            name = f"{plain}.{module.parameter_name}"
            self.changed[name] = _merged(module, module.parameter_name)
        elif isinstance(module, LoraLayer) and isinstance(module, nn.Module):
            self.changed[f"{plain}.weight"] = _merged(module, "weight")
            if any(module.lora_bias.values()):
                self.changed[f"{plain}.bias"] = _merged(module, "bias")
        elif isinstance(module, ModulesToSaveWrapper):
            for name, parameter in module.modules_to_save[_NAME].named_parameters():
                self.changed[f"{plain}.{name}"] = _replaced(parameter)
        elif isinstance(module, AuxiliaryTrainingWrapper):
            raise LauncherError(f"cannot merge the adapter in {folder}: {plain} is a {type(module).__name__}")


def hollow(model: nn.Module) -> nn.Module:
    """``model`` from the meta device, with parameters on the CPU that take no memory: one number each, expanded.

    PEFT puts an adapter on the device of its base weights, and nothing can be stored on the meta device.
    """
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in made:  # tied ones stay tied
                number = torch.zeros((), dtype=torch.float32).expand(parameter.shape)
                made[id(parameter)] = nn.Parameter(number, requires_grad=False)
            setattr(module, name, made[id(parameter)])
    return model


def _plain(path: str) -> str:
    return path.replace(".base_layer", "").replace(".original_module", "")


def _is_hollow(tensor: Tensor) -> bool:
    return tensor.numel() == 1 or tensor.untyped_storage().nbytes() <= tensor.element_size()


def _merged(module: Any, name: str) -> Merge:
    """PEFT's merge of a layer for its parameter ``name``; meanwhile its other parameters are zero."""

    def merge(numbers: Tensor) -> Tensor:
        base = module.get_base_layer()
        own = dict(base.named_parameters(recurse=False))
        beside = [key for key in own if key != name and not isinstance(module, ParamWrapper)]
        try:
            setattr(base, name, nn.Parameter(numbers, requires_grad=False))
            for key in beside:
                setattr(base, key, nn.Parameter(torch.zeros(own[key].shape), requires_grad=False))
            module.merge()
            merged: Tensor = getattr(base, name).data
            return merged
        finally:
            module.merged_adapters.clear()
            for key, parameter in own.items():
                setattr(base, key, parameter)

    return merge


def _replaced(parameter: Tensor) -> Merge:
    return lambda numbers: parameter.data.float()


def _config(folder: Path) -> Any:
    """The adapter's settings. Raises LauncherError if it is not a LoRA, or needs more than its own files."""
    config = PeftConfig.from_pretrained(str(folder))
    kind = getattr(config.peft_type, "value", config.peft_type)
    if kind != "LORA":
        raise LauncherError(f"cannot merge the adapter in {folder}: its peft_type is {kind}, expected LORA")
    if getattr(config, "alora_invocation_tokens", None):
        raise LauncherError(f"cannot merge the adapter in {folder}: it acts only after its invocation tokens (aLoRA)")
    changed = changed_base({"init_lora_weights": getattr(config, "init_lora_weights", True)})
    if changed is not None:
        raise LauncherError(f"cannot merge the adapter in {folder}: it has {changed}\n    hint:     {CONVERT}")
    return config
