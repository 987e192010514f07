"""Tokenizer, model, LoRA and quantisation, chosen by the experiment and by what the device supports."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from launcher.errors import CredentialError, ExperimentError, Mistake, Warned
from launcher.experiment.hyperparameters import Hyperparameters
from launcher.experiment.schema import Experiment

from .dropout import silence

BITSANDBYTES: Final = "pip install 'dpo-launcher[trainer,cuda]'"
TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")


@dataclass(frozen=True)
class Precision:
    """``weights``: dtype of the loaded base weights; ``bf16``/``fp16``: autocast of the training step."""

    weights: torch.dtype
    bf16: bool
    fp16: bool

    def __str__(self) -> str:
        name = str(self.weights).removeprefix("torch.")
        return f"{name} weights, {'bf16' if self.bf16 else 'fp16' if self.fp16 else 'fp32'} step"


def choose_precision(hyper: Hyperparameters, *, cuda: bool, bf16: bool, is_sharded: bool = False) -> Precision:
    """16-bit where the device has it: never fp32 by accident on a GPU, never 16-bit by accident on a CPU.

    LoRA's frozen weights are kept in the compute dtype. Full fine-tuning keeps fp32 master weights under autocast, because
    an update of 5e-6 is lost in bf16's 8 bits, unless load_in_16bit asks for it. ``is_sharded``: DeepSpeed keeps such masters
    itself, spread over the ranks, and the model in the compute dtype. Raises ExperimentError where load_in_16bit asks for
    fp16 masters, whose gradients no scaler can bring back.
    """
    wanted = hyper.load_in_16bit
    if cuda and wanted is False and (hyper.load_in_4bit or hyper.load_in_8bit):
        wanted = None  # the three choose how weights are stored: 4- and 8-bit ones compute in 16 bits
    if wanted is False or (not cuda and wanted is None):
        return Precision(torch.float32, bf16=False, fp16=False)
    if not cuda:
        return Precision(torch.bfloat16, bf16=True, fp16=False)
    half = torch.bfloat16 if bf16 else torch.float16
    if wanted and hyper.full_finetuning and not bf16:
        raise ExperimentError(
            Mistake(
                "hyperparameters.load_in_16bit",
                "this GPU has no bf16, and fp16 cannot train all weights",
                expected="unset, for fp32 weights and a 16-bit step",
                found="true",
            )
        )
    masters = hyper.full_finetuning and wanted is None and not is_sharded
    return Precision(torch.float32 if masters else half, bf16=bf16, fp16=not bf16)


def load_tokenizer(experiment: Experiment, path: str) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with a padding token; raises ExperimentError where it has none, or cannot be loaded."""
    hyper = experiment.hyperparameters
    if Path(path).is_dir() and not any((Path(path) / name).exists() for name in TOKENIZER_FILES):
        # transformers would make an empty tokenizer of config.json alone
        raise _not_loaded(experiment, "tokenizer", FileNotFoundError("none of " + ", ".join(TOKENIZER_FILES)))
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, trust_remote_code=hyper.trust_remote_code, cache_dir=hyper.model_cache_dir
        )
    except (OSError, ValueError) as error:
        raise _not_loaded(experiment, "tokenizer", error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ExperimentError(
            Mistake("model_name", f"the tokenizer of {experiment.model_name} has no padding token and no end-of-text token")
        )
    return tokenizer


def weights_size(path: str) -> str:
    """``: 1.2 GiB`` for a folder with weights; empty for a hub id, whose size is not known yet."""
    files = [file for suffix in ("safetensors", "bin") for file in Path(path).glob(f"*.{suffix}")] if Path(path).is_dir() else []
    size = sum(file.stat().st_size for file in files)
    if not size:
        return ""
    return f": {size / 2**30:.1f} GiB" if size >= 0.1 * 2**30 else f": {size / 2**20:.1f} MiB"


def load_model(experiment: Experiment, path: str, precision: Precision, *, cuda: bool) -> PreTrainedModel:
    """The base model on the CPU or, quantised, on this rank's GPU; the trainer moves it."""
    hyper = experiment.hyperparameters
    options: dict[str, Any] = {"dtype": precision.weights}
    quantization = _quantization(hyper, precision, cuda=cuda)
    if quantization is not None:
        options |= {"quantization_config": quantization, "device_map": {"": torch.cuda.current_device()}}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            trust_remote_code=hyper.trust_remote_code,
            cache_dir=hyper.model_cache_dir,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _not_loaded(experiment, "model", error) from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would initialise them at random, with a warning
        names = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise _not_loaded(experiment, "model", ValueError(f"{len(missing)} weights are missing from its files: {names}"))
    if hyper.trl.get("disable_dropout", True):
        silence(model)
    return model


def _quantization(hyper: Hyperparameters, precision: Precision, *, cuda: bool) -> Any:
    if not (hyper.load_in_4bit or hyper.load_in_8bit) or not cuda:
        return None
    name = "load_in_4bit" if hyper.load_in_4bit else "load_in_8bit"
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ExperimentError(Mistake(f"hyperparameters.{name}", "bitsandbytes is not installed", hint=BITSANDBYTES))
    from transformers import BitsAndBytesConfig

    if hyper.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision.weights,
    )


def _not_loaded(experiment: Experiment, part: str, error: Exception) -> Exception:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if re.search(r"gated repo|\b40[13] Client Error", str(error)):
        return CredentialError(f"{part} of {experiment.model_name}: permission denied ({text}); set HF_TOKEN in .env")
    kind = "a folder with config.json" if Path(experiment.model_name).is_absolute() else "a hub id or a model folder"
    return ExperimentError(Mistake("model_name", f"cannot load the {part} of {experiment.model_name}", expected=kind, found=text))


def lora_config(hyper: Hyperparameters) -> LoraConfig | None:
    """The adapter's shape, or None for full fine-tuning."""
    if hyper.full_finetuning:
        return None
    targets = hyper.target_modules if isinstance(hyper.target_modules, str) else list(hyper.target_modules)
    return LoraConfig(
        r=hyper.r,
        lora_alpha=float(hyper.lora_alpha),  # a default that no file was read for is an integer: it would be written as one
        lora_dropout=float(hyper.lora_dropout),
        bias="none",  # see check_biases
        target_modules=targets,
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
