"""Modules of a model: which of them an adapter can train, and PEFT's names for fused experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from peft.utils import transformers_weight_conversion as conversion
from torch import nn
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.pytorch_utils import Conv1D

from launcher.experiment.sections.targets import DIRECT, Modules, kind, untrained

from ...processes.ranks.sharding import numel
from .bypassed import bypassed

LINEAR: Final = (nn.Linear, Conv1D)
_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Part:
    """A layer, or a parameter of experts or of a router that is not in a layer.

    ``sort``: ``layer`` (linear), ``head``, ``experts``, ``router`` or ``other`` (embeddings, convolutions). ``weights``: number
    of weights.
    """

    name: str
    sort: str
    weights: int

    @property
    def label(self) -> str:
        """Name for messages, the same in every decoder layer."""
        own = kind(self.name)
        if self.sort == "experts":
            return f"{kind(self.name.rpartition('.')[0])}.{own}"
        return f"router {own}" if self.sort == "router" and own != "router" else own


def parts_of(model: nn.Module) -> tuple[Part, ...]:
    """The layers of a model without an adapter, and experts and routers stored as parameters."""
    return tuple(_parts(model))


def _parts(model: nn.Module) -> Iterator[Part]:
    head = _head(model)
    for name, module in model.named_modules():
        if isinstance(module, LINEAR):
            yield Part(name, "head" if module is head else "layer", _weights(module.weight))
        elif isinstance(module, (nn.Embedding, *_CONVOLUTIONS)):
            yield Part(name, "other", _weights(module.weight))
        else:
            for own, parameter in module.named_parameters(recurse=False):
                sort = _sort(name, module, parameter)
                if sort is not None and not own.endswith("bias"):
                    yield Part(f"{name}.{own}".removesuffix(".weight"), sort, _weights(parameter))


def _sort(name: str, module: nn.Module, parameter: nn.Parameter) -> str | None:
    called = f"{kind(name)} {type(module).__name__}".lower()
    dimensions = len(getattr(parameter, "ds_shape", parameter.shape))
    if dimensions >= 2 and "expert" in called:
        return "experts"
    return "router" if dimensions == 2 and ("router" in called or "gate" in called.split()[0]) else None


def _weights(parameter: nn.Parameter) -> int:
    packed = 2 * parameter.element_size() if type(parameter).__name__ == "Params4bit" else 1  # two weights per byte
    return numel(parameter) * packed


def _head(model: Any) -> nn.Module | None:
    found = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return found if isinstance(found, nn.Module) else None


def modules_of(model: nn.Module) -> Modules:
    """The modules of ``model``, which has no adapter, for ``target_modules``."""
    family = family_of(model)
    never = {name for name, is_called in bypassed(model).items() if not is_called}
    trained, refused = [], {}
    for name, module in model.named_modules():
        is_direct = untrained(name, family) or name in never
        if not is_direct and _is_trainable(module):
            trained.append(name)
        elif name:
            refused[name] = DIRECT if is_direct else ""
    now = old_names(model)
    experts = list(now)
    others = {name: why for name, why in refused.items() if name not in experts}
    pattern = conversion._MODEL_TO_CONVERSION_PATTERN.get(family)
    together = conversion._MOE_FUSED_TARGETS.get(pattern, {}).values() if experts else ()
    parameters = tuple(name for name, parameter in _loose(model) if len(getattr(parameter, "ds_shape", parameter.shape)) > 1)
    return Modules((*trained, *experts), others, together=tuple(map(tuple, together)), parameters=parameters, now=now)


def _loose(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that are in no layer, such as those of experts and routers."""
    for name, module in model.named_modules():
        if not isinstance(module, (*LINEAR, nn.Embedding, *_CONVOLUTIONS)):
            yield from ((f"{name}.{own}".lstrip("."), parameter) for own, parameter in module.named_parameters(recurse=False))


def _is_trainable(module: nn.Module) -> bool:
    return isinstance(module, (*LINEAR, nn.Embedding)) or (isinstance(module, _CONVOLUTIONS) and module.groups == 1)


def old_names(model: nn.Module) -> dict[str, str]:
    """Layer name of an expert or router -> the parameter that now holds it, in the families for which PEFT translates names.

    Current models store the experts of a decoder layer in two tensors; adapters and experiments still use the layers' names.
    """
    family = family_of(model)
    if get_checkpoint_conversion_mapping(family) is None:
        return {}
    names = conversion._MOE_TARGET_MODULE_MAPPING.get(conversion._MODEL_TO_CONVERSION_PATTERN.get(family), {})
    parameters = [name for name, _ in model.named_parameters()] if names else []
    return {
        name.removesuffix(new) + old: name.removesuffix(".weight")
        for name in parameters
        for old, new in names.items()
        if name.endswith(f".{new}") and not _is_layer(model, name)
    }


def _is_layer(model: nn.Module, parameter: str) -> bool:
    return isinstance(model.get_submodule(parameter.rpartition(".")[0]), LINEAR)


def family_of(model: Any) -> str:
    """Its ``model_type``."""
    return str(getattr(getattr(model, "config", None), "model_type", ""))


def left_out(model: nn.Module) -> frozenset[str]:
    """Linear layers that ``all-linear`` leaves out, because an adapter has no effect there or PEFT rejects it."""
    family, direct = family_of(model), bypassed(model)
    layers = (name for name, module in model.named_modules() if isinstance(module, LINEAR))
    return frozenset(name for name in layers if name in direct or untrained(name, family))


def weights_of(model: nn.Module) -> int:
    """Number of values in all parameters of the model."""
    return sum(map(_weights, model.parameters()))
