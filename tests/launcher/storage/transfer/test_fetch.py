from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError, StorageError, UnreachableError
from launcher.experiment.schema import StorageConfig
from launcher.storage import Progress, fetch_folder, upload_folder
from tests.s3.proxy import Fault, FaultProxy
from tests.s3.server import PART
from tests.waiting import wait_for

from ..conftest import EFFORT, KEYS

Config = Callable[..., StorageConfig]
WEIGHTS = bytes(range(256)) * 10


@pytest.fixture
def model(client: Any) -> str:
    """A folder of a bucket that somebody has put there with another tool."""
    for name, body in {"config.json": b"{}", "model.safetensors": WEIGHTS, "code/one.py": b"1\n"}.items():
        client.put_object(Bucket="models", Key=f"base/one/{name}", Body=body)
    client.put_object(Bucket="models", Key="base/one/code/", Body=b"")  # as consoles mark a folder
    client.put_object(Bucket="models", Key="base/one-more/config.json", Body=b"other")
    return "s3://models/base/one/"


def fetch(uri: str, storage: StorageConfig, cache: Path, **more: Any) -> Path:
    return fetch_folder(uri, storage=storage, cache=cache, **{"env": KEYS, "effort": EFFORT, **more})


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(proxy: FaultProxy) -> list[str]:
    """The objects that were read, once for each request."""
    return sorted(one.path.rpartition("/")[2] for one in proxy.requests if one.method == "GET" and one.path != "/models")


def test_the_objects_below_a_place_become_a_folder(model: str, storage: Config, tmp_path: Path) -> None:
    folder = fetch(model, storage(), tmp_path)
    assert files(folder) == {"config.json": b"{}", "model.safetensors": WEIGHTS, "code/one.py": b"1\n"}
    assert folder.is_relative_to(tmp_path / "s3")


def test_an_object_is_read_once_for_each_etag(
    model: str, storage: Config, tmp_path: Path, proxy: FaultProxy, client: Any
) -> None:
    said: list[Progress] = []
    first = fetch(model, storage(), tmp_path)
    proxy.requests.clear()
    assert fetch(model, storage(), tmp_path, listener=said.append) == first
    assert read(proxy) == []
    assert said[-1] == Progress(2564 + 0, 2564, 2564)

    client.put_object(Bucket="models", Key="base/one/config.json", Body=b'{"new": 1}')
    second = fetch(model, storage(), tmp_path)
    assert second != first
    assert read(proxy) == ["config.json"]
    assert (files(first)["config.json"], files(second)["config.json"]) == (b"{}", b'{"new": 1}')

    client.put_object(Bucket="models", Key="base/one/config.json", Body=b"{}")
    assert fetch(model, storage(), tmp_path) == first


def test_what_a_killed_process_has_left_is_removed_and_what_a_living_one_writes_is_not(
    model: str, storage: Config, tmp_path: Path, proxy: FaultProxy
) -> None:
    fault = Fault("silent", "GET", "model.safetensors", times=99)
    proxy.faults = [fault]
    given = {"storage": storage(), "env": KEYS, "cache": tmp_path, "effort": EFFORT}
    process = multiprocessing.get_context("spawn").Process(target=fetch_folder, args=(model,), kwargs=given)
    process.start()
    wait_for(lambda: fault.hits)
    (left,) = (tmp_path / "s3" / "aside").iterdir()
    os.utime(left, (0, 0))
    fetch("s3://models/base/one-more", storage(), tmp_path)
    assert left.exists()
    process.kill()
    process.join()
    proxy.faults = []
    fetch(model, storage(), tmp_path)
    assert list((tmp_path / "s3" / "aside").iterdir()) == []


def test_only_the_names_that_are_asked_for_are_read_and_a_missing_one_is_absent(
    model: str, storage: Config, tmp_path: Path, proxy: FaultProxy
) -> None:
    folder = fetch(model, storage(), tmp_path, names=["config.json", "code/one.py", "missing.csv"])
    assert files(folder) == {"config.json": b"{}", "code/one.py": b"1\n"}
    assert read(proxy) == ["config.json", "one.py"]


def test_a_damaged_cache_is_read_anew(model: str, storage: Config, tmp_path: Path) -> None:
    first = fetch(model, storage(), tmp_path)
    (first / "model.safetensors").resolve().unlink()
    for note in (tmp_path / "s3" / "etags").iterdir():
        note.write_text(note.read_text()[:-3])
    second = fetch(model, storage(), tmp_path)
    assert (second, files(second)["model.safetensors"]) == (first, WEIGHTS)


def test_of_an_upload_of_ours_only_what_its_manifest_names_is_read(
    adapter: Path, storage: Config, tmp_path: Path, client: Any
) -> None:
    done = upload_folder(adapter, storage=storage(), prefix_parts=("exp_1", "m", "r"), env=KEYS, effort=EFFORT)
    client.put_object(Bucket="models", Key="team/exp_1/m/r/stray", Body=b"?")
    assert files(fetch(done.uri, storage(), tmp_path / "cache")) == files(adapter)

    client.put_object(Bucket="models", Key="team/exp_1/m/r/adapter_model.safetensors", Body=b"x" * 4099)
    with pytest.raises(StorageError, match="expected SHA-256"):
        fetch(done.uri, storage(), tmp_path / "cache")

    client.delete_object(Bucket="models", Key="team/exp_1/m/r/manifest.json")
    with pytest.raises(StorageError, match=r"has no manifest\.json: the upload is unfinished"):
        fetch(done.uri, storage(), tmp_path / "cache")


