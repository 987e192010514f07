"""Checks of single values of the top-level keys: buckets, folders, datasets, names of variables. Each returns the value to keep.

Each raises PydanticCustomError for a value that no run could use.
"""

from typing import Any

from pydantic_core import PydanticCustomError

from ..other_tools.method import refused
from .bucket_name import EXPECTED, SCHEME, is_bucket, split
from .hub_data import EXPECTED as HUB_FORM
from .hub_data import HUB, HubData
from .launch import VARIABLE


def adapter(value: Any) -> Any:
    """Other tools name the kind of a new adapter in this key; LoRA is the only kind here."""
    if value == "qlora":
        raise PydanticCustomError("adapter_kind", "names an adapter to start from; for QLoRA set load_in_4bit: true")
    return None if value == "lora" else value


def method(value: Any) -> Any:
    """In lower case; methods of other tools are explained."""
    why = refused(value) if isinstance(value, str) else None
    if why is not None:
        raise PydanticCustomError("method", ": {why}", {"why": why})
    return value.strip().lower() if isinstance(value, str) else value


def folder_in_bucket(value: str | None) -> str | None:
    """``s3://bucket/prefix`` and nothing else."""
    if value is not None and not value.startswith(SCHEME):
        raise PydanticCustomError("bucket_type", f"{SCHEME}bucket/folder, with {EXPECTED}")
    return bucket(value)


def bucket(value: str | None) -> str | None:
    """A value that starts with s3:// names a valid bucket."""
    if value is not None and value.startswith(SCHEME) and not is_bucket(split(value)[0]):
        raise PydanticCustomError("bucket_type", f"{SCHEME}bucket/folder, with {EXPECTED}")
    return value


def dataset(value: str | None) -> str | None:
    """A value that starts with hf:// names a dataset of the hub."""
    if value is not None and value.startswith(HUB):
        try:
            HubData.parse(value)
        except ValueError:
            raise PydanticCustomError("data_set", "must be {form}", {"form": HUB_FORM}) from None
    return value


def folder(value: str | None) -> str | None:
    """The last part of the path becomes a folder of the output, so it must be a name."""
    if value is not None and last_part(value) in ("", ".", "..", "~"):
        raise PydanticCustomError("folder", f"must end with the name of a folder, not {value}")
    return value


def variable(value: str | None) -> str | None:
    """The name of an environment variable, not its value."""
    if value is not None and not VARIABLE.fullmatch(value):
        raise PydanticCustomError(
            "variable", "must be the name of a variable, such as SLACK_WEBHOOK_URL; put the address itself into .env"
        )
    return value


def last_part(path: str) -> str:
    """The last part of a path, a hub id or an s3:// address."""
    return path.removeprefix("s3://").rstrip("/").rsplit("/", 1)[-1]
