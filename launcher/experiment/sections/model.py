"""The model's keys of ``hyperparameters``: how the base model is loaded, and options of its chat template."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from .on import on
from .section import Day, Float, Int, Section, Text, in_place_of_null, text_of_int

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Attention = Literal["eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"]


def _none_of_auto(value: object) -> object:
    return None if value == "auto" else value


class ModelSettings(Section):
    """The model's keys. ``Hyperparameters`` inherits them; the order of classes is the order of keys."""

    hyperparameters_id: Annotated[str, BeforeValidator(text_of_int)] = Field(
        "1", examples=["wide"], description="name of this set of values"
    )
    # model
    max_seq_length: Int = Field(
        1024, ge=8, examples=[2048], description="longest prompt + answer in tokens; longer answers are cut at the end"
    )
    load_in_4bit: bool = Field(
        False, examples=[True], description="QLoRA: base weights in 4-bit NF4 (needs CUDA and bitsandbytes)"
    )
    load_in_8bit: bool = Field(False, examples=[True], description="base weights in 8 bits (needs CUDA and bitsandbytes)")
    load_in_16bit: bool | None = Field(
        None, examples=[False], description="true: 16-bit weights; false: fp32; unset: by the device"
    )
    torch_dtype: Annotated[Dtype, in_place_of_null("auto")] = Field(
        "auto",
        examples=["bfloat16"],
        description="data type of the weights and the step (also: dtype); auto: by the device",
    )
    attn_implementation: Annotated[Attention | None, BeforeValidator(_none_of_auto)] = Field(
        None,
        examples=["sdpa"],
        json_schema_extra=on(fast="sdpa or flex_attention; any other one takes the plain path", plain="attention of the model"),
        description="attention of the plain path; values other than sdpa and flex_attention turn the fast path off",
    )
    trust_remote_code: bool = Field(False, examples=[True], description="run Python code that ships with the model")
    model_cache_dir: Text | None = Field(
        None,
        examples=["models"],
        json_schema_extra=on(docker="mounted", kubernetes="must be below /dpo/cache or /dpo/runs"),
        description="where downloaded models are kept; unset: the cache root",
    )
    gpu_memory_utilization: Float = Field(
        0.9,
        gt=0,
        le=1,
        examples=[0.8],
        json_schema_extra=on(fast="also limits how long rows are"),
        description="share of a GPU's memory that the run may use",
    )
    # chat template
    enable_thinking: bool | None = Field(None, examples=[False], description="passed to the chat template")
    thinking_mode: Text | bool | None = Field(None, examples=["off"], description="passed to the chat template")
    add_generation_prompt: bool | None = Field(
        None, examples=[False], description="end the prompt with the start of the assistant's turn (unset: true)"
    )
    template_date: Day | None = Field(
        None,
        examples=["2026-07-26"],
        description="date that the chat template writes, such as 2026-07-26 (unset: the day of the run's first start, in UTC)",
    )

    @property
    def wants_16bit(self) -> bool | None:
        """Whether weights and step use 16 bits; None: whatever the device supports."""
        return self.load_in_16bit if self.torch_dtype == "auto" else self.torch_dtype != "float32"


def contradictions(h: ModelSettings) -> Iterable[tuple[str, str]]:
    """(key, rest of the sentence after it) for each conflict between model settings."""
    loads = [name for name in ("load_in_4bit", "load_in_8bit", "load_in_16bit") if getattr(h, name)]
    if len(loads) > 1:
        yield loads[1], f"conflicts with {loads[0]}; keep one"
    if h.torch_dtype != "auto" and h.load_in_16bit is not None:
        yield "torch_dtype", "and load_in_16bit both set the type of the weights; keep one"
    if h.torch_dtype == "float32" and (h.load_in_4bit or h.load_in_8bit):
        yield "torch_dtype", f"must be auto, bfloat16 or float16 with {loads[0]}: quantised weights compute in 16 bits"
