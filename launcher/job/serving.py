"""Serving: vLLM's arguments for a model, or for an adapter beside its base, and the adapters that vLLM supports. Pure.

The limits come from vLLM's ``lora/peft_helper.py`` and the model classes in ``model_executor/models``, in the version of
:data:`IMAGE`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import UsageError
from .adapter_config import changed_base

IMAGE: Final = "vllm/vllm-openai:v0.32.0"  # a version, not a digest: --image names another
ROCM_IMAGE: Final = IMAGE.replace("vllm-openai", "vllm-openai-rocm")  # the same version for AMD's GPUs
PORT: Final = 8000
_PATTERNS: Final = "0.32"  # the first version that reads rank_pattern and alpha_pattern
RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)  # ranks that vLLM has kernels for
# Settings of an adapter that vLLM rejects or ignores -> what they are.
_ALONE: Final = {
    "modules_to_save": "modules that are trained whole (modules_to_save)",
    "use_dora": "DoRA",
    "target_parameters": "experts that are parameters (target_parameters)",
    "lora_bias": "biases of the adapter (lora_bias)",
}
# The same for settings that cannot be merged either.
_NOWHERE: Final = {
    "trainable_token_indices": "rows of the embedding (trainable_token_indices)",
    "alora_invocation_tokens": "invocation tokens (aLoRA)",
    "layer_replication": "repeated layers (layer_replication)",
    "use_qalora": "grouped inputs (QALoRA)",
    "use_bdlora": "block-diagonal matrices (BD-LoRA)",
}
_EMBEDDINGS: Final = ("embed_tokens", "lm_head", "wte", "embed_out", "word_embeddings")
# Families on whose embedding and head vLLM puts an adapter (their class has ``embedding_modules``).
_EMBEDDED: Final = frozenset(
    {
        "ApertusForCausalLM",
        "Exaone4ForCausalLM",
        "FalconH1ForCausalLM",
        "GraniteForCausalLM",
        "GraniteMoeForCausalLM",
        "GraniteMoeHybridForCausalLM",
        "GraniteMoeSharedForCausalLM",
        "HyperCLOVAXForCausalLM",
        "Lfm2ForCausalLM",
        "Lfm2MoeForCausalLM",
        "LlamaForCausalLM",
        "MiniCPMForCausalLM",
        "MiniCPM3ForCausalLM",
        "MixtralForCausalLM",
        "NemotronForCausalLM",
        "NemotronHForCausalLM",
        "Phi3ForCausalLM",
        "PhiMoEForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "SolarForCausalLM",
    }
)
# Families that vLLM serves without any adapter (their class does not inherit SupportsLoRA).
_BARE: Final = frozenset(
    {
        "BloomForCausalLM",
        "DbrxForCausalLM",
        "FalconForCausalLM",
        "FalconMambaForCausalLM",
        "GPT2LMHeadModel",
        "GPTJForCausalLM",
        "Gemma3nForCausalLM",
        "Mamba2ForCausalLM",
        "MambaForCausalLM",
        "OrionForCausalLM",
        "StableLmForCausalLM",
        "Zamba2ForCausalLM",
    }
)


@dataclass(frozen=True)
class Served:
    """``model``: whole weights, or the base of ``adapter``. Paths are those that the server's process sees; a hub id is
    possible, too.

    ``length``: tokens of prompt plus answer, None for the model's limit. ``dtype``: of the computation, None for vLLM's
    default. ``template_options``: what the run passed to the chat template. ``gpus``: tensor parallelism.
    """

    name: str
    model: str
    adapter: str | None = None
    rank: int = 0
    template: str | None = None
    revision: str | None = None
    length: int | None = None
    dtype: str | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
    gpus: int = 1

    @property
    def is_on_hub(self) -> bool:
        return not self.model.startswith("/")

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments after ``vllm``."""
        return ("serve", self.model, *self._options())

    def _options(self) -> Iterator[str]:
        if self.adapter is None:
            yield from ("--served-model-name", self.name)
        else:
            yield from ("--enable-lora", "--lora-modules", self._module(self.adapter), "--max-lora-rank", str(self.rank))
        if self.revision is not None:
            yield from ("--revision", self.revision)
        if self.template is not None:
            yield from ("--chat-template", self.template)
        if self.template_options:
            yield from ("--default-chat-template-kwargs", json.dumps(dict(self.template_options)))
        if self.length is not None:
            yield from ("--max-model-len", str(self.length))
        if self.dtype is not None:
            yield from ("--dtype", self.dtype)
        if self.gpus > 1:
            yield from ("--tensor-parallel-size", str(self.gpus))
        if self.trust_remote_code:
            yield "--trust-remote-code"

    def _module(self, adapter: str) -> str:
        """The value of --lora-modules. vLLM takes a value with a comma for JSON."""
        plain = f"{self.name}={adapter}"
        return json.dumps({"name": self.name, "path": adapter}, ensure_ascii=False) if "," in plain else plain


def image_of(gpu_resource: str) -> str:
    """vLLM's image for the GPU resource of a cluster, such as nvidia.com/gpu."""
    return ROCM_IMAGE if gpu_resource.startswith("amd.com/") else IMAGE


def rank_of(config: Mapping[str, Any]) -> int:
    """The smallest rank that vLLM supports and that holds every rank of this adapter. Raises UsageError if all are too small."""
    rank = max(int(one) for one in (config.get("r", 0), *(config.get("rank_pattern") or {}).values()))
    found = next((one for one in RANKS if one >= rank), None)
    if found is None:
        raise UsageError(f"the adapter has rank {rank}; vLLM serves adapters up to {RANKS[-1]}")
    return found


def needs_merge(config: Mapping[str, Any], architecture: str | None = None) -> list[str]:
    """Features of this adapter that vLLM cannot serve beside the base, but a merged model can hold.

    ``config``: PEFT's settings. ``architecture``: the base's class in its config.json, None if unknown.
    """
    found = [what for key, what in _ALONE.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        found.append(f"biases (bias: {config['bias']})")
    if architecture not in _EMBEDDED:
        found += [f"an adapter on {one}" for one in _EMBEDDINGS if _targets(config, one)]
    if architecture in _BARE:
        found.append(f"a base for which vLLM takes no adapters ({architecture})")
    return found


def needs_version(config: Mapping[str, Any]) -> str | None:
    """The first vLLM version that serves this adapter correctly; None if every version does."""
    return _PATTERNS if config.get("rank_pattern") or config.get("alpha_pattern") else None


def not_served(config: Mapping[str, Any]) -> list[str]:
    """Features of this adapter that neither vLLM nor a merged model can hold."""
    found = [what for key, what in _NOWHERE.items() if config.get(key)]
    changed = changed_base(config)
    return found if changed is None else [*found, changed]


def _targets(config: Mapping[str, Any], module: str) -> bool:
    """Whether the adapter trains the embedding or head ``module``. ``target_modules`` is a list of names or a pattern."""
    targets = config.get("target_modules") or ()
    if not isinstance(targets, str):
        return any(one.rpartition(".")[2] == module for one in targets)
    try:
        return any(re.fullmatch(targets, path) for path in (module, f"model.{module}", f"transformer.{module}"))
    except re.error:
        return False
