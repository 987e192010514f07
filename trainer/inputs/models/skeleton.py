"""The model without its weights, for checks before they are loaded."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from launcher.errors import ExperimentError, Mistake
from launcher.experiment.schema import Experiment

from ..hub import from_hub
from ..tokens.reach import Reach
from .model import options_of
from .targets import check_targets, try_adapter


def examined(experiment: Experiment, path: str) -> Reach | None:
    """What an adapter reaches in the model ``path`` (folder or hub id); None if only the loaded model can tell.

    Raises ExperimentError if its configuration contradicts itself, or if it lacks a module in ``target_modules``.
    """
    model = _skeleton(experiment, path)
    if model is None:
        return None
    reach = Reach.of(model)
    check_targets(model, experiment.hyperparameters, experiment.model_name)
    try_adapter(model, experiment.hyperparameters, experiment.model_name)
    return reach


def _skeleton(experiment: Experiment, path: str) -> Any | None:
    """The model on the meta device (shapes without values); None if it cannot be created.

    ``load_model`` reports an unreadable configuration. A model whose own code needs values is left to it, too.
    """
    hyper, cache = experiment.hyperparameters, experiment.hyperparameters.model_cache_dir
    options = options_of(hyper)
    try:
        config = from_hub(
            path, "configuration", cache, lambda cached: AutoConfig.from_pretrained(path, local_files_only=cached, **options)
        )
    except Exception:  # the configuration's own code may raise anything; loading the model reports it
        return None
    _check_padding(config.get_text_config(decoder=True), experiment.model_name)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=hyper.trust_remote_code)
    except Exception:  # as above
        return None


def _check_padding(config: Any, model_name: str) -> None:
    padding, rows = getattr(config, "pad_token_id", None), getattr(config, "vocab_size", None)
    if isinstance(padding, int) and isinstance(rows, int) and padding >= rows:
        what = f"the configuration of {model_name} pads with id {padding}, and its embedding has {rows} rows"
        hint = "correct pad_token_id in its config.json, or resize the embedding: model.resize_token_embeddings(…)"
        raise ExperimentError(Mistake("model_name", what, f"pad_token_id below {rows} (vocab_size)", str(padding), hint))
