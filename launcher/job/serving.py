"""Serving: the arguments by which vLLM serves a model or an adapter on its base. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import UsageError

IMAGE: Final = "vllm/vllm-openai:v0.22.1"  # a version, not a digest: --image names another
PORT: Final = 8000
RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has kernels for
# Settings of an adapter that vLLM refuses, or reads as if they were not there -> what they are.
_ALONE: Final = {
    "modules_to_save": "modules that are trained whole (modules_to_save)",
    "use_dora": "DoRA",
    "rank_pattern": "ranks by module (rank_pattern)",
    "alpha_pattern": "scales by module (alpha_pattern)",
    "target_parameters": "experts that are parameters (target_parameters)",
    "lora_bias": "biases of the adapter (lora_bias)",
    "trainable_token_indices": "rows of the embedding (trainable_token_indices)",
}
_EMBEDDINGS: Final = ("embed_tokens", "lm_head", "wte", "embed_out", "word_embeddings")


@dataclass(frozen=True)
class Served:
    """``model``: whole weights, or the base of ``adapter``; folders and files as the server's process sees them, or a hub id.

    ``length``: tokens of a prompt and its answer, None for the model's own limit.
    """

    name: str
    model: str
    adapter: str | None = None
    rank: int = 0
    template: str | None = None
    revision: str | None = None
    length: int | None = None
    trust_remote_code: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """After ``vllm``."""
        return ("serve", self.model, *self._options())

    def _options(self) -> Iterator[str]:
        if self.adapter is None:
            yield from ("--served-model-name", self.name)
        else:
            yield from ("--enable-lora", "--lora-modules", f"{self.name}={self.adapter}", "--max-lora-rank", str(self.rank))
        if self.revision is not None:
            yield from ("--revision", self.revision)
        if self.template is not None:
            yield from ("--chat-template", self.template)
        if self.length is not None:
            yield from ("--max-model-len", str(self.length))
        if self.trust_remote_code:
            yield "--trust-remote-code"


def rank_of(config: Mapping[str, Any]) -> int:
    """The smallest rank of vLLM's that holds that of the adapter with the settings ``config``; raises UsageError above all."""
    rank = int(config.get("r", 0))
    found = next((one for one in RANKS if one >= rank), None)
    if found is None:
        raise UsageError(f"the adapter has rank {rank}; vLLM serves adapters up to {RANKS[-1]}")
    return found


def needs_merge(config: Mapping[str, Any]) -> list[str]:
    """What an adapter with the settings ``config`` has that vLLM cannot serve beside the base."""
    found = [what for key, what in _ALONE.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        found.append(f"biases (bias: {config['bias']})")
    targets = config.get("target_modules") or ()
    named = [one for one in _EMBEDDINGS if one in targets] if not isinstance(targets, str) else []
    return [*found, *(f"an adapter on {one}" for one in named)]
