"""The LoRA keys of ``hyperparameters``, under PEFT's names, and conflicts between them."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ...errors import nearest
from .model import ModelSettings
from .section import Float, Frozen, Int, Text, Texts, in_place_of_null, nothing, true_of_unsloth
from .targets import is_all_linear

_STARTS_AWAY: Final = "the policy would not start at its DPO reference"
_CHANGES_BASE: Final = "it changes the base model, which would then no longer be the DPO reference"
# Values of PEFT's init_lora_weights that a DPO run cannot start from -> why.
_INITS: Final[Mapping[str, str]] = {
    "false": f"for tests of PEFT: A and B are random, and {_STARTS_AWAY}",
    "orthogonal": f"neither A nor B is zero, and {_STARTS_AWAY}",
    **dict.fromkeys(("pissa", "olora", "corda", "lora_ga", "loftq"), _CHANGES_BASE),
    "eva": "it needs a pass over the data that is not supported",
    "mica": "one of its matrices stays frozen, which checkpoints and plans here do not know",
}


def _start(value: object) -> object:
    """``true`` or ``gaussian``: B is zero, so the policy starts equal to its reference."""
    word = value.lower() if isinstance(value, str) else str(value).lower()
    if word == "true":
        return True
    why = _INITS.get("pissa" if word.startswith("pissa_niter_") else word)
    if why is not None:
        text = f"init_lora_weights: {word} is not supported: {why}; use true or gaussian"
        raise PydanticCustomError("refused", "{sentence}", {"sentence": text})
    if word != "gaussian":
        near = nearest(word, ("gaussian", "true"))
        raise PydanticCustomError("trl_choice", "{expected}", {"expected": "true or gaussian", "nearest": near})
    return word


def _tuple_of_int(value: object) -> object:
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else value


def _compiled(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise PydanticCustomError("pattern", "must be a valid pattern ({why})", {"why": f"{pattern!r}: {error}"}) from None


def _patterns(value: Mapping[str, Any]) -> Mapping[str, Any]:
    for pattern in value:
        _compiled(pattern)
    return value


def _pattern(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(value, str):
        _compiled(value)
    return value


class LoraSettings(ModelSettings):
    """The LoRA keys. ``Hyperparameters`` inherits them; the order of classes is the order of keys."""

    r: Int = Field(16, ge=1, examples=[32], description="rank of the adapter")
    lora_alpha: Float = Field(16, gt=0, examples=[64], description="the adapter is scaled by lora_alpha / r")
    lora_dropout: Float = Field(0, ge=0, lt=1, examples=[0.05], description="dropout on the adapter's input")
    bias: Literal["none", "all", "lora_only"] = Field("none", examples=["lora_only"], description="which biases are trained")
    target_modules: Text | tuple[Text, ...] = Field(
        "all-linear", examples=[["q_proj", "v_proj"]], description="modules that get an adapter"
    )
    exclude_modules: Annotated[Text | tuple[Text, ...], in_place_of_null(()), AfterValidator(_pattern)] = Field(
        (), examples=[["down_proj"]], description="modules that get no adapter: names, or a pattern for whole names"
    )
    layers_to_transform: Annotated[
        tuple[Annotated[Int, Field(ge=0)], ...], BeforeValidator(_tuple_of_int), in_place_of_null(())
    ] = Field((), examples=[[0, 1]], description="numbers of the layers that get an adapter, from 0; empty: all")
    rank_pattern: Annotated[Frozen[Annotated[Int, Field(ge=1)]], in_place_of_null({}), AfterValidator(_patterns)] = Field(
        default_factory=nothing, examples=[{"down_proj": 64}], description="another r for some modules: name or pattern -> rank"
    )
    alpha_pattern: Annotated[Frozen[Annotated[Float, Field(gt=0)]], in_place_of_null({}), AfterValidator(_patterns)] = Field(
        default_factory=nothing,
        examples=[{"down_proj": 128}],
        description="another lora_alpha for some modules: name or pattern -> number",
    )
    target_parameters: Annotated[Texts, in_place_of_null(())] = Field(
        (),
        examples=[["mlp.experts.down_proj"]],
        description="parameters that get an adapter, such as experts stored as one tensor: mlp.experts.down_proj",
    )
    modules_to_save: Annotated[Texts, in_place_of_null(())] = Field(
        (),
        examples=[["embed_tokens"]],
        description="modules that are trained whole and saved with the adapter, such as embed_tokens for new tokens",
    )
    use_rslora: Annotated[bool, in_place_of_null(False)] = Field(
        False, examples=[True], description="scale the adapter by lora_alpha / sqrt(r), for large ranks"
    )
    use_dora: Annotated[bool, in_place_of_null(False)] = Field(
        False, examples=[True], description="DoRA: also train the magnitude of each weight row (slower)"
    )
    init_lora_weights: Annotated[Literal[True, "gaussian"], BeforeValidator(_start), in_place_of_null(True)] = Field(
        True, examples=["gaussian"], description="first weights of the adapter: true (Kaiming) or gaussian"
    )
    use_gradient_checkpointing: Annotated[Literal["auto"] | bool, BeforeValidator(true_of_unsloth)] = Field(
        "auto", examples=[True], description="recompute activations in the backward pass; auto: only if GPU memory is short"
    )
    random_state: Int = Field(3407, ge=0, lt=2**32, examples=[1], description="seed of the adapter's initial weights")
    full_finetuning: bool = Field(False, examples=[True], description="train all weights, without an adapter")


# Keys without effect if all weights are trained.
OF_ADAPTER: Final = frozenset(
    LoraSettings.model_fields.keys() - ModelSettings.model_fields.keys() - {"use_gradient_checkpointing", "full_finetuning"}
)


def contradictions(h: LoraSettings) -> Iterable[tuple[str, str]]:
    """(key, rest of the sentence after it) for each conflict between LoRA settings."""
    if h.full_finetuning:
        return
    if not h.target_modules and not h.target_parameters:
        yield "target_modules", "must name at least one module, unless target_parameters is set"
    if h.target_parameters and h.lora_dropout:
        yield "target_parameters", "cannot have dropout; remove lora_dropout"
    if h.target_parameters and h.use_dora:
        yield "target_parameters", "conflicts with use_dora, which needs layers"
    is_pattern = isinstance(h.target_modules, str) and not is_all_linear(h.target_modules)
    if h.layers_to_transform and is_pattern:
        yield "layers_to_transform", "needs target_modules: all-linear or a list of names; a pattern names its layers itself"
    both = set(h.modules_to_save) & set(() if isinstance(h.target_modules, str) else h.target_modules)
    if both:
        yield "modules_to_save", f"and target_modules both name {', '.join(sorted(both))}; keep one"
