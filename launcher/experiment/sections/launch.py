"""The section ``launch``: where an experiment runs, and with which resources."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ...redact import SECRET
from .kubernetes import Kubernetes
from .on import NO_EFFECT, on
from .section import Float, Frozen, Int, Section, Size, Text, Texts

VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SignedBy(Section):
    """Who must have signed the image: the owner of a key, or (keyless) an identity that an issuer vouches for."""

    key: Text | None = Field(
        None, examples=["cosign.pub"], description="cosign's public key: a file or the address of a key service"
    )
    identity: Text | None = Field(
        None,
        examples=["https://github.com/me/images/.github/workflows/image.yml@refs/heads/main"],
        description="identity in the certificate of a keyless signature, such as a workflow's URL",
    )
    issuer: Text | None = Field(
        None,
        examples=["https://token.actions.githubusercontent.com"],
        description="issuer of that identity, such as https://token.actions.githubusercontent.com",
    )

    @model_validator(mode="after")
    def _one_signer(self) -> Self:
        if (self.key is None) == (self.identity is None) or (self.identity is None) != (self.issuer is None):
            raise PydanticCustomError("signer", ": needs either key, or identity and issuer")
        return self


class Launch(Section):
    """Where and with which resources an experiment runs. The mathematics does not depend on it."""

    image: Text | None = Field(
        None,
        examples=["registry.example.com/team/dpo-launcher:cuda"],
        json_schema_extra=on(
            host=NO_EFFECT,
            docker="image of the container",
            kubernetes="image of the pods; unset in a checkout: the one that launcher submit --registry pushes",
        ),
        description="container image; unset: built from a checkout, else the published one",
    )
    gpus: Annotated[Literal["auto"] | Annotated[Int, Field(ge=0)], Field()] = Field(
        "auto",
        examples=[2],
        json_schema_extra=on(
            host="one process per GPU; auto: all that CUDA_VISIBLE_DEVICES shows",
            docker="GPUs of the container; auto: all of the machine",
            kubernetes="limit of each pod; auto: 1",
        ),
        description="GPUs per node",
    )
    nodes: Int = Field(
        1,
        ge=1,
        examples=[2],
        json_schema_extra=on(
            host="start the run on each node, with NODE_RANK, MASTER_ADDR and the same --name",
            docker="as on the host; the container uses the network of its machine",
            kubernetes="pods of one Job or JobSet",
        ),
        description="number of nodes",
    )
    processes: Int | None = Field(None, ge=1, examples=[2], description="processes per node without GPUs; unset: 1")
    parallelism: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        "auto", examples=["zero2"], description="auto, ddp, or the name of a file in configs/deepspeed, such as zero2"
    )
    global_batch_size: Int | None = Field(
        None, ge=1, examples=[64], description="pairs per step over all devices; unset: as on one device"
    )
    cpus: Float | None = Field(
        None,
        gt=0,
        examples=[16],
        json_schema_extra=on(
            host="threads of the processes",
            docker="limit of the container, and threads of the processes",
            kubernetes="request and limit of each pod, and threads of the processes",
        ),
        description="CPU cores per node",
    )
    memory: Size | None = Field(
        None,
        examples=["64Gi"],
        json_schema_extra=on(
            host=NO_EFFECT, docker="limit of the container, without swap", kubernetes="request and limit of each pod"
        ),
        description="main memory per node, such as 64Gi",
    )
    shm_size: Size | None = Field(
        None,
        examples=["16Gi"],
        json_schema_extra=on(host=NO_EFFECT, docker="unset: 2Gi", kubernetes="counts as memory of the pod; unset: 2Gi with GPUs"),
        description="size of /dev/shm, such as 16Gi",
    )
    env: tuple[Text, ...] | Frozen[str | Int | Float | bool | None] = Field(
        (), examples=[{"NCCL_DEBUG": "INFO"}], description="names of variables to pass on, or name -> value"
    )
    secrets: Texts = Field(
        (),
        examples=[["HF_TOKEN"]],
        json_schema_extra=on(
            host="environment variables of the processes",
            docker="files in /run/secrets",
            kubernetes="files in /dpo/secrets, of the Secret",
        ),
        description="names of secrets, delivered as files",
    )
    max_restarts: Int = Field(
        3,
        ge=0,
        examples=[5],
        json_schema_extra=on(host=NO_EFFECT, docker=NO_EFFECT, kubernetes="restarts of all nodes together"),
        description="restarts after a temporary failure",
    )
    ca_bundle: Text | None = Field(
        None,
        examples=["certificates/company.pem"],
        json_schema_extra=on(docker="mounted read-only", kubernetes="sent in a ConfigMap"),
        description="file of certificates (PEM) that the run trusts, in place of the public ones",
    )
    signed_by: SignedBy | None = Field(
        None, json_schema_extra=on(host=NO_EFFECT, docker=NO_EFFECT), description="who must have signed the image"
    )
    verify: bool = Field(
        False,
        examples=[True],
        json_schema_extra=on(host=NO_EFFECT, docker=NO_EFFECT),
        description="submit only an image whose signature cosign verifies; needs signed_by",
    )
    kubernetes: Kubernetes = Field(
        default_factory=Kubernetes.model_construct,
        json_schema_extra=on(host=NO_EFFECT, docker=NO_EFFECT),
        description="settings for a Kubernetes cluster",
    )

    @model_validator(mode="after")
    def _signer_is_named(self) -> Self:
        if self.verify and self.signed_by is None:
            raise PydanticCustomError("signer", ": verify needs signed_by: {key: …} or {identity: …, issuer: …}")
        return self

    @field_validator("env", mode="after")
    @classmethod
    def _no_secret(cls, env: Any) -> Any:
        secret = next((name for name in env if SECRET.search(name)), None)
        if secret is not None:
            raise PydanticCustomError("secret", f": {secret} looks like a secret; name it in launch.secrets instead")
        given = [name for name, value in env.items() if value is not None] if isinstance(env, Mapping) else []
        address = next((name for name in given if name.startswith("GOOGLE_SHEETS_")), None)
        if address is not None:  # an experiment file must not decide where an API key is sent
            raise PydanticCustomError("address", f": {address} is read from the environment or .env only")
        wrong = next((name for name in env if not VARIABLE.fullmatch(name)), None)
        if wrong is not None:
            raise PydanticCustomError("variable", f": {wrong!r} is not a variable name (letters, digits and '_')")
        return env
