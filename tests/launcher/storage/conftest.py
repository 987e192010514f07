from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import StorageConfig
from launcher.storage import Effort
from tests.s3.proxy import FaultProxy
from tests.s3.server import PART, MotoServer

KEYS = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}
EFFORT = Effort(part=PART, threads=4, attempts=4, pause=0.001, timeout=30)
# For a server that is silent: it answers late, too, where the machine is busy.
IMPATIENT = replace(EFFORT, attempts=10, timeout=0.3)


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nowhere = str(tmp_path_factory.mktemp("home") / "none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
    monkeypatch.setenv("AWS_CONFIG_FILE", nowhere)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def client(moto: MotoServer) -> Any:
    """A bare client of the server, which has an empty bucket ``models``."""
    return moto.emptied("models")


@pytest.fixture
def proxy(moto: MotoServer, client: Any) -> Iterator[FaultProxy]:
    with FaultProxy(moto.url) as proxy:
        yield proxy


@pytest.fixture
def storage(proxy: FaultProxy) -> Callable[..., StorageConfig]:
    """The section of an experiment, whose server is the proxy."""

    def of(**settings: Any) -> StorageConfig:
        return StorageConfig(**{"bucket_name": "models", "object_prefix": "team/", "endpoint_url": proxy.url, **settings})

    return of


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A file of four parts and a bit, a name that needs quoting, and an empty file."""
    folder = tmp_path / "adapter"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 16 + b"end")
    (folder / "tokenizer" / "vocab ü.json").write_text("{}")
    (folder / "empty").touch()
    return folder


@pytest.fixture
def contents(client: Any) -> Callable[[], dict[str, bytes]]:
    def of_bucket() -> dict[str, bytes]:
        listed = client.list_objects_v2(Bucket="models").get("Contents", [])
        return {one["Key"]: client.get_object(Bucket="models", Key=one["Key"])["Body"].read() for one in listed}

    return of_bucket
