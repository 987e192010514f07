"""The LoRA adapter: configuration, initial weights, and what it must not train."""

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
    """PEFT's configuration of the adapter for ``model``, which has none yet; None for full fine-tuning.

    ``all-linear`` leaves out layers of ``model`` where an adapter has no effect or PEFT rejects it.
    """
    if hyper.full_finetuning:
        return None
    return LoraConfig(
        r=hyper.r,
        lora_alpha=float(hyper.lora_alpha),  # an unset default is an integer, and would be written as one
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
    """``target_modules`` in PEFT's form for ``model``. PEFT supports layer numbers only with lists."""
    targets = hyper.target_modules if isinstance(hyper.target_modules, str) else list(hyper.target_modules)
    if model is None or not isinstance(targets, str):
        return targets
    if is_all_linear(targets):
        layers = {kind(part.name) for part in parts_of(model) if part.sort == "layer"}
        return sorted(layers) if hyper.layers_to_transform else targets
    # For experts under their older names PEFT would use only the last parts of what a pattern matches.
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
    """``modules_to_save``, by whole names if PEFT, which compares only the ends, would match more: every norm for ``norm``."""
    if model is None or not hyper.modules_to_save:
        return list(hyper.modules_to_save) or None
    every = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    found: list[str] = []
    for copy in hyper.modules_to_save:
        whole = [name for name in every if f".{name}".endswith(f".{copy}")]
        found += [copy] if len(whole) == sum(name.endswith(copy) for name in every) else whole
    return found


def _is_tied_copy(hyper: Hyperparameters, model: torch.nn.Module | None) -> bool:
    """Whether one trained copy serves as embedding and head, because they are one matrix in ``model``."""
    config = getattr(model, "config", None)
    is_tied = config is not None and bool(config.get_text_config(decoder=True).tie_word_embeddings)
    return is_tied and any(is_table(kind(name)) for name in hyper.modules_to_save)


def check_biases(model: torch.nn.Module, hyper: Hyperparameters) -> list[str]:
    """Notices about ``bias``. Raises ExperimentError if an adapter would train the model's own biases.

    DPO's reference is the model with the adapter disabled. Trained biases would stay active, so the reference would move with
    the policy.
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
    """Module names of the model without its adapter."""
    names = (name.removeprefix("base_model.model.") for name, _ in model.named_modules())
    return [name.removesuffix(".base_layer") for name in names if "lora_" not in name]


def seed_adapter(model: PeftModel, random_state: int, seed: int) -> None:
    """Initialises the adapter from ``random_state`` only, then seeds the generators with ``seed`` again.

    TRL creates the adapter in its constructor, after seeding with ``seed``; experiment files have one seed for each. DoRA's
    magnitudes are the norms of the base weights and do not depend on A while B is zero.
    """
    set_seed(random_state)
    first = model.peft_config["default"].init_lora_weights
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in (*module.lora_A, *module.lora_embedding_A):
                module.reset_lora_parameters(name, first)
    set_seed(seed)


def kept_adapter(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the loaded adapter's weights by name, because TRL rounds them to bf16 on 4- and 8-bit models."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


def continue_adapter(trainer: Any, kept: Mapping[str, torch.Tensor], seed: int) -> None:
    """Makes the loaded adapter both trained adapter and reference, and seeds the generators with ``seed``.

    TRL's constructor added a frozen copy, ``ref``. It is removed: the reference's log-probabilities are computed before the
    first step, and a second adapter would be saved in every checkpoint. ``kept``: see :func:`kept_adapter`.
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
    """Converts trained 16-bit weights to fp32, as PEFT creates and loads an adapter.

    TRL makes the adapter bf16 on 4- and 8-bit models. Most updates of 5e-6 would be lost in bf16's 8 bits, an fp16 step has no
    gradient scaler for it, and a resumed run, for which PEFT loads fp32, would differ from the interrupted one.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for wrapper in copied(model):
        _keep_stream(wrapper)
        wrapper.modules_to_save[adapter].float()


def copied(model: torch.nn.Module) -> list[ModulesToSaveWrapper]:
    """The modules of ``modules_to_save``; each holds the original and one trained copy per adapter."""
    return [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]


def _keep_stream(wrapper: ModulesToSaveWrapper) -> None:
    """Casts the fp32 copy's output to the original's dtype, so that policy and reference have the same residual stream."""
    kinds = {parameter.dtype for parameter in wrapper.original_module.parameters() if parameter.is_floating_point()}
    if kinds.isdisjoint((torch.float16, torch.bfloat16)) or wrapper._forward_hooks:
        return
    half = kinds.pop()
    wrapper.register_forward_hook(lambda module, given, output: output.to(half) if isinstance(output, torch.Tensor) else output)


def sizes(model: torch.nn.Module) -> str:
    """Number of parameters and of trained parameters, in words."""
    if isinstance(model, PeftModel):
        trained, every = model.get_nb_trainable_parameters()  # a 4-bit tensor holds two weights per value
    else:
        every = sum(numel(p) for p in model.parameters())
        trained = sum(numel(p) for p in model.parameters() if p.requires_grad)
    return f"{every:,} parameters, {trained:,} trained ({trained / every:.1%})"


def skip_input_casts(model: torch.nn.Module) -> None:
    """Passes inputs to the adapter's matrices without PEFT's cast, by PEFT's own switch.

    Under autocast, which casts for each product, PEFT's cast to fp32 is undone at once. Results are equal bit for bit; this
    saves a copy in each direction and an fp32 input kept for the backward pass. DoRA keeps the cast, because it takes norms in
    its input's precision.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer) and not module.lora_variant:
            module.cast_input_dtype_enabled = False
