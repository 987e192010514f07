"""The section ``launch.kubernetes``: pods of a run on a cluster."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from .section import Frozen, Int, Section, Text, Texts, nothing, text_of_int

# Reserved label keys (or prefixes): the launcher finds objects by them, and pods find each other.
OURS: Final = ("dpo-launcher/", "batch.kubernetes.io/", "jobset.sigs.k8s.io/")
LABELS: Final = (
    "app.kubernetes.io/name", "app.kubernetes.io/managed-by", "app.kubernetes.io/component", "controller-uid", "job-name",
)  # fmt: skip
QUEUE: Final = "kueue.x-k8s.io/queue-name"
PARTIAL: Final = "kueue.x-k8s.io/job-min-parallelism"  # Kueue's partial admission
_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

Duration = Annotated[str, BeforeValidator(text_of_int), Field(pattern=r"^([0-9]+[dhms])+$")]
_SECONDS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(duration: int | str) -> int:
    """``36h``, ``1d12h`` and ``129600`` are the same time.

    >>> seconds("1d12h")
    129600
    """
    if isinstance(duration, int):
        return duration
    return sum(int(count) * _SECONDS[unit] for count, unit in re.findall(r"([0-9]+)([dhms])", duration))


class Kubernetes(Section):
    """Settings for a Kubernetes cluster."""

    namespace: Text | None = Field(None, examples=["team-a"], description="namespace of the run; unset: that of the context")
    queue: Text | None = Field(None, examples=["research"], description="Kueue's LocalQueue")
    service_account: Text | None = Field(None, examples=["trainer"], description="the pods' service account")
    node_selector: Frozen[Text] = Field(
        default_factory=nothing,
        examples=[{"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}],
        description="labels that the nodes must have",
    )
    tolerations: tuple[Frozen[Any], ...] = Field(
        (),
        examples=[[{"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}]],
        description="taints that the pods tolerate",
    )
    image_pull_secrets: Texts = Field((), examples=[["registry"]], description="secrets for pulling the image")
    volumes: Frozen[Text | dict[str, Any]] = Field(
        default_factory=nothing,
        examples=[{"runs": "team-runs"}],
        description="runs, cache, data, or a name -> a persistent volume claim, or a volume in Kubernetes' own form",
    )
    kind: Literal["auto", "job", "jobset", "trainjob"] = Field(
        "auto", examples=["jobset"], description="kind of object that runs the pods"
    )
    secret: Text = Field("dpo-secrets", examples=["team-secrets"], description="the Secret that `launcher secrets push` writes")
    runtime_class: Text | None = Field(None, examples=["nvidia"], description="the pods' runtime class, such as nvidia on k3s")
    priority_class: Text | None = Field(None, examples=["training"], description="the pods' priority class")
    gpu_resource: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        "nvidia.com/gpu",
        examples=["nvidia.com/mig-3g.40gb"],
        description="resource name of a GPU, such as nvidia.com/mig-3g.40gb or amd.com/gpu",
    )
    labels: Frozen[Text] = Field(
        default_factory=nothing, examples=[{"team": "a"}], description="labels for the run's objects and pods"
    )
    annotations: Frozen[Text] = Field(
        default_factory=nothing,
        examples=[{"example.com/cost-center": "42"}],
        description="annotations for the run's Job and pods",
    )
    run_as: Literal["auto", "image", "namespace"] | Annotated[Int, Field(ge=1)] = Field(
        "auto",
        examples=[2000],
        description="auto: the namespace's user on OpenShift, else the image's; or image, namespace (pods set no uid), or a uid",
    )
    active_deadline: Literal["auto"] | Annotated[Int, Field(ge=1)] | Duration | None = Field(
        None,
        examples=["36h"],
        description="time after which the run is ended, such as 36h, or seconds; auto: from `launcher plan`; Pending counts",
    )
    pod: Frozen[Any] = Field(
        default_factory=nothing,
        examples=[{"spec": {"schedulerName": "volcano"}}],
        description="merged last into the pod template: metadata, spec",
    )

    @field_validator("labels", "annotations", mode="after")
    @classmethod
    def _are_not_ours(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        for key in given:
            if (why := reserved(key)) is not None:
                raise PydanticCustomError("reserved", ": {key} {why}", {"key": key, "why": why})
            if not is_qualified(key):
                raise PydanticCustomError(
                    "key", ": {key} is not a valid key (a name of at most 63 letters, digits, '-', '_', '.', with an optional "
                    "domain and '/' in front)", {"key": key},
                )  # fmt: skip
        return given

    @field_validator("labels", mode="after")
    @classmethod
    def _are_values(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        for key, value in given.items():
            if not _NAME.fullmatch(value):
                what = ": the value of {key} is not a valid label value (at most 63 letters, digits, '-', '_', '.')"
                raise PydanticCustomError("value", what, {"key": key})
        return given


def reserved(key: str) -> str | None:
    """Why users may not set this label or annotation; None if they may."""
    if key.startswith(OURS) or key in LABELS:
        return "is reserved: the launcher and the cluster find the run's objects by it"
    if key == PARTIAL:
        return "would start a run with fewer nodes than it has: the others are waited for"
    return "is set with launch.kubernetes.queue" if key == QUEUE else None


def is_qualified(key: str) -> bool:
    """Whether Kubernetes accepts ``key`` as the key of a label or annotation."""
    prefix, slash, name = key.rpartition("/")
    return bool(_NAME.fullmatch(name)) and (not slash or bool(_PREFIX.fullmatch(prefix)))
