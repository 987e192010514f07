"""The model's group of the flat section ``hyperparameters``: how the base model is loaded, and what its chat template takes."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from .section import Day, Float, Int, Section, Text, text_of_int


class ModelSettings(Section):
    """The first keys of ``Hyperparameters``, which inherits them: the order of keys is that of the classes."""

    hyperparameters_id: Annotated[str, BeforeValidator(text_of_int)] = Field("1", description="name of this set of values")
    # model
    max_seq_length: Int = Field(1024, ge=8, description="longest prompt + answer in tokens; longer answers are cut at the end")
    load_in_4bit: bool = Field(False, description="QLoRA: base weights in 4-bit NF4 (needs CUDA and bitsandbytes)")
    load_in_8bit: bool = Field(False, description="base weights in 8 bits (needs CUDA and bitsandbytes)")
    load_in_16bit: bool | None = Field(None, description="16-bit weights; unset: as the device supports, false: fp32")
    trust_remote_code: bool = Field(False, description="run Python code that ships with the model")
    model_cache_dir: Text | None = Field(None, description="where downloaded models are kept; unset: the cache root")
    gpu_memory_utilization: Float = Field(0.9, gt=0, le=1, description="share of a GPU's memory that the run may use")
    # chat template
    enable_thinking: bool | None = Field(None, description="passed to the chat template")
    thinking_mode: Text | bool | None = Field(None, description="passed to the chat template")
    add_generation_prompt: bool | None = Field(
        None, description="end the prompt with the start of the assistant's turn (unset: true)"
    )
    template_date: Day | None = Field(
        None, description="date that the chat template writes, as 2026-07-26 (unset: the day of the run's first start, in UTC)"
    )