def test_somebody_else_s_manifest_is_a_file_like_others(model: str, storage: Config, tmp_path: Path, client: Any) -> None:
    client.put_object(Bucket="models", Key="base/one/manifest.json", Body=b'{"files": []}')
    assert files(fetch(model, storage(), tmp_path))["manifest.json"] == b'{"files": []}'


@pytest.mark.parametrize("kind", ["corrupt answer", "wrong checksum"])
def test_an_object_that_is_not_what_the_server_keeps_is_read_again_and_not_kept(
    kind: str, storage: Config, tmp_path: Path, client: Any, proxy: FaultProxy
) -> None:
    client.put_object(Bucket="models", Key="data/train.csv", Body=b"a,b\n", ChecksumAlgorithm="SHA256")
    proxy.faults = [Fault(kind, "GET", "train.csv", times=99)]
    with pytest.raises(
        StorageError, match=r"s3://models/data/train\.csv: .* not match .*: the object differs from what was stored"
    ):
        fetch("s3://models/data", storage(), tmp_path)
    assert not (tmp_path / "s3" / "blobs").exists()
    proxy.faults = [Fault(kind, "GET", "train.csv")]
    assert files(fetch("s3://models/data", storage(), tmp_path)) == {"train.csv": b"a,b\n"}


def test_without_a_checksum_the_etag_tells_what_changed_on_the_way(
    model: str, storage: Config, tmp_path: Path, proxy: FaultProxy
) -> None:
    proxy.forgets_checksums = True
    proxy.faults = [Fault("corrupt answer", "GET", "model.safetensors", times=99)]
    with pytest.raises(
        StorageError, match=r"model\.safetensors: expected MD5 \w+, found \w+: the object differs from what was stored"
    ):
        fetch(model, storage(), tmp_path)
    proxy.faults = [Fault("corrupt answer", "GET", "model.safetensors", skip=1)]
    assert files(fetch(model, storage(), tmp_path))["model.safetensors"] == WEIGHTS


def test_an_object_that_changes_while_it_is_read_is_no_mixture(model: str, storage: Config, tmp_path: Path, client: Any) -> None:
    def replaced(now: Progress) -> None:
        if now.done >= 2 * PART:
            client.put_object(Bucket="models", Key="base/one/model.safetensors", Body=WEIGHTS[::-1])

    with pytest.raises(StorageError, match="the object changed or was deleted while it was read; retry"):
        fetch(model, storage(), tmp_path, listener=replaced, effort=replace(EFFORT, threads=1))
    assert files(fetch(model, storage(), tmp_path))["model.safetensors"] == WEIGHTS[::-1]


def test_a_server_that_is_away_is_said_with_what_is_in_the_cache(
    model: str, storage: Config, tmp_path: Path, proxy: FaultProxy
) -> None:
    folder = fetch(model, storage(), tmp_path)
    proxy.kill()
    with pytest.raises(UnreachableError) as caught:
        fetch(model, storage(), tmp_path)
    assert caught.value.exit_code == 48
    first, second = str(caught.value).splitlines()
    how = "EndpointConnectionError: connection refused"
    assert first == f"bucket models at {proxy.url}: cannot connect ({how}); check endpoint_url and the network"
    assert second.startswith(f"    cached:   {folder} holds the state of ")
    assert second.endswith(" UTC (3 objects); use this path instead")
    proxy.start()


def test_keys_that_a_disk_cannot_hold_are_named(storage: Config, tmp_path: Path, client: Any) -> None:
    client.put_object(Bucket="models", Key="odd/a", Body=b"1")
    client.put_object(Bucket="models", Key="odd/a/b", Body=b"2")
    with pytest.raises(StorageError) as caught:
        fetch("s3://models/odd", storage(), tmp_path)
    assert str(caught.value) == "s3://models/odd: a is an object and also the folder of a/b; a disk cannot hold both"
    client.put_object(Bucket="models", Key="odder/x/../../out", Body=b"1")
    with pytest.raises(StorageError, match="cannot be a file name"):
        fetch("s3://models/odder", storage(), tmp_path)


def test_an_object_where_a_folder_is_meant_is_said(model: str, storage: Config, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="this is an object; use its folder, s3://models/base/one"):
        fetch(f"{model}config.json", storage(), tmp_path)


def _fetch_in_a_process(uri: str, storage: StorageConfig, cache: Path, found: Any) -> None:
    found.put(str(fetch(uri, storage, cache)))


def test_ranks_that_come_at_once_read_each_object_once(model: str, storage: Config, tmp_path: Path, proxy: FaultProxy) -> None:
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    ranks = [context.Process(target=_fetch_in_a_process, args=(model, storage(), tmp_path, found)) for _ in range(3)]
    for rank in ranks:
        rank.start()
    folders = {found.get(timeout=300) for _ in ranks}
    for rank in ranks:
        rank.join()
    assert len(folders) == 1
    assert read(proxy) == ["config.json", "model.safetensors", "model.safetensors", "model.safetensors", "one.py"]
