"""The LoRA adapter: its configuration, its initial weights, and what it must not train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from transformers import set_seed

from launcher.errors import ExperimentError, Mistake, Warned
from launcher.experiment.adapted import named
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.experiment.sections.targets import asked, is_all_linear, is_table, kind

from ...processes.ranks.sharding import numel
from .modules import left_out, modules_of, old_names, parts_of


def lora_config(hyper: Hyperparameters, model: torch.nn.Module | None = None) -> LoraConfig | None:
    """The adapter's shape for ``model``, which has none yet, or None for full fine-tuning.

    ``all-linear`` leaves out the layers of ``model`` on which an adapter has no effect, or which PEFT refuses.
    """
    if hyper.full_finetuning:
        return None
    return LoraConfig(
        r=hyper.r,
        lora_alpha=float(hyper.lora_alpha),  # a default that no file was read for is an integer: it would be written as one
        lora_dropout=float(hyper.lora_dropout),
        bias="none",  # see check_biases
        target_modules=_targets(hyper, model),
        exclude_modules=_excluded(hyper, model),
        layers_to_transform=list(hyper.layers_to_transform) or None,
        rank_pattern=dict(hyper.rank_pattern),
        alpha_pattern={name: float(alpha) for name, alpha in hyper.alpha_pattern.items()},
        target_parameters=list(hyper.target_parameters) or None,
        modules_to_save=_copies(hyper, model),
        ensure_weight_tying=_is_tied_copy(hyper, model),
        use_rslora=hyper.use_rslora,
        use_dora=hyper.use_dora,
        init_lora_weights=hyper.init_lora_weights,
        task_type="CAUSAL_LM",
    )


def _targets(hyper: Hyperparameters, model: torch.nn.Module | None) -> str | list[str]:
    """``target_modules`` in PEFT's form for ``model``: it supports layer numbers only with lists."""
    targets = hyper.target_modules if isinstance(hyper.target_modules, str) else list(hyper.target_modules)
    if model is None or not isinstance(targets, str):
        return targets
    if is_all_linear(targets):
        layers = {kind(part.name) for part in parts_of(model) if part.sort == "layer"}
        return sorted(layers) if hyper.layers_to_transform else targets
    # PEFT would take the last parts alone of what a pattern matches among experts that it knows by older names.
    return asked(targets, modules_of(model)) if old_names(model) else targets


def _excluded(hyper: Hyperparameters, model: torch.nn.Module | None) -> str | list[str] | None:
    """Modules that the experiment excludes, and for ``all-linear`` those of ``left_out``."""
    own = hyper.exclude_modules if isinstance(hyper.exclude_modules, str) else list(hyper.exclude_modules)
    if model is None or not is_all_linear(hyper.target_modules):
        return own or None
    direct = sorted({".".join(name.split(".")[-2:]) for name in left_out(model)})
    if not isinstance(own, str):
        return [*own, *direct] or None
    if not direct:
        return own
    modules = modules_of(model)
    return [*named(own, (*modules.trained, *modules.refused), modules), *direct]


def _copies(hyper: Hyperparameters, model: torch.nn.Module | None) -> list[str] | None:
    """``modules_to_save``, by whole names where PEFT, which compares ends of texts, would take more: every norm for ``norm``."""
    if model is None or not hyper.modules_to_save:
        return list(hyper.modules_to_save) or None
    every = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    found: list[str] = []
    for copy in hyper.modules_to_save:
        whole = [name for name in every if f".{name}".endswith(f".{copy}")]
        found += [copy] if len(whole) == sum(name.endswith(copy) for name in every) else whole
    return found


def _is_tied_copy(hyper: Hyperparameters, model: torch.nn.Module | None) -> bool:
    """Whether one trained copy stands for the embedding and the head, as one matrix does in ``model``."""
    config = getattr(model, "config", None)
    is_tied = config is not None and bool(config.get_text_config(decoder=True).tie_word_embeddings)
    return is_tied and any(is_table(kind(name)) for name in hyper.modules_to_save)


def check_biases(model: torch.nn.Module, hyper: Hyperparameters) -> list[str]:
    """Notices about ``bias``; raises ExperimentError if an adapter would train the model's own biases.

    DPO's reference is the model with the adapter switched off. Trained biases stay on then: the reference would move with the
    policy.
    """
    if hyper.full_finetuning or hyper.bias == "none":
        return []
    if not any(name.endswith("bias") for name, _ in model.named_parameters()):
        return [Warned(f"bias: {hyper.bias} has no effect: the model has no biases")]
    raise ExperimentError(
        Mistake(
            "hyperparameters.bias",
            "the DPO reference shares the model's biases: training them would change the reference",
            expected="none, or full_finetuning: true",
            found=hyper.bias,
        )
    )


