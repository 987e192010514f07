"""The section ``storage_config``: the bucket for the adapter."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ..other_tools.neutral import without_neutral
from .bucket_name import EXPECTED, is_bucket
from .section import Section, Text


class StorageConfig(Section):
    """Where the adapter is uploaded after training."""

    provider: Literal["s3"] = Field("s3", examples=["s3"], description="the kind of object store")
    upload_to_cloud: bool = Field(False, examples=[True], description="upload the adapter after training")
    bucket_name: Text | None = Field(None, examples=["models"], description="name of the bucket")
    object_prefix: str = Field("", examples=["dpo"], description="prefix of every object's key")
    endpoint_url: Annotated[str, Field(pattern=r"^https?://")] | None = Field(
        None, examples=["https://minio.example.com"], description="address of an S3-compatible server; unset: AWS"
    )
    region: Text | None = Field(None, examples=["eu-central-1"], description="the bucket's region; unset: AWS_REGION")

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, data: Any) -> Any:
        return without_neutral("storage_config", data, cls.model_fields)

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
