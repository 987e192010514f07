"""Builds the model that training starts from, from a base model and an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import TrainableTokensWrapper
from safetensors import SafetensorError, safe_open

from launcher.errors import ExperimentError, Mistake, Warned
from launcher.experiment.schema import Experiment
from launcher.job.starting import WEIGHTS

from ...processes.ranks.sharding import is_sharded, is_spread
from .model import Precision, load_model
from .starting import Start


def load_start(
    experiment: Experiment,
    path: str,
    precision: Precision,
    start: Start | None,
    *,
    cuda: bool,
    look: Callable[[Any], None] | None = None,
) -> Any:
    """The policy before its first step, which is also the reference: the model at ``path``, with ``start`` added or merged.

    A continued adapter is trainable under the name ``default``. Merged weights are rounded once, to the loaded model's
    precision, see :func:`rounding`. ``look``: receives the model before the adapter. Raises ExperimentError if the adapter does
    not fit the model.
    """
    model = load_model(experiment, path, precision, cuda=cuda)
    if look is not None:
        look(model)
    if start is None:
        return model
    if not start.is_continued and not experiment.hyperparameters.full_finetuning:
        check_plain(start)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    with_adapter = _put(model, start, is_trainable=start.is_continued)
    if start.is_continued:
        _check_head(with_adapter, start)
        return with_adapter
    whole = merged(with_adapter)
    for name, parameter in whole.named_parameters():  # PEFT froze them
        parameter.requires_grad_(name in trainable)
    return whole


def _check_head(model: PeftModel, start: Start) -> None:
    """Raises ExperimentError if the adapter trains single tokens of the head, because TRL uses the head's weight as a whole."""
    if isinstance(model.get_output_embeddings(), TrainableTokensWrapper):
        what = f"{start.name} trains single tokens of an embedding that is also the head (trainable_token_indices)"
        raise ExperimentError(Mistake("adapter", what, "an adapter with modules_to_save: [embed_tokens] instead"))


def check_plain(start: Start) -> None:
    """Raises ExperimentError if the adapter's files hold more than the two matrices of each layer."""
    others = sorted(name for name in _names(start.folder) if ".lora_" not in name)
    if others:
        what = f"{start.name} holds whole weights too: it cannot be joined with the adapter that is trained on it"
        hint = "merge it with: launcher merge, and name the folder of the merged model in model_name"
        raise ExperimentError(Mistake("adapter", what, "adapter_mode: continue, or a plain LoRA adapter", others[0], hint))


def _names(folder: Path) -> list[str]:
    file = folder / WEIGHTS[0]
    if not file.is_file():
        return list(torch.load(folder / WEIGHTS[1], map_location="meta", weights_only=True))
    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())


def put(model: PeftModel, start: Start, name: str) -> None:
    """Loads the adapter as ``name`` beside another one, disabled."""
    with _fits(start):
        model.load_adapter(str(start.folder), adapter_name=name, is_trainable=False)


@contextmanager
def _fits(start: Start) -> Iterator[None]:
    """Raises ExperimentError if the adapter does not fit the model."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, OSError, SafetensorError) as error:
        lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
        what = f"the adapter {start.name} does not fit the model {start.base}"
        raise ExperimentError(Mistake("adapter", what, "an adapter of this model", " ".join(lines[:2])[:300])) from error


def _put(model: Any, start: Start, *, is_trainable: bool) -> PeftModel:
    # Under ZeRO-3 TRL makes new adapters in the model's precision: DeepSpeed gathers tensors of one kind.
    is_wide = not (is_sharded() and any(is_spread(parameter) for parameter in model.parameters()))
    options = {"is_trainable": is_trainable, "autocast_adapter_dtype": is_wide or not is_trainable}
    with _fits(start):
        found = PeftModel.from_pretrained(model, str(start.folder), **options)
    config = found.peft_config["default"]
    config.base_model_name_or_path, config.revision = model.name_or_path, None  # not a path of another machine
    return found


def merged(model: PeftModel) -> Any:
    """The model without PEFT, with the adapter added to its weights. Gathers sharded weights layer by layer."""
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not any(is_spread(parameter) for parameter in model.parameters()):
        return model.merge_and_unload(safe_merge=True)
    for layer in layers:
        with _changed(list(layer.get_base_layer().parameters())):
            layer.merge()
    return model.base_model.unload()


def _changed(parameters: list[torch.nn.Parameter]) -> Any:
    """Gathers sharded ``parameters`` during the block; the first rank's changes are then distributed."""
    if not any(is_spread(parameter) for parameter in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters, modifier_rank=0)


def rounding(model: Any, start: Start | None, precision: Precision) -> list[str]:
    """A warning or notice about precision that a merge loses."""
    if start is None or start.is_continued:
        return []
    if getattr(model, "is_quantized", False) or getattr(model.config, "quantization_config", None) is not None:
        what = "the merged weights are rounded to 4 or 8 bits again, and small changes of the adapter may be lost"
        return [Warned(f"adapter {start.name}: {what}; adapter_mode: continue does not round")]
    if precision.weights != torch.float32:
        kind = str(precision.weights).removeprefix("torch.")
        return [f"adapter {start.name}: merged into the model; the merged weights are rounded to {kind}"]
    return [f"adapter {start.name}: merged into the model"]
