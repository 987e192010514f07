"""An experiment and its sections: each setting declared once, with its type, default, limits and one sentence.

The launcher builds an :class:`Experiment` from a YAML file (``launcher.config``), the trainer from the JSON that the launcher
left in the run folder, Python users from keyword arguments. It is the same class each time, and it is frozen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from .trl_names import trl_error

V = TypeVar("V")


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "a number")
    return value


def _text_of_int(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _no_of_false(value: object) -> object:
    """YAML 1.1 reads a bare ``no`` as false; in a strategy it is the word."""
    return "no" if value is False else value


def _bool_of_word(value: object) -> object:
    """YAML 1.1's words, which a value that may also be text would keep: ``yes`` is not the name of a folder."""
    words = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _true_of_unsloth(value: object) -> object:
    return True if value == "unsloth" else value


def _tuple_of_one(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Name = Annotated[str, BeforeValidator(_text_of_int), Field(pattern=r"^[A-Za-z0-9._-]+$")]
Text = Annotated[str, BeforeValidator(_text_of_int), Field(min_length=1)]
Size = Annotated[str, BeforeValidator(_text_of_int), Field(pattern=r"^[0-9]+(\.[0-9]+)?([KMGT]i?)?B?$")]
Strategy = Annotated[Literal["no", "steps", "epoch"], BeforeValidator(_no_of_false)]
SaveStrategy = Annotated[Literal["no", "steps", "epoch", "best"], BeforeValidator(_no_of_false)]
Frozen = Annotated[Mapping[str, V], AfterValidator(MappingProxyType), PlainSerializer(dict)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_tuple_of_one)]

LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard",
    "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip


class Section(BaseModel):
    """A part of an experiment: frozen, and every key known."""

    # Building a validator takes longer than reading a file: Experiment's own, built when it is first used, holds all others.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, protected_namespaces=(), defer_build=True)


class ColumnMapping(Section):
    """Which columns make the prompt and the two answers."""

    input_columns: Frozen[Text] | None = Field(None, description="placeholder of the user template -> column of the data")
    chosen: Text | Frozen[Text] | None = Field(None, description="column of the preferred answer, or JSON key -> column")
    rejected: Text | Frozen[Text] | None = Field(None, description="column of the other answer, or JSON key -> column")
    label_columns: Text | Frozen[Text | Frozen[Text]] | None = Field(
        None, description="the family's word for the answers: {chosen: …, rejected: …}, or the preferred answer alone"
    )

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if self.label_columns is not None:
            own = "chosen" if not self._labels_both else "chosen and rejected"
            if self.chosen is not None or (self._labels_both and self.rejected is not None):
                raise PydanticCustomError("twice", f"label_columns says {own} again")
        return self

    @property
    def _labels_both(self) -> bool:
        return isinstance(self.label_columns, Mapping) and set(self.label_columns) == {"chosen", "rejected"}

    def resolved(self) -> ColumnMapping:
        """The same mapping with ``label_columns`` spelt as ``chosen`` and ``rejected``."""
        if self.label_columns is None:
            return self
        labels: Any = self.label_columns
        answers = dict(labels) if self._labels_both else {"chosen": labels, "rejected": self.rejected}
        return ColumnMapping(input_columns=self.input_columns, **answers)


