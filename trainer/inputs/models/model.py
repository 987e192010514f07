"""Tokenizer, model and quantisation, as the experiment sets and the device supports."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.peft_utils import find_adapter_config_file

from launcher.errors import CredentialError, ExperimentError, LauncherError, Mistake
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.hub import of_network, refusal
from launcher.job.adapter_config import ADAPTER
from launcher.job.model import TOKENIZER_FILES, check_adapter
from launcher.packages import adding

from ...processes.ending import explained
from ...processes.ranks.importing import reveal
from ..hub import from_hub
from .dropout import silence


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
    """16 bits if the device supports it: never fp32 by accident on a GPU, never 16 bits by accident on a CPU.

    LoRA's frozen weights have the compute dtype. Full fine-tuning keeps fp32 master weights under autocast, because an update
    of 5e-6 is lost in bf16's 8 bits, unless load_in_16bit is set. ``is_sharded``: DeepSpeed keeps sharded master weights
    itself, and the model in the compute dtype. Raises ExperimentError if the device lacks the requested torch_dtype, or for
    fp16 master weights, which no gradient scaler supports.
    """
    wanted = hyper.wants_16bit
    _check_dtype(hyper, cuda=cuda, bf16=bf16)
    if cuda and wanted is False and (hyper.load_in_4bit or hyper.load_in_8bit):
        wanted = None  # they choose how weights are stored; 4- and 8-bit weights compute in 16 bits
    if wanted is False or (not cuda and wanted is None):
        return Precision(torch.float32, bf16=False, fp16=False)
    if not cuda:
        return Precision(torch.bfloat16, bf16=True, fp16=False)
    bf16 = bf16 and hyper.torch_dtype != "float16"
    half = torch.bfloat16 if bf16 else torch.float16
    masters = hyper.full_finetuning and wanted is None and not is_sharded
    return Precision(torch.float32 if masters else half, bf16=bf16, fp16=not bf16)


def _check_dtype(hyper: Hyperparameters, *, cuda: bool, bf16: bool) -> None:
    """Raises ExperimentError if the device lacks the requested dtype, or cannot train all weights in it."""
    dtype, key = hyper.torch_dtype, "hyperparameters.torch_dtype"
    if dtype == "float16" and not cuda:
        raise ExperimentError(Mistake(key, "fp16 needs a GPU", "auto, float32 or bfloat16", dtype))
    if dtype == "bfloat16" and cuda and not bf16:
        raise ExperimentError(Mistake(key, "this GPU has no bf16", "auto, float32 or float16", dtype))
    if not (cuda and hyper.wants_16bit and hyper.full_finetuning):
        return
    if dtype == "float16":
        what = "fp16 cannot train all weights"
        raise ExperimentError(Mistake(key, what, "auto, for fp32 weights and a 16-bit step", dtype))
    if not bf16:
        what = "this GPU has no bf16, and fp16 cannot train all weights"
        expected = "unset, for fp32 weights and a 16-bit step"
        raise ExperimentError(Mistake("hyperparameters.load_in_16bit", what, expected, "true"))


def load_tokenizer(experiment: Experiment, path: str, source: str | None = None) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with a padding token. Raises ExperimentError if it cannot be loaded, lacks a padding token, or if
    ``path`` (folder or hub id) is an adapter.

    ``source``: folder of an adapter with its own tokenizer; None: ``path``.
    """
    hyper = experiment.hyperparameters
    if source is None or source == path:
        refuse_adapter(experiment, path, cached=True)
    path = source or path
    if Path(path).is_dir() and not any((Path(path) / name).exists() for name in TOKENIZER_FILES):
        # from config.json alone transformers would create an empty tokenizer
        raise not_loaded(experiment, "tokenizer", FileNotFoundError("none of " + ", ".join(TOKENIZER_FILES)))
    options = options_of(hyper)
    try:
        tokenizer = from_hub(
            path,
            "tokenizer",
            hyper.model_cache_dir,
            lambda cached: _tokenizer(experiment, path, cached, options),
        )
    except (OSError, ValueError) as error:
        raise not_loaded(experiment, "tokenizer", error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ExperimentError(
            Mistake("model_name", f"the tokenizer of {experiment.model_name} has no padding token and no end-of-text token")
        )
    return tokenizer


def _tokenizer(experiment: Experiment, path: str, cached: bool, options: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    if not Path(path).is_dir():
        refuse_adapter(experiment, path, cached=cached)
    return AutoTokenizer.from_pretrained(path, local_files_only=cached, **options)


def refuse_adapter(experiment: Experiment, path: str, *, cached: bool) -> None:
    """Raises ExperimentError if ``path`` holds an adapter, because transformers would load it with its own base model.

    ``cached``: look up a hub id only in the cache.
    """
    if Path(path).is_dir():
        found: str | None = str(Path(path) / ADAPTER)
    else:
        cache = experiment.hyperparameters.model_cache_dir
        found = find_adapter_config_file(path, cache_dir=cache, local_files_only=cached)
    if found is not None:
        check_adapter(experiment.model_name, Path(found).parent)


def weights_size(path: str) -> str:
    """``: 1.2 GiB`` for a folder with weights; empty for a hub id, whose size is unknown yet."""
    files = [file for suffix in ("safetensors", "bin") for file in Path(path).glob(f"*.{suffix}")] if Path(path).is_dir() else []
    size = sum(file.stat().st_size for file in files)
    if not size:
        return ""
    return f": {amount(size)}"


def amount(size: float) -> str:
    """``1.2 GiB``, or ``3.4 MiB`` below 0.1 GiB. ``size``: in bytes."""
    return f"{size / 2**30:.1f} GiB" if size >= 0.1 * 2**30 else f"{size / 2**20:.1f} MiB"


def options_of(hyper: Hyperparameters) -> dict[str, Any]:
    """Options with which transformers loads everything of a model. A model's own code, if allowed, may import optional
    packages.
    """
    if hyper.trust_remote_code:
        reveal()
    return {"trust_remote_code": hyper.trust_remote_code, "cache_dir": hyper.model_cache_dir}


def load_model(experiment: Experiment, path: str, precision: Precision, *, cuda: bool) -> PreTrainedModel:
    """The base model on the CPU, or if quantised on this rank's GPU; the trainer moves it."""
    hyper = experiment.hyperparameters
    options: dict[str, Any] = {"dtype": precision.weights}
    quantization = _quantization(hyper, precision, cuda=cuda)
    if quantization is not None:
        options |= {"quantization_config": quantization, "device_map": {"": torch.cuda.current_device()}}
    if hyper.attn_implementation is not None:
        options["attn_implementation"] = hyper.attn_implementation
    options |= {**options_of(hyper), "output_loading_info": True}
    try:
        model, report = from_hub(
            path,
            "model",
            hyper.model_cache_dir,
            lambda cached: AutoModelForCausalLM.from_pretrained(path, local_files_only=cached, **options),
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _no_attention(experiment, error) or not_loaded(experiment, "model", error) from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would only warn and initialise them at random
        names = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise not_loaded(experiment, "model", ValueError(f"{len(missing)} weights are missing from its files: {names}"))
    if hyper.trl.get("disable_dropout", True):
        silence(model)
    return model


def _quantization(hyper: Hyperparameters, precision: Precision, *, cuda: bool) -> Any:
    if not (hyper.load_in_4bit or hyper.load_in_8bit) or not cuda:
        return None
    name = "load_in_4bit" if hyper.load_in_4bit else "load_in_8bit"
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ExperimentError(Mistake(f"hyperparameters.{name}", "bitsandbytes is not installed", hint=adding("cuda")))
    from transformers import BitsAndBytesConfig

    if hyper.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision.weights,
    )


def _no_attention(experiment: Experiment, error: Exception) -> ExperimentError | None:
    """The error of an ``attn_implementation`` that this model or machine does not support; None for other errors."""
    name = experiment.hyperparameters.attn_implementation
    text = str(error).strip()
    if name is None or not re.search(r"attention|attn", text, re.IGNORECASE) or not isinstance(error, ImportError | ValueError):
        return None
    what = f"{experiment.model_name} cannot use {name} here: {text.splitlines()[0]}"
    return ExperimentError(Mistake("hyperparameters.attn_implementation", what, "unset, or another attention", name))


def not_loaded(
    experiment: Experiment, part: str, error: Exception, *, setting: str = "model_name", name: str | None = None
) -> Exception:
    """The error of a model, tokenizer or adapter that cannot be loaded; a network or disk failure is not an ExperimentError.

    ``name``: the value of ``setting``, by default the model.
    """
    called = experiment.model_name if name is None else name
    if (away := of_network(error)) is not None:
        return away
    if (known := explained(error)) is not None:  # such as a full disk or a failing file system
        return LauncherError(f"cannot load the {part} of {called}: {known[1]}")
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if (refused := refusal(error)) is not None or re.search(r"gated repo|\b40[13] Client Error", str(error)):
        why = refused or text
        return CredentialError(f"{part} of {called}: permission denied ({why}); set HF_TOKEN in .env")
    kind = "a folder with config.json" if Path(called).is_absolute() else "a hub id or a model folder"
    if setting != "model_name":
        kind = "a hub id, perhaps with @revision, or the folder of an adapter"
    what = f"cannot load the {part} of {called}" if setting == "model_name" else f"cannot load {called}"
    return ExperimentError(Mistake(setting, what, expected=kind, found=text))