def module_names(model: torch.nn.Module) -> list[str]:
    """The names of the modules of the model without its adapter."""
    names = (name.removeprefix("base_model.model.") for name, _ in model.named_modules())
    return [name.removesuffix(".base_layer") for name in names if "lora_" not in name]


def seed_adapter(model: PeftModel, random_state: int, seed: int) -> None:
    """Draws the adapter's initial weights from ``random_state`` only, then seeds the generators with ``seed`` again.

    DoRA's lengths are those of the base weights: while B is zero they do not depend on A.

    TRL makes the adapter in its constructor, after it seeded with ``seed``; experiment files have a number for each of the two.
    """
    set_seed(random_state)
    first = model.peft_config["default"].init_lora_weights
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in (*module.lora_A, *module.lora_embedding_A):
                module.reset_lora_parameters(name, first)
    set_seed(seed)


def kept_adapter(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the loaded adapter's weights by their names: TRL rounds them to bf16 over 4- and 8-bit weights."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


def continue_adapter(trainer: Any, kept: Mapping[str, torch.Tensor], seed: int) -> None:
    """Makes the loaded adapter the one that is trained, and the reference; seeds the generators with ``seed``.

    TRL's constructor has put a frozen copy of it, ``ref``, on the model. It is taken off: the reference's numbers are computed
    before the first step, and a second adapter would be saved in every checkpoint. ``kept``: see :func:`kept_adapter`.
    """
    trainer.is_continued = True
    if "ref" in trainer.model.peft_config:
        trainer.model.delete_adapter("ref")
    trainer.model.set_adapter("default")
    parameters = dict(trainer.model.named_parameters())
    for name, weights in kept.items():
        parameters[name].data.copy_(weights)
    set_seed(seed)


def widen_adapter(model: torch.nn.Module, adapter: str = "default") -> None:
    """Turns trained weights of 16 bits into fp32, as PEFT makes an adapter's and reads them back.

    TRL makes the adapter over 4- and 8-bit weights bf16. Most updates of 5e-6 would be lost in its 8 bits, the fp16 step has
    no scaler for it, and a resumed run, for which PEFT reads fp32, would not be the run that was interrupted.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for wrapper in copied(model):
        _keep_stream(wrapper)
        wrapper.modules_to_save[adapter].float()


def copied(model: torch.nn.Module) -> list[ModulesToSaveWrapper]:
    """The modules of ``modules_to_save``: each holds the original and, for each adapter, a trained copy."""
    return [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]


def _keep_stream(wrapper: ModulesToSaveWrapper) -> None:
    """The fp32 copy gives the type of the original: the policy's stream is then that of the reference."""
    kinds = {parameter.dtype for parameter in wrapper.original_module.parameters() if parameter.is_floating_point()}
    if kinds.isdisjoint((torch.float16, torch.bfloat16)) or wrapper._forward_hooks:
        return
    half = kinds.pop()
    wrapper.register_forward_hook(lambda module, given, output: output.to(half) if isinstance(output, torch.Tensor) else output)


def sizes(model: torch.nn.Module) -> str:
    """How many parameters the model has, and how many are trained, in words."""
    if isinstance(model, PeftModel):
        trained, every = model.get_nb_trainable_parameters()  # a 4-bit tensor holds two weights a number
    else:
        every = sum(numel(p) for p in model.parameters())
        trained = sum(numel(p) for p in model.parameters() if p.requires_grad)
    return f"{every:,} parameters, {trained:,} trained ({trained / every:.1%})"


def skip_input_casts(model: torch.nn.Module) -> None:
    """Hands the adapter's matrices their inputs in the precision that they come in, by a switch of PEFT's own.

    For a step under autocast, which casts for each product: PEFT's cast to the adapter's fp32 before it is undone at once. The
    numbers are the same bit for bit; a copy in each direction, and an input kept in fp32 for the backward pass, are saved. DoRA
    keeps its cast: it takes the norm of the base weights in its input's precision.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer) and not module.lora_variant:
            module.cast_input_dtype_enabled = False
