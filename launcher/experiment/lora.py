"""The LoRA group of the flat section ``hyperparameters``, by PEFT's names."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from .model import ModelSettings
from .section import Float, Int, Text, true_of_unsloth


class LoraSettings(ModelSettings):
    """The keys of ``Hyperparameters`` between those of the model and those of the loop; it inherits them."""

    r: Int = Field(16, ge=1, description="rank of the adapter")
    lora_alpha: Float = Field(16, gt=0, description="the adapter is scaled by lora_alpha / r")
    lora_dropout: Float = Field(0, ge=0, lt=1, description="dropout on the adapter's input")
    bias: Literal["none", "all", "lora_only"] = Field("none", description="which biases are trained")
    target_modules: Text | Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        "all-linear", description="modules that get an adapter"
    )
    use_gradient_checkpointing: Annotated[Literal["auto"] | bool, BeforeValidator(true_of_unsloth)] = Field(
        "auto", description="recompute activations in the backward pass; auto: only where GPU memory is short"
    )
    random_state: Int = Field(3407, ge=0, lt=2**32, description="seed of the adapter's initial weights")
    full_finetuning: bool = Field(False, description="train all weights, without an adapter")
