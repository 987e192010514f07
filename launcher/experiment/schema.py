"""An experiment and its sections: each setting declared once, with its type, default, limits and one sentence.

The launcher builds an :class:`Experiment` from a YAML file (``files``), the trainer from the JSON that the launcher left in the
run folder, Python users from keyword arguments. All three get the same frozen class.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ..errors import ExperimentError, Mistake
from ..redact import SECRET
from .bucket_name import EXPECTED, SCHEME, is_bucket, split
from .hyperparameters import Hyperparameters, needs_evaluations
from .neutral import without_neutral
from .samples import Samples, SamplesSection
from .section import Float, Frozen, Int, Name, Section, Size, Text, Texts, nothing
from .watched import Health


class ColumnMapping(Section):
    """Which columns make the prompt and the two answers."""

    input_columns: Frozen[Text] | None = Field(None, description="placeholder of the user template -> column of the data")
    chosen: Text | Frozen[Text] | None = Field(None, description="column of the preferred answer, or JSON key -> column")
    rejected: Text | Frozen[Text] | None = Field(None, description="column of the other answer, or JSON key -> column")
    label_columns: Text | Frozen[Text | Frozen[Text]] | None = Field(
        None, description="another form: {chosen: …, rejected: …}, or the column of the preferred answer alone"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, data: Any) -> Any:
        return without_neutral("dpo_column_mapping_config", data)

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if self.label_columns is not None:
            own = "chosen" if not self._labels_both else "chosen and rejected"
            if self.chosen is not None or (self._labels_both and self.rejected is not None):
                raise PydanticCustomError("twice", f"sets {own} twice: directly and in label_columns; keep one")
        return self

    @property
    def _labels_both(self) -> bool:
        return isinstance(self.label_columns, Mapping) and set(self.label_columns) == {"chosen", "rejected"}

    def resolved(self) -> Self:
        """The same mapping with ``label_columns`` written as ``chosen`` and ``rejected``."""
        if self.label_columns is None:
            return self
        labels: Any = self.label_columns
        answers = dict(labels) if self._labels_both else {"chosen": labels, "rejected": self.rejected}
        return type(self)(input_columns=self.input_columns, **answers)


class StorageConfig(Section):
    """Where an adapter goes after training."""

    provider: Literal["s3"] = Field("s3", description="the kind of object store")
    upload_to_cloud: bool = Field(False, description="upload the adapter after training")
    bucket_name: Text | None = Field(None, description="name of the bucket")
    object_prefix: str = Field("", description="prefix of every object's key")
    endpoint_url: Annotated[str, Field(pattern=r"^https?://")] | None = Field(
        None, description="address of an S3-compatible server; unset: AWS"
    )
    region: Text | None = Field(None, description="the bucket's region; unset: AWS_REGION")

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, data: Any) -> Any:
        return without_neutral("storage_config", data)

    @field_validator("bucket_name", mode="after")
    @classmethod
    def _may_exist(cls, value: str | None) -> str | None:
        if value is not None and not is_bucket(value):
            raise PydanticCustomError("bucket_type", EXPECTED)
        return value

    @field_validator("endpoint_url", mode="after")
    @classmethod
    def _holds_no_secret(cls, value: str | None) -> str | None:
        if value is not None and "@" in value.split("/")[2]:
            raise PydanticCustomError(
                "secret", "contains a user name or a password; put AWS_ACCESS_KEY and AWS_SECRET_KEY into .env"
            )
        return value

    @model_validator(mode="after")
    def _has_bucket(self) -> Self:
        if self.upload_to_cloud and self.bucket_name is None:
            raise PydanticCustomError("no_bucket", "needs bucket_name for upload_to_cloud: true")
        return self


class Kubernetes(Section):
    """Settings for a Kubernetes cluster."""

    namespace: Text | None = Field(None, description="namespace of the run; unset: that of the context")
    queue: Text | None = Field(None, description="Kueue's LocalQueue")
    service_account: Text | None = Field(None, description="the pods' service account")
    node_selector: Frozen[Text] = Field(default_factory=nothing, description="labels that the nodes must have")
    tolerations: tuple[Frozen[Any], ...] = Field((), description="taints that the pods tolerate")
    image_pull_secrets: Texts = Field((), description="secrets for pulling the image")
    volumes: Frozen[Text] = Field(default_factory=nothing, description="runs, cache, data -> name of a persistent volume claim")
    kind: Literal["auto", "job", "jobset"] = Field("auto", description="kind of object that runs the pods")
    secret: Text = Field("dpo-secrets", description="the Secret that `launcher secrets push` writes")
    runtime_class: Text | None = Field(None, description="the pods' runtime class, such as nvidia on k3s")
    active_deadline: Int | None = Field(
        None, ge=1, description="seconds after which the run is ended; the time in Pending counts"
    )


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Launch(Section):
    """Where and on which resources the experiment runs; the mathematics does not depend on it."""

    image: Text | None = Field(None, description="container image; unset: built from this checkout")
    gpus: Annotated[Literal["auto"] | Annotated[Int, Field(ge=0)], Field()] = Field("auto", description="GPUs per node")
    nodes: Int = Field(1, ge=1, description="number of nodes")
    processes: Int | None = Field(None, ge=1, description="processes per node without GPUs; unset: 1")
    parallelism: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        "auto", description="auto, ddp, or the name of a file in configs/deepspeed, such as zero2"
    )
    global_batch_size: Int | None = Field(None, ge=1, description="pairs per step over all devices; unset: as on one device")
    cpus: Float | None = Field(None, gt=0, description="CPU cores per node")
    memory: Size | None = Field(None, description="main memory per node, such as 64Gi")
    shm_size: Size | None = Field(None, description="size of /dev/shm, such as 16Gi")
    env: tuple[Text, ...] | Frozen[str | Int | Float | bool | None] = Field(
        (), description="names of variables to pass on, or name -> value"
    )
    secrets: Texts = Field((), description="names of secrets, delivered as files")
    max_restarts: Int = Field(3, ge=0, description="restarts after a temporary failure")
    kubernetes: Kubernetes = Field(default_factory=Kubernetes.model_construct, description="settings for a Kubernetes cluster")

    @field_validator("env", mode="after")
    @classmethod
    def _no_secret(cls, env: Any) -> Any:
        secret = next((name for name in env if SECRET.search(name)), None)
        if secret is not None:
            raise PydanticCustomError("secret", f": {secret} looks like a secret; name it in launch.secrets instead")
        given = [name for name, value in env.items() if value is not None] if isinstance(env, Mapping) else []
        address = next((name for name in given if name.startswith("GOOGLE_SHEETS_")), None)
        if address is not None:  # a file must not decide where a key is sent
            raise PydanticCustomError("address", f": {address} is read from the environment or .env only")
        wrong = next((name for name in env if not _VARIABLE.fullmatch(name)), None)
        if wrong is not None:
            raise PydanticCustomError("variable", f": {wrong!r} is not a variable name (letters, digits and '_')")
        return env


class Experiment(Section):
    """One experiment, whole and checked."""

    experiment_id: Name = Field("default", description="names the output folder exp_<id>")
    topic: Text | None = Field(None, description="free text, kept in the run's record")
    model_name: Text = Field(description="hub id, a local folder, or s3://…")
    framework: Literal["trl", "unsloth"] = Field("trl", description="trl; unsloth is accepted and means the same")
    multimodal: bool = Field(False, description="only false is supported")
    datasets_path: Text | None = Field(None, description="folder or s3://… with the CSV files")
    train_filename: Text = Field("training_data.csv", description="file with the training pairs")
    validation_filename: Text | None = Field(None, description="file with the validation pairs")
    prompt_filename: Text | None = Field(None, description="file with the prompt table; unset: prompt_data.csv if it exists")
    spreadsheet_id: Text | None = Field(None, description="id of a Google Sheets document")
    train_sheet: Text | None = Field(None, description="worksheet of the training pairs")
    validation_sheet: Text | None = Field(None, description="worksheet of the validation pairs")
    prompt_sheet: Text | None = Field(None, description="worksheet of the prompt table")
    prompt_name: Text = Field("prompt_default", description="name of the row of the prompt table")
    dpo_column_mapping_config: ColumnMapping | None = Field(None, description="columns of the prompt and the answers")
    column_mapping_config: ColumnMapping | None = Field(None, description="the same under a more general name")
    save_processed_dataset: bool = Field(False, description="write the rendered pairs to output_processed_dir")
    output_processed_dir: Text = Field("data/dpo/dataset", description="folder for the rendered pairs")
    hyperparameters: Hyperparameters = Field(
        default_factory=Hyperparameters.model_construct, description="model, LoRA, loop, logs"
    )
    storage_config: StorageConfig | None = Field(None, description="where the adapter is uploaded")
    launch: Launch = Field(default_factory=Launch.model_construct, description="where it runs")
    health: Health = Field(default_factory=Health.model_construct, description="what the run watches")
    samples: SamplesSection = Field(
        default_factory=Samples.model_construct, description="prompts whose answers are written down, before and after"
    )
    notify: Text | None = Field(None, description="variable of .env that holds the address of a webhook, told how the run goes")

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, data: Any) -> Any:
        return without_neutral("", data)

    @field_validator("model_name", "datasets_path", mode="after")
    @classmethod
    def _names_a_bucket(cls, value: str | None) -> str | None:
        if value is not None and value.startswith(SCHEME) and not is_bucket(split(value)[0]):
            raise PydanticCustomError("bucket_type", f"{SCHEME}bucket/folder, with {EXPECTED}")
        return value

    @field_validator("model_name", mode="after")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if _last_part(value) in ("", ".", "..", "~"):
            raise PydanticCustomError("folder", f"must end with the name of a folder, not {value}")
        return value

    @field_validator("notify", mode="after")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            raise PydanticCustomError(
                "variable", "must be the name of a variable, such as SLACK_WEBHOOK_URL; put the address itself into .env"
            )
        return value

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
            raise PydanticCustomError("no_data", "has no data; set datasets_path (CSV files) or spreadsheet_id (Google Sheets)")
        if self.datasets_path is not None and self.spreadsheet_id is not None:
            raise PydanticCustomError("two_sources", "has datasets_path and spreadsheet_id; keep one")
        if self.spreadsheet_id is not None and self.train_sheet is None:
            raise PydanticCustomError("no_sheet", "has spreadsheet_id but no train_sheet")
        h = self.hyperparameters
        wants = "eval_strategy" if h.eval_strategy not in (None, "no") else needs_evaluations(h)
        if wants is not None and not self.has_validation:
            name = "validation_sheet" if self.spreadsheet_id else "validation_filename"
            raise PydanticCustomError("no_validation", f"sets {wants} but has no {name}")
        _merge_mappings(self.dpo_column_mapping_config, self.column_mapping_config)
        return self

    @model_validator(mode="after")
    def _evaluations_follow_the_checkpoints(self) -> Self:
        self.__dict__["hyperparameters"] = self.hyperparameters.with_evaluations(has_validation=self.has_validation)
        return self

    @property
    def has_validation(self) -> bool:
        """Whether it names validation pairs."""
        return bool(self.validation_sheet if self.spreadsheet_id else self.validation_filename)

    @property
    def named_secrets(self) -> tuple[str, ...]:
        """The variables with secrets that it names: those of ``launch.secrets``, and that of ``notify``."""
        own = self.launch.secrets
        return own if self.notify is None or self.notify in own else (*own, self.notify)

    @property
    def columns(self) -> ColumnMapping:
        """The mapping in force, with the defaults ``prompt``, ``chosen`` and ``rejected`` filled in."""
        return _merge_mappings(self.dpo_column_mapping_config, self.column_mapping_config)

    @property
    def model_folder(self) -> str:
        """The last part of ``model_name``, which names a folder of the output."""
        return _last_part(self.model_name)

    @property
    def global_batch(self) -> int:
        """Pairs per optimizer step, on any number of devices."""
        h = self.hyperparameters
        return self.launch.global_batch_size or h.per_device_train_batch_size * h.gradient_accumulation_steps

    def kept(self, pairs: int, world: int, micro: int | None = None) -> int:
        """Of ``pairs`` training pairs those that an epoch holds: ``dataloader_drop_last`` leaves out what fills no micro-batch on
        all ``world`` ranks. ``micro``: pairs of a micro-batch, where memory has run out and it is smaller.
        """
        h = self.hyperparameters
        together = (micro or h.per_device_train_batch_size) * world
        return pairs - pairs % together if h.trl.get("dataloader_drop_last") else pairs

    def check_kept(self, pairs: int, world: int) -> None:
        """Raises ExperimentError where ``dataloader_drop_last`` leaves out all ``pairs``."""
        if not self.kept(pairs, world):
            wanted = self.hyperparameters.per_device_train_batch_size * world
            what, expected = "leaves no pair to train on", f"at least {wanted} pairs, a micro-batch on every process"
            raise ExperimentError(Mistake("hyperparameters.dataloader_drop_last", what, expected, f"{pairs} pairs"))

    def steps(self, pairs: int, world: int, micro: int | None = None) -> int:
        """Optimizer steps over ``pairs`` training pairs, counted as transformers does: the last step of an epoch may be smaller.

        Arguments are those of :meth:`kept`.
        """
        h = self.hyperparameters
        return h.max_steps or math.ceil(self._steps_per_epoch(pairs, world, micro) * h.num_train_epochs)

    def _steps_per_epoch(self, pairs: int, world: int, micro: int | None = None) -> int:
        return max(1, math.ceil(self.kept(pairs, world, micro) / self.global_batch))

    def evaluations(self, pairs: int, world: int) -> int:
        """How often the validation pairs are evaluated, unless patience ends the run: before the first step, by
        ``eval_strategy``, and after the last step. ``pairs`` and ``world`` as for :meth:`steps`.
        """
        h = self.hyperparameters
        if h.eval_strategy == "no":
            return 0
        every = (h.eval_steps or h.logging_steps) if h.eval_strategy == "steps" else self._steps_per_epoch(pairs, world)
        return 1 + math.ceil(self.steps(pairs, world) / every)

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, needs_data: bool = True) -> Self:
        """``data`` as an experiment; raises pydantic's ``ValidationError``, which :func:`problems` explains.

        ``needs_data``: False for an experiment that only names a model and a bucket, to upload what an earlier run left.
        """
        return cls.model_validate(data, context={"needs_data": needs_data})


def _last_part(path: str) -> str:
    return path.removeprefix("s3://").rstrip("/").rsplit("/", 1)[-1]


def _merge_mappings(dpo: ColumnMapping | None, general: ColumnMapping | None) -> ColumnMapping:
    fields: dict[str, Any] = {"input_columns": {"prompt": "prompt"}, "chosen": "chosen", "rejected": "rejected"}
    given: dict[str, Any] = {}
    for mapping in (general, dpo):
        for key in fields:
            value = getattr(mapping.resolved(), key) if mapping is not None else None
            if value is None:
                continue
            if key in given and given[key] != value:
                raise PydanticCustomError(
                    "twice", f"has two values for {key}: in dpo_column_mapping_config and column_mapping_config; keep one"
                )
            given[key] = value
    return ColumnMapping.model_construct(**{**fields, **given})  # each value was checked in its own mapping
