"""Experiment and its sections: each setting is declared once, with type, default, limits and one sentence.

The launcher builds an :class:`Experiment` from YAML (``files``), the trainer from the JSON in the run folder, Python users from
keyword arguments. All get the same frozen class.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ..errors import ExperimentError, Mistake
from .other_tools.method import SFT
from .other_tools.neutral import without_neutral
from .sections import values
from .sections.columns import ColumnMapping, merge_mappings
from .sections.conflicts import needs_evaluations
from .sections.data_checks import DataChecks
from .sections.hyperparameters import Hyperparameters
from .sections.kubernetes import Kubernetes
from .sections.launch import Launch
from .sections.on import on
from .sections.samples import Samples, SamplesSection
from .sections.section import Float, Name, Section, Text
from .sections.storage import StorageConfig
from .sections.values import last_part
from .sections.watched import Health

__all__ = ["ColumnMapping", "Experiment", "Kubernetes", "Launch", "StorageConfig"]


class Experiment(Section):
    """One checked experiment."""

    experiment_id: Name = Field("default", examples=["first-try"], description="names the output folder exp_<id>")
    topic: Text | None = Field(None, examples=["answers of the support team"], description="free text, kept in the run's record")
    model_name: Text = Field(
        examples=["Qwen/Qwen3-0.6B"],
        json_schema_extra=on(
            docker="a local folder is mounted read-only",
            kubernetes="a local folder is copied to the cache claim or to a bucket once",
        ),
        description="hub id, a local folder, or s3://…",
    )
    adapter: Text | None = Field(
        None,
        examples=["me/my-sft-adapter@v1"],
        json_schema_extra=on(
            docker="a local folder is mounted read-only", kubernetes="a local folder is copied like a local model"
        ),
        description="adapter to start from: a folder, a hub id (or id@revision), s3://…, or a run of this machine",
    )
    adapter_mode: Literal["continue", "merge"] = Field(
        "continue",
        examples=["merge"],
        description="continue: continue to train this adapter; merge: merge it into the model and train a new one",
    )
    method: Literal["dpo", "sft"] = Field(
        "dpo", examples=["sft"], description="dpo: learn from preferences; sft: supervised warm-up on the chosen answers"
    )
    framework: Literal["trl", "unsloth"] = Field(
        "trl", examples=["unsloth"], description="trl; unsloth is accepted and means the same"
    )
    multimodal: bool = Field(False, examples=[False], description="only false is supported")
    datasets_path: Text | None = Field(
        None,
        examples=["data/answers"],
        json_schema_extra=on(
            docker="a local folder is mounted read-only",
            kubernetes="local files of up to 900 KiB are sent in a ConfigMap, larger ones are copied once",
        ),
        description="folder, s3://… or hf://owner/name with the data",
    )
    train_filename: Text = Field(
        "training_data.csv",
        examples=["pairs.parquet"],
        description="file with the training pairs: CSV, JSON, Parquet, Arrow, or pairs.xlsx#Sheet; with hf://… a split (train)",
    )
    validation_filename: Text | None = Field(
        None, examples=["validation_data.csv"], description="file with the validation pairs; with hf://… a split"
    )
    validation_split: Annotated[Float, Field(gt=0, lt=1)] | None = Field(
        None,
        examples=[0.1],
        description="share of the training pairs that are held out for validation, by whole prompts",
    )
    prompt_filename: Text | None = Field(
        None, examples=["prompts.csv"], description="file with the prompt table; unset: prompt_data.csv if it exists"
    )
    spreadsheet_id: Text | None = Field(
        None, examples=["1aBcDeFgHiJkLmNoPqRsTuVwXyZ"], description="id of a Google Sheets document"
    )
    train_sheet: Text | None = Field(None, examples=["training"], description="worksheet of the training pairs")
    validation_sheet: Text | None = Field(None, examples=["validation"], description="worksheet of the validation pairs")
    prompt_sheet: Text | None = Field(None, examples=["prompts"], description="worksheet of the prompt table")
    prompt_name: Text = Field("prompt_default", examples=["support"], description="name of the row of the prompt table")
    dpo_column_mapping_config: ColumnMapping | None = Field(None, description="columns of the prompt and the answers")
    column_mapping_config: ColumnMapping | None = Field(None, description="another name for dpo_column_mapping_config")
    save_processed_dataset: bool = Field(False, examples=[True], description="write the rendered pairs to output_processed_dir")
    output_processed_dir: Text = Field(
        "data/dpo/dataset",
        examples=["data/rendered"],
        json_schema_extra=on(docker="mounted", kubernetes="a folder of the runs claim"),
        description="folder for the rendered pairs",
    )
    hyperparameters: Hyperparameters = Field(
        default_factory=Hyperparameters.model_construct, description="model, LoRA, training loop, logs"
    )
    storage_config: StorageConfig | None = Field(None, description="where the adapter is uploaded")
    checkpoint_to: Text | None = Field(
        None,
        examples=["s3://models/checkpoints"],
        json_schema_extra=on(kubernetes="with it several nodes need no shared runs claim"),
        description="s3://bucket/prefix where every checkpoint is copied; a run resumes from it on any machine",
    )
    launch: Launch = Field(default_factory=Launch.model_construct, description="where it runs")
    data_checks: DataChecks = Field(default_factory=DataChecks.model_construct, description="rules that check the rows")
    health: Health = Field(default_factory=Health.model_construct, description="rules that watch the run")
    samples: SamplesSection = Field(
        default_factory=Samples.model_construct, description="prompts whose answers are saved before and after training"
    )
    notify: Text | None = Field(
        None,
        examples=["SLACK_WEBHOOK_URL"],
        json_schema_extra=on(
            host="read from the environment or .env",
            docker="a file of the container",
            kubernetes="a key of the Secret: launcher secrets push",
        ),
        description="variable in .env with the address of a webhook, which gets messages about the run",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, data: Any) -> Any:
        return without_neutral("", data, cls.model_fields)

    _adapter = field_validator("adapter", mode="before")(values.adapter)
    _method = field_validator("method", mode="before")(values.method)
    _checkpoints = field_validator("checkpoint_to", mode="after")(values.folder_in_bucket)
    _buckets = field_validator("model_name", "adapter", "datasets_path", mode="after")(values.bucket)
    _dataset = field_validator("datasets_path", mode="after")(values.dataset)
    _folders = field_validator("model_name", "adapter", mode="after")(values.folder)
    _webhook = field_validator("notify", mode="after")(values.variable)

    @field_validator("multimodal", mode="after")
    @classmethod
    def _text_only(cls, value: bool) -> bool:
        if value:
            raise PydanticCustomError("multimodal", "must be false: images are not supported")
        return value

    @model_validator(mode="after")
    def _one_source(self, info: ValidationInfo) -> Self:
        if self.datasets_path is None and self.spreadsheet_id is None:
            if info.context is not None and not info.context["needs_data"]:
                return self
            raise PydanticCustomError("no_data", "has no data; set datasets_path (files) or spreadsheet_id (Google Sheets)")
        if self.datasets_path is not None and self.spreadsheet_id is not None:
            raise PydanticCustomError("two_sources", "has datasets_path and spreadsheet_id; keep one")
        if self.spreadsheet_id is not None and self.train_sheet is None:
            raise PydanticCustomError("no_sheet", "has spreadsheet_id but no train_sheet; set it to the name of the worksheet")
        h = self.hyperparameters
        wants = "eval_strategy" if h.eval_strategy not in (None, "no") else needs_evaluations(h)
        name, named = self._validation
        if wants is not None and not self.has_validation:
            raise PydanticCustomError("no_validation", f"sets {wants} but has no {name} or validation_split")
        if self.validation_split is not None and named is not None:
            raise PydanticCustomError("two_validations", f"has {name} and validation_split; keep one")
        merge_mappings(self.dpo_column_mapping_config, self.column_mapping_config)
        return self

    @model_validator(mode="after")
    def _adapter_can_be_trained(self) -> Self:
        if self.adapter is None:
            if self.adapter_mode != "continue":
                raise PydanticCustomError("no_adapter", "sets adapter_mode but has no adapter")
            return self
        if self.hyperparameters.full_finetuning and self.adapter_mode == "continue":
            what = "trains all weights and cannot continue an adapter; set adapter_mode: merge"
            raise PydanticCustomError("adapter_mode", f"sets full_finetuning and adapter: full_finetuning {what}")
        if self.hyperparameters.trl.get("ld_alpha") is not None and self.adapter_mode == "continue" and not self.is_sft:
            what = "needs the reference in every step, which includes the adapter; set adapter_mode: merge"
            raise PydanticCustomError("adapter_mode", f"sets ld_alpha and adapter: ld_alpha {what}")
        return self

    @model_validator(mode="after")
    def _evaluations_follow_the_checkpoints(self) -> Self:
        h = self.hyperparameters.for_sft() if self.is_sft else self.hyperparameters
        self.__dict__["hyperparameters"] = h.with_evaluations(has_validation=self.has_validation)
        return self

    @property
    def is_sft(self) -> bool:
        """Whether it is SFT on the chosen answers, without a reference model; otherwise DPO."""
        return self.method == SFT

    @property
    def has_validation(self) -> bool:
        """Whether it has validation pairs: given ones, or a share of the training pairs."""
        return bool(self._validation[1]) or self.validation_split is not None

    @property
    def _validation(self) -> tuple[str, str | None]:
        """(name of the setting for validation pairs, its value)."""
        if self.spreadsheet_id:
            return "validation_sheet", self.validation_sheet
        return "validation_filename", self.validation_filename

    @property
    def named_secrets(self) -> tuple[str, ...]:
        """The environment variables with secrets that it names in ``launch.secrets`` and ``notify``."""
        own = self.launch.secrets
        return own if self.notify is None or self.notify in own else (*own, self.notify)

    @property
    def columns(self) -> ColumnMapping:
        """The column mapping with its defaults ``prompt``, ``chosen`` and ``rejected``; SFT has no ``rejected``."""
        found = merge_mappings(self.dpo_column_mapping_config, self.column_mapping_config)
        return found.model_copy(update={"rejected": None}) if self.is_sft else found

    @property
    def names_answers(self) -> bool:
        """Whether a mapping names the column of the chosen answers."""
        mappings = (self.dpo_column_mapping_config, self.column_mapping_config)
        return any(mapping is not None and mapping.resolved().chosen is not None for mapping in mappings)

    @property
    def names_inputs(self) -> bool:
        """Whether a mapping names the columns of the prompt."""
        mappings = (self.dpo_column_mapping_config, self.column_mapping_config)
        return any(mapping is not None and mapping.input_columns is not None for mapping in mappings)

    @property
    def model_folder(self) -> str:
        """The last part of ``model_name``, used as a folder name."""
        return last_part(self.model_name)

    @property
    def global_batch(self) -> int:
        """Pairs per optimizer step, independent of the number of devices."""
        h = self.hyperparameters
        return self.launch.global_batch_size or h.per_device_train_batch_size * h.gradient_accumulation_steps

    def kept(self, pairs: int, world: int, micro: int | None = None) -> int:
        """Training pairs per epoch, out of ``pairs``: ``dataloader_drop_last`` drops those that do not fill a micro-batch on
        all ``world`` ranks.

        ``micro``: pairs per micro-batch if it is smaller than configured, because memory ran out.
        """
        h = self.hyperparameters
        together = (micro or h.per_device_train_batch_size) * world
        return pairs - pairs % together if h.trl.get("dataloader_drop_last") else pairs

    def check_kept(self, pairs: int, world: int) -> None:
        """Raises ExperimentError if ``dataloader_drop_last`` would drop all ``pairs``."""
        if not self.kept(pairs, world):
            wanted = self.hyperparameters.per_device_train_batch_size * world
            what, expected = "leaves no pair to train on", f"at least {wanted} pairs, a micro-batch on every process"
            raise ExperimentError(Mistake("hyperparameters.dataloader_drop_last", what, expected, f"{pairs} pairs"))

    def steps(self, pairs: int, world: int, micro: int | None = None) -> int:
        """Optimizer steps over ``pairs`` training pairs, counted like transformers: the last step of an epoch may be smaller.

        Arguments as in :meth:`kept`.
        """
        h = self.hyperparameters
        return h.max_steps or math.ceil(self._steps_per_epoch(pairs, world, micro) * h.num_train_epochs)

    def _steps_per_epoch(self, pairs: int, world: int, micro: int | None = None) -> int:
        return max(1, math.ceil(self.kept(pairs, world, micro) / self.global_batch))

    def evaluations(self, pairs: int, world: int) -> int:
        """Number of evaluations without early stopping: before the first step, by ``eval_strategy``, and after the last step.

        Arguments as in :meth:`steps`.
        """
        h = self.hyperparameters
        if h.eval_strategy == "no":
            return 0
        every = (h.eval_steps or h.logging_steps) if h.eval_strategy == "steps" else self._steps_per_epoch(pairs, world)
        return 1 + math.ceil(self.steps(pairs, world) / every)

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, needs_data: bool = True) -> Self:
        """Validates ``data``. Raises pydantic's ``ValidationError``, which :func:`problems` explains.

        ``needs_data``: False for an experiment that only names a model and a bucket, to upload an earlier run.
        """
        return cls.model_validate(data, context={"needs_data": needs_data})
