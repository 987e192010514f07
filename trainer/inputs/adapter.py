"""The LoRA adapter: its shape, its first weights, and what it must not train."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from transformers import set_seed

from launcher.errors import ExperimentError, Mistake, Warned
from launcher.experiment.hyperparameters import Hyperparameters
from launcher.experiment.targets import asked, is_all_linear

from ..processes.sharding import numel
from .modules import left_out, modules_of, old_names


def lora_config(hyper: Hyperparameters, model: torch.nn.Module | None = None) -> LoraConfig | None:
    """The adapter's shape for ``model``, which has none yet, or None for full fine-tuning.

    ``all-linear`` leaves out the layers of ``model`` on which an adapter has no effect, or which PEFT refuses.
    """
    if hyper.full_finetuning:
        return None
    targets = hyper.target_modules if isinstance(hyper.target_modules, str) else list(hyper.target_modules)
    exclude: list[str] = []
    if model is not None and is_all_linear(targets):
        exclude = sorted({".".join(name.split(".")[-2:]) for name in left_out(model)})
    elif model is not None and isinstance(targets, str) and old_names(model):
        targets = asked(targets, modules_of(model))  # PEFT would take the last parts alone of what the pattern matches
    return LoraConfig(
        r=hyper.r,
        lora_alpha=float(hyper.lora_alpha),  # a default that no file was read for is an integer: it would be written as one
        lora_dropout=float(hyper.lora_dropout),
        bias="none",  # see check_biases
        target_modules=targets,
        exclude_modules=exclude or None,
        task_type="CAUSAL_LM",
    )


def check_biases(model: torch.nn.Module, hyper: Hyperparameters) -> list[str]:
    """Notices about ``bias``; raises ExperimentError where an adapter would train the model's own biases.

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


def seed_adapter(model: torch.nn.Module, random_state: int, seed: int) -> None:
    """Draws the adapter's first weights from ``random_state`` alone, then seeds the generators with ``seed`` again.

    TRL makes the adapter in its constructor, after it seeded with ``seed``; experiment files have a number for each of the two.
    """
    set_seed(random_state)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in (*module.lora_A, *module.lora_embedding_A):
                module.reset_lora_parameters(name, True)
    set_seed(seed)


def widen_adapter(model: torch.nn.Module) -> None:
    """Turns trained weights of 16 bits into fp32, as PEFT makes them and reads them back.

    TRL makes the adapter over 4- and 8-bit weights bf16. Most updates of 5e-6 would be lost in its 8 bits, the fp16 step has
    no scaler for it, and a resumed run, for which PEFT reads fp32, would not be the run that was interrupted.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


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
    numbers are the same bit for bit; a copy in each direction, and an input kept in fp32 for the backward pass, are saved.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False
