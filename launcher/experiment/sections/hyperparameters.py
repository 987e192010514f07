"""Hyperparameters: the flat section. It inherits the keys of the model from ``model`` and those of LoRA from ``lora``."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ..other_tools.method import OF_DPO, OF_DPO_IN_TRL, RATE_OF_SFT, RATE_OF_SFT_WITH_ADAPTER
from ..other_tools.neutral import without_neutral
from ..other_tools.trl_names import choice_error, trl_error
from .conflicts import contradictions, when_evaluated
from .lora import LoraSettings
from .on import on
from .section import (
    Float,
    Frozen,
    Int,
    SaveStrategy,
    Strategy,
    Text,
    Texts,
    bool_of_word,
    nothing,
    tuple_of_one,
)

LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard",
    "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip


class Hyperparameters(LoraSettings):
    """The section ``hyperparameters``. TRL's other fields are in ``trl``."""

    # DPO and loop
    beta: Float = Field(
        0.1, gt=0, examples=[0.05], description="weight of the KL term: a larger value stays closer to the reference"
    )
    loss_type: Annotated[tuple[Literal[*LOSS_TYPES], ...], BeforeValidator(tuple_of_one)] = Field(  # type: ignore[valid-type]
        ("sigmoid",), min_length=1, examples=["ipo"], description="a loss of TRL, or several with loss_weights"
    )
    label_smoothing: Float = Field(0, ge=0, lt=0.5, examples=[0.1], description="probability that a preference is flipped")
    dpo_path: Literal["auto", "fast", "plain"] = Field(
        "auto", examples=["plain"], description="how the DPO step is computed: fast, plain (TRL's own), or auto"
    )
    compile: Literal["auto", "layers", "graphs", "off"] = Field(
        "auto",
        examples=["off"],
        json_schema_extra=on(plain="no effect; layers and graphs are errors"),
        description="compile layers on the fast path (auto: if the run is long enough); graphs: also use CUDA graphs",
    )
    num_train_epochs: Float = Field(1, gt=0, examples=[3], description="passes over the training pairs")
    max_steps: Int | None = Field(None, ge=1, examples=[500], description="optimizer steps; overrides num_train_epochs")
    learning_rate: Float = Field(
        5e-6,
        ge=0,
        examples=["2e-5"],
        description="peak learning rate (unset with method: sft: 2e-4, or 2e-5 with full_finetuning)",
    )
    weight_decay: Float = Field(0, ge=0, examples=[0.01], description="AdamW weight decay")
    warmup_ratio: Float | None = Field(
        None, ge=0, lt=1, examples=[0.1], description="share of the steps in which the learning rate rises"
    )
    lr_scheduler_type: Text = Field("linear", examples=["cosine"], description="shape of the learning rate after warm-up")
    optim: Text = Field(
        "adamw_torch",
        examples=["adamw_8bit"],
        description="optimizer, by its name in transformers; adamw_torch is fused on a GPU",
    )
    per_device_train_batch_size: Int = Field(
        2,
        ge=1,
        examples=[4],
        json_schema_extra=on(
            fast="on a GPU without ZeRO only a factor of the global batch: free memory decides how long a row is",
            plain="pairs of a micro-batch",
        ),
        description="pairs per device in a micro-batch (not on a GPU's fast path, which fills the memory)",
    )
    gradient_accumulation_steps: Int = Field(4, ge=1, examples=[8], description="micro-batches per step, on one device")
    seed: Int = Field(
        42,
        ge=0,
        lt=2**32,
        examples=[1],
        description="seed of the data order and of all randomness except the adapter's initial weights",
    )
    # logs and checkpoints
    report_to: Texts = Field(
        ("tensorboard",), examples=[["tensorboard", "wandb"]], description="tensorboard, wandb, mlflow, trackio, or none"
    )
    logging_steps: Int = Field(1, ge=1, examples=[10], description="steps between two log lines")
    save_strategy: SaveStrategy = Field("steps", examples=["epoch"], description="when a checkpoint is written")
    save_steps: Int = Field(50, ge=1, examples=[100], description="steps between two checkpoints")
    save_total_limit: Int | None = Field(2, ge=1, examples=[3], description="how many checkpoints are kept")
    eval_strategy: Strategy | None = Field(
        None,
        examples=["epoch"],
        description="when validation pairs are evaluated; unset: before training, at each checkpoint and at the end",
    )
    eval_steps: Int | None = Field(
        None,
        ge=1,
        examples=[25],
        description="steps between two evaluations; unset: save_steps, or logging_steps with eval_strategy: steps",
    )
    load_best_model_at_end: bool = Field(False, examples=[True], description="the adapter is the best checkpoint, not the last")
    metric_for_best_model: Text | None = Field(
        None, examples=["rewards/accuracies"], description="metric of the best checkpoint, such as loss or rewards/accuracies"
    )
    greater_is_better: bool | None = Field(None, examples=[True], description="whether a larger metric is better")
    early_stopping_patience: Int | None = Field(
        None, ge=1, examples=[3], description="evaluations without improvement before the run stops"
    )
    early_stopping_threshold: Float = Field(0, ge=0, examples=[0.01], description="smallest change that counts as an improvement")
    resume_from_checkpoint: Annotated[bool | Text, BeforeValidator(bool_of_word)] = Field(
        False, examples=[True], description="true: the newest checkpoint of this experiment; or a path"
    )
    model_output_dir: Text = Field(
        "data/dpo/model",
        examples=["runs"],
        json_schema_extra=on(docker="mounted", kubernetes="a folder of the runs claim"),
        description="folder of the runs",
    )
    trl: Frozen[Any] = Field(default_factory=nothing, description="every other field of TRL's DPOConfig")

    @model_validator(mode="before")
    @classmethod
    def _gather_trl(cls, data: Any) -> Any:
        data = without_neutral("hyperparameters", data, cls.model_fields)
        if not isinstance(data, Mapping):
            return data
        if data.get("dtype") is not None:  # transformers' newer name
            if data.get("torch_dtype") is not None:
                error = PydanticCustomError("contradiction", "and torch_dtype are one setting; keep one")
                raise ValidationError.from_exception_data(
                    "Hyperparameters", [InitErrorDetails(type=error, loc=("dtype",), input=data["dtype"])]
                )
            data = {"torch_dtype": data["dtype"], **{key: value for key, value in data.items() if "dtype" not in key}}
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        rest = {key: value for key, value in data.items() if key not in cls.model_fields}
        return {**own, "trl": {**own.get("trl", {}), **rest}} if rest else own

    @field_validator("trl", mode="before")
    @classmethod
    def _known_to_trl(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            raise PydanticCustomError("mapping_type", "a mapping of TRL's fields")
        own = [name for name in cls.model_fields if name != "trl"]
        details = [
            InitErrorDetails(type=error, loc=(key,), input=value)
            for key, value in fields.items()
            if (error := trl_error(key, value, own)) is not None
        ]
        if details:
            raise ValidationError.from_exception_data("Hyperparameters", details)
        return dict(fields)

    @field_validator("optim", "lr_scheduler_type", mode="after")
    @classmethod
    def _known_to_transformers(cls, value: str, info: ValidationInfo) -> str:
        error = choice_error(str(info.field_name), value)
        if error is not None:
            raise error
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mistakes = list(contradictions(self))
        if mistakes:
            raise ValidationError.from_exception_data(
                "Hyperparameters",
                [
                    InitErrorDetails(type=PydanticCustomError("contradiction", text), loc=(key,), input=_value(self, key))
                    for key, text in mistakes
                ],
            )
        return self

    def for_sft(self) -> Self:
        """The section for ``method: sft``: without DPO settings, and with SFT's defaults for unset ones.

        LoRA dropout is active, as in TRL's SFTTrainer. Unset settings stay unset in ``model_fields_set``.
        """
        rate = RATE_OF_SFT if self.full_finetuning else RATE_OF_SFT_WITH_ADAPTER
        trl = {name: value for name, value in self.trl.items() if name not in OF_DPO_IN_TRL}
        if self.lora_dropout and not self.full_finetuning:
            trl.setdefault("disable_dropout", False)
        defaults = {name: type(self).model_fields[name].default for name in OF_DPO}
        own = {} if "learning_rate" in self.model_fields_set else {"learning_rate": rate}
        found = self.model_copy(update={**defaults, **own, "trl": MappingProxyType(trl)})
        found.model_fields_set.intersection_update(self.model_fields_set - defaults.keys())
        return found

    def with_evaluations(self, *, has_validation: bool) -> Self:
        """The section with the effective ``eval_strategy`` and ``eval_steps``; if unset, they follow the checkpoints.

        Both stay unset in ``model_fields_set``.
        """
        strategy, steps = when_evaluated(self) if has_validation else (self.eval_strategy or "no", self.eval_steps)
        found = self.model_copy(update={"eval_strategy": strategy, "eval_steps": steps})
        found.model_fields_set.intersection_update(self.model_fields_set)
        return found


def _value(section: Hyperparameters, key: str) -> Any:
    return section.trl[key] if key in section.trl else getattr(section, key)