class Hyperparameters(Section):
    """The seed's flat section, with every other field of TRL's ``DPOConfig`` in ``trl``."""

    hyperparameters_id: Annotated[str, BeforeValidator(_text_of_int)] = Field("1", description="a name for this set of values")
    # model
    max_seq_length: Int = Field(1024, ge=8, description="longest prompt + answer in tokens; the answer's end is cut")
    load_in_4bit: bool = Field(False, description="QLoRA: base weights in 4-bit NF4 (CUDA and bitsandbytes)")
    load_in_8bit: bool = Field(False, description="base weights in 8-bit (CUDA and bitsandbytes)")
    load_in_16bit: bool | None = Field(None, description="16-bit weights; unset: what the device has, false: fp32")
    trust_remote_code: bool = Field(False, description="run Python code that ships with the model")
    model_cache_dir: Text | None = Field(None, description="where downloaded models are kept; unset: the cache root")
    gpu_memory_utilization: Float = Field(0.9, gt=0, le=1, description="share of a GPU's memory that may be used")
    # chat template
    enable_thinking: bool | None = Field(None, description="given to the chat template")
    thinking_mode: Text | bool | None = Field(None, description="given to the chat template")
    add_generation_prompt: bool | None = Field(None, description="end the prompt as the assistant's turn begins (default true)")
    # LoRA
    r: Int = Field(16, ge=1, description="rank of the adapter")
    lora_alpha: Float = Field(16, gt=0, description="adapter scale is lora_alpha / r")
    lora_dropout: Float = Field(0, ge=0, lt=1, description="dropout on the adapter's input")
    bias: Literal["none", "all", "lora_only"] = Field("none", description="which biases are trained")
    target_modules: Text | Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        "all-linear", description="modules that get an adapter"
    )
    use_gradient_checkpointing: Annotated[Literal["auto"] | bool, BeforeValidator(_true_of_unsloth)] = Field(
        "auto", description="recompute activations in the backward pass; auto: on a GPU"
    )
    random_state: Int = Field(3407, ge=0, description="seed of the adapter's first weights")
    full_finetuning: bool = Field(False, description="train all weights, no adapter")
    # DPO and loop
    beta: Float = Field(0.1, gt=0, description="weight of the KL term: larger stays nearer to the reference")
    loss_type: Annotated[tuple[Literal[*LOSS_TYPES], ...], BeforeValidator(_tuple_of_one)] = Field(  # type: ignore[valid-type]
        ("sigmoid",), min_length=1, description="TRL's loss, or several with loss_weights"
    )
    label_smoothing: Float = Field(0, ge=0, lt=0.5, description="probability that a preference is flipped")
    dpo_path: Literal["auto", "fast", "plain"] = Field("auto", description="how the DPO step is computed")
    num_train_epochs: Float = Field(1, gt=0, description="passes over the training pairs")
    max_steps: Int | None = Field(None, ge=1, description="optimizer steps; overrides num_train_epochs")
    learning_rate: Float = Field(5e-6, ge=0, description="peak learning rate")
    weight_decay: Float = Field(0, ge=0, description="AdamW's decay")
    warmup_ratio: Float | None = Field(None, ge=0, lt=1, description="share of the steps with a rising learning rate")
    lr_scheduler_type: Text = Field("linear", description="shape of the learning rate after warm-up")
    optim: Text = Field("adamw_torch", description="optimizer by transformers' name")
    per_device_train_batch_size: Int = Field(2, ge=1, description="pairs a device computes at once")
    gradient_accumulation_steps: Int = Field(4, ge=1, description="micro-batches a step, on one device")
    seed: Int = Field(42, ge=0, description="seed of the data order and of everything random but the adapter's first weights")
    # logs and checkpoints
    report_to: Texts = Field(("tensorboard",), description="tensorboard or none")
    logging_steps: Int = Field(1, ge=1, description="steps between two lines of the log")
    save_strategy: SaveStrategy = Field("steps", description="when a checkpoint is written")
    save_steps: Int = Field(50, ge=1, description="steps between two checkpoints")
    save_total_limit: Int | None = Field(2, ge=1, description="how many checkpoints are kept")
    eval_strategy: Strategy = Field("no", description="when the validation pairs are evaluated")
    eval_steps: Int | None = Field(None, ge=1, description="steps between two evaluations; unset: logging_steps")
    load_best_model_at_end: bool = Field(False, description="the adapter is the best checkpoint, not the last")
    metric_for_best_model: Text | None = Field(None, description="what 'best' means, as loss or rewards/accuracies")
    greater_is_better: bool | None = Field(None, description="whether more of the metric is better")
    early_stopping_patience: Int | None = Field(None, ge=1, description="evaluations without progress before the run stops")
    early_stopping_threshold: Float = Field(0, ge=0, description="the least change that counts as progress")
    resume_from_checkpoint: Annotated[bool | Text, BeforeValidator(_bool_of_word)] = Field(
        False, description="true: the newest checkpoint of this experiment, or a path"
    )
    model_output_dir: Text = Field("data/dpo/model", description="where runs are written")
    trl: Frozen[Any] = Field(default_factory=_nothing, description="every other field of TRL's DPOConfig")

    @model_validator(mode="before")
    @classmethod
    def _gather_trl(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mistakes = list(_contradictions(self))
        if mistakes:
            raise ValidationError.from_exception_data(
                "Hyperparameters",
                [
                    InitErrorDetails(type=PydanticCustomError("contradiction", text), loc=(key,), input=_value(self, key))
                    for key, text in mistakes
                ],
            )
        return self


def _value(section: Hyperparameters, key: str) -> Any:
    return section.trl[key] if key in section.trl else getattr(section, key)


def _contradictions(h: Hyperparameters) -> Iterable[tuple[str, str]]:
    """(key, sentence) of every pair of settings that cannot both be meant."""
    loads = [name for name in ("load_in_4bit", "load_in_8bit", "load_in_16bit") if getattr(h, name)]
    if len(loads) > 1:
        yield loads[1], f"contradicts {loads[0]}: choose one"
    if h.full_finetuning and (h.load_in_4bit or h.load_in_8bit):
        yield "full_finetuning", f"cannot train weights that {loads[0]} has quantised"
    if h.warmup_ratio is not None and "warmup_steps" in h.trl:
        yield "warmup_ratio", "says the same as warmup_steps: keep one"
    if h.label_smoothing and not {"robust", "exo_pair"} & set(h.loss_type):
        yield "label_smoothing", f"has no effect on loss_type {', '.join(h.loss_type)} in TRL; it works with robust and exo_pair"
    if "exo_pair" in h.loss_type and not h.label_smoothing:
        yield "loss_type", "exo_pair needs a label_smoothing above 0; its paper recommends 0.001"
    weights = h.trl.get("loss_weights")
    if weights is not None and len(weights) != len(h.loss_type):
        yield "loss_weights", f"has {len(weights)} weights for {len(h.loss_type)} loss types"
    evaluates = h.eval_strategy != "no"
    for key in ("load_best_model_at_end", "early_stopping_patience"):
        if getattr(h, key) and not evaluates:
            yield key, "needs evaluations: set eval_strategy to steps or epoch"
    if h.load_best_model_at_end and evaluates and h.save_strategy != "best":
        if h.save_strategy != h.eval_strategy:
            yield "save_strategy", f"must equal eval_strategy ({h.eval_strategy}) so that the best model is a saved one"
        elif h.save_strategy == "steps" and h.save_steps % (h.eval_steps or h.logging_steps):
            yield "save_steps", f"must be a multiple of eval_steps ({h.eval_steps or h.logging_steps}) for load_best_model_at_end"
    unknown = set(h.report_to) - {"tensorboard", "none"}
    if unknown:
        yield "report_to", f"knows tensorboard and none, not {', '.join(sorted(unknown))}"


class StorageConfig(Section):
    """Where an adapter goes after training."""

    provider: Literal["s3"] = Field("s3", description="the kind of object store")
    upload_to_cloud: bool = Field(False, description="upload the adapter when the training is done")
    bucket_name: Text | None = Field(None, description="the bucket")
    object_prefix: str = Field("", description="what every key begins with")
    endpoint_url: Annotated[str, Field(pattern=r"^https?://")] | None = Field(None, description="an S3-compatible server")
    region: Text | None = Field(None, description="the bucket's region; unset: AWS_REGION")

    @model_validator(mode="after")
    def _has_bucket(self) -> Self:
        if self.upload_to_cloud and self.bucket_name is None:
            raise PydanticCustomError("no_bucket", "upload_to_cloud is true, but bucket_name is not set")
        return self


class Kubernetes(Section):
    """What only a cluster needs."""

    namespace: Text | None = Field(None, description="unset: the context's")
    queue: Text | None = Field(None, description="Kueue's LocalQueue")
    service_account: Text | None = Field(None, description="the pods' service account")
    node_selector: Frozen[Text] = Field(default_factory=_nothing, description="labels that a node must have")
    tolerations: tuple[Frozen[Any], ...] = Field((), description="taints that the pods tolerate")
    image_pull_secrets: Texts = Field((), description="secrets that pull the image")
    volumes: Frozen[Text] = Field(default_factory=_nothing, description="runs, cache, data -> name of the claim")
    kind: Literal["auto", "job", "jobset"] = Field("auto", description="the object that a run becomes")


SECRET = re.compile(r"(?i)(secret|token|password|passwd|private_?key|credential|api_?key|access_?key)")


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Launch(Section):
    """Where and on how much the experiment runs; the mathematics does not depend on it."""

    image: Text | None = Field(None, description="container image; unset: built from this checkout")
    gpus: Annotated[Literal["auto"] | Annotated[Int, Field(ge=0)], Field()] = Field("auto", description="GPUs per node")
    nodes: Int = Field(1, ge=1, description="machines")
    parallelism: Literal["auto", "ddp", "zero1", "zero2", "zero3"] = Field("auto", description="how ranks share the work")
    global_batch_size: Int | None = Field(None, ge=1, description="pairs a step, over all devices; unset: as on one device")
    cpus: Float | None = Field(None, gt=0, description="CPU cores per node")
    memory: Size | None = Field(None, description="main memory per node, as 64Gi")
    shm_size: Size | None = Field(None, description="size of /dev/shm, as 16Gi")
    env: tuple[Text, ...] | Frozen[str | Int | Float | bool | None] = Field(
        (), description="names taken from the caller, or name -> fixed value"
    )
    secrets: Texts = Field((), description="names of secrets, delivered as files")
    max_restarts: Int = Field(3, ge=0, description="restarts after a failure that may pass")
    kubernetes: Kubernetes = Field(default_factory=Kubernetes.model_construct, description="what only a cluster needs")

    @field_validator("env", mode="after")
    @classmethod
    def _no_secret(cls, env: Any) -> Any:
        secret = next((name for name in env if SECRET.search(name)), None)
        if secret is not None:
            raise PydanticCustomError("secret", f"{secret} looks like a secret: name it under launch.secrets")
        wrong = next((name for name in env if not _VARIABLE.fullmatch(name)), None)
        if wrong is not None:
            raise PydanticCustomError("variable", f"{wrong!r} cannot name a variable: letters, digits and '_' can")
        return env


class Rule(Section):
    """One health rule: what to do, and where its threshold lies."""

    action: Literal["warn", "stop", "off"] = "warn"
    threshold: Float | None = None


def _rule(value: object) -> object:
    if value is False:  # YAML 1.1's bare `off`
        return {"action": "off"}
    return {"action": value} if isinstance(value, str) else value


class Health(Section):
    """What the run watches in its own numbers."""

    not_finite: Annotated[Rule, BeforeValidator(_rule)] = Field(
        default_factory=lambda: Rule(action="stop"), description="a loss or gradient that is NaN or infinite (exit 46)"
    )
    first_loss: Annotated[Rule, BeforeValidator(_rule)] = Field(
        default_factory=lambda: Rule(action="warn"), description="first loss of a fresh adapter is not its value at zero margin"
    )


class Experiment(Section):
    """One experiment, whole and checked."""

    experiment_id: Name = Field("default", description="names the output folder exp_<id>")
    topic: Text | None = Field(None, description="free text, carried into the run's record")
    model_name: Text = Field(description="hub id, a local folder, or s3://…")
    framework: Literal["trl", "unsloth"] = Field("trl", description="unsloth is accepted and trains on this project's own path")
    multimodal: bool = Field(False, description="only false is supported")
    datasets_path: Text | None = Field(None, description="folder or s3://… with the CSV files")
    train_filename: Text = Field("training_data.csv", description="training pairs")
    validation_filename: Text | None = Field(None, description="validation pairs")
    prompt_filename: Text | None = Field(None, description="prompt table; unset: prompt_data.csv if it is there")
    spreadsheet_id: Text | None = Field(None, description="Google Sheets document")
    train_sheet: Text | None = Field(None, description="worksheet of the training pairs")
    validation_sheet: Text | None = Field(None, description="worksheet of the validation pairs")
    prompt_sheet: Text | None = Field(None, description="worksheet of the prompt table")
    prompt_name: Text = Field("prompt_default", description="which row of the prompt table")
    dpo_column_mapping_config: ColumnMapping | None = Field(None, description="columns of prompt and answers")
    column_mapping_config: ColumnMapping | None = Field(None, description="the same, in the family's general form")
    save_processed_dataset: bool = Field(False, description="write the rendered pairs to output_processed_dir")
    output_processed_dir: Text = Field("data/dpo/dataset", description="where rendered pairs are written")
    hyperparameters: Hyperparameters = Field(
        default_factory=Hyperparameters.model_construct, description="model, LoRA, loop, logs"
    )
    storage_config: StorageConfig | None = Field(None, description="where the adapter is uploaded")
    launch: Launch = Field(default_factory=Launch.model_construct, description="where it runs")
    health: Health = Field(default_factory=Health.model_construct, description="what the run watches")

    @field_validator("model_name", mode="after")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if _last_part(value) in ("", ".", "..", "~"):
            raise PydanticCustomError("folder", f"ends in no name for the output folder: {value} (write the folder's name)")
        return value

    @field_validator("multimodal", mode="after")
    @classmethod
    def _text_only(cls, value: bool) -> bool:
        if value:
            raise PydanticCustomError("multimodal", "images are not supported: only false")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.datasets_path is None and self.spreadsheet_id is None:
            raise PydanticCustomError("no_data", "needs data: set datasets_path (CSV files) or spreadsheet_id (Google Sheets)")
        if self.datasets_path is not None and self.spreadsheet_id is not None:
            raise PydanticCustomError("two_sources", "has datasets_path and spreadsheet_id: keep one")
        if self.spreadsheet_id is not None and self.train_sheet is None:
            raise PydanticCustomError("no_sheet", "has spreadsheet_id, but no train_sheet")
        has_validation = self.validation_sheet if self.spreadsheet_id else self.validation_filename
        if self.hyperparameters.eval_strategy != "no" and not has_validation:
            name = "validation_sheet" if self.spreadsheet_id else "validation_filename"
            raise PydanticCustomError("no_validation", f"evaluates (eval_strategy), but has no {name}")
        _merge_mappings(self.dpo_column_mapping_config, self.column_mapping_config)
        return self

    @property
    def columns(self) -> ColumnMapping:
        """The mapping in force: every field set, defaults ``prompt``, ``chosen``, ``rejected`` filled in."""
        return _merge_mappings(self.dpo_column_mapping_config, self.column_mapping_config)

    @property
    def model_folder(self) -> str:
        """The last part of ``model_name``, which names a folder of the output."""
        return _last_part(self.model_name)

    @property
    def global_batch(self) -> int:
        """Pairs an optimizer step, whatever the number of devices."""
        h = self.hyperparameters
        return self.launch.global_batch_size or h.per_device_train_batch_size * h.gradient_accumulation_steps

    def steps(self, pairs: int, world: int) -> int:
        """Optimizer steps over ``pairs`` training pairs on ``world`` ranks, counted as transformers does: the last step of an
        epoch may be smaller.
        """
        h = self.hyperparameters
        if h.max_steps is not None:
            return h.max_steps
        micro = h.per_device_train_batch_size * world
        batches = pairs // micro if h.trl.get("dataloader_drop_last") else math.ceil(pairs / micro)
        return math.ceil(max(1, math.ceil(batches * micro / self.global_batch)) * h.num_train_epochs)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Experiment:
        """``data`` as an experiment; raises pydantic's ``ValidationError``, which :func:`problems` explains."""
        return cls.model_validate(data)


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
                    "twice", f"dpo_column_mapping_config and column_mapping_config disagree on {key}: keep one"
                )
            given[key] = value
    return ColumnMapping(**{**fields, **given})
