from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import CredentialError, ExperimentError, StorageError, UnreachableError, UsageError
from launcher.experiment.schema import StorageConfig
from launcher.storage import Downloaded, Progress, download_folder, upload_folder
from tests.s3.proxy import Fault, FaultProxy
from tests.s3.server import PART
from tests.waiting import wait_for

from ..conftest import EFFORT, IMPATIENT, KEYS

URI = "s3://models/team/exp_1/m/run-1"
Config = Callable[..., StorageConfig]


@pytest.fixture
def uploaded(adapter: Path, storage: Config, proxy: FaultProxy) -> Path:
    upload_folder(adapter, storage=storage(), prefix_parts=("exp_1", "m", "run-1"), env=KEYS, effort=EFFORT)
    proxy.requests.clear()
    return adapter


def download(target: Path, storage: StorageConfig, uri: str = URI, **more: Any) -> Downloaded:
    return download_folder(uri, target, storage=storage, **{"env": KEYS, "effort": EFFORT, **more})


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_went_up_comes_down(uploaded: Path, tmp_path: Path, storage: Config, proxy: FaultProxy) -> None:
    said: list[Progress] = []
    target = tmp_path / "new" / "adapter"
    assert download(target, storage(), listener=said.append) == Downloaded(target, 3, 4101, was_there=False)
    assert files(target) == files(uploaded)
    assert said[-1] == Progress(4101, 4101)
    spans = [one.headers["Range"] for one in proxy.requests if "Range" in one.headers]
    assert sorted(spans) == [f"bytes={start}-{min(start + PART, 4099) - 1}" for start in range(0, 4099, PART)]


def test_what_no_manifest_names_stays_where_it_is(uploaded: Path, tmp_path: Path, storage: Config, client: Any) -> None:
    client.put_object(Bucket="models", Key="team/exp_1/m/run-1/stray.bin", Body=b"?")
    download(tmp_path / "to", storage())
    assert files(tmp_path / "to") == files(uploaded)


def test_a_folder_that_has_it_all_is_left_alone_and_another_is_refused(
    uploaded: Path, tmp_path: Path, storage: Config, proxy: FaultProxy
) -> None:
    target = tmp_path / "to"
    target.mkdir()
    download(target, storage())
    proxy.requests.clear()
    assert download(target, storage()).was_there
    assert [request.path.rpartition("/")[2] for request in proxy.requests] == ["models", "manifest.json"]
    (target / "empty").write_text("not any more")
    with pytest.raises(UsageError) as caught:
        download(target, storage())
    assert str(caught.value) == f"{target} exists with other contents: empty differs; choose a new folder with --to"
    (target / "empty").write_text("")
    (target / "own").write_text("mine")
    with pytest.raises(UsageError, match="own differs"):
        download(target, storage())


@pytest.mark.parametrize("kind", ["status", "reset", "drop", "truncate", "silent"])
@pytest.mark.parametrize("match", ["list-type", "manifest.json", "adapter_model", "vocab"])
def test_a_fault_that_passes_costs_a_request_and_nothing_else(
    kind: str, match: str, uploaded: Path, tmp_path: Path, storage: Config, proxy: FaultProxy
) -> None:
    fault = Fault(kind, "GET", match, times=2)
    proxy.faults = [fault]
    download(tmp_path / "to", storage(), effort=IMPATIENT if kind == "silent" else EFFORT)
    assert fault.hits == 2
    assert files(tmp_path / "to") == files(uploaded)


def test_a_byte_that_changed_on_the_way_is_found_and_nothing_appears(
    uploaded: Path, tmp_path: Path, storage: Config, proxy: FaultProxy
) -> None:
    proxy.faults = [Fault("corrupt answer", "GET", "adapter_model", times=99)]
    with pytest.raises(
        StorageError, match=rf"{URI}/adapter_model.safetensors: expected SHA-256 .*: the object differs from what was"
    ):
        download(tmp_path / "to", storage())
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    proxy.faults = [Fault("corrupt answer", "GET", "adapter_model", skip=2)]
    download(tmp_path / "to", storage())
    assert files(tmp_path / "to") == files(uploaded)


@pytest.mark.parametrize(
    ("during", "kept"),
    [("adapter_model", []), ("vocab", ["adapter_model.safetensors", "empty"])],
)
def test_a_download_that_was_killed_shows_nothing_and_the_next_one_reads_what_is_missing(
    during: str, kept: list[str], uploaded: Path, tmp_path: Path, storage: Config, proxy: FaultProxy
) -> None:
    target, aside = tmp_path / "to", tmp_path / ".to.download"
    fault = Fault("silent", "GET", during, times=99)
    proxy.faults = [fault]
    given = {"storage": storage(), "env": KEYS, "effort": replace(EFFORT, threads=1)}
    process = multiprocessing.get_context("spawn").Process(target=download_folder, args=(URI, target), kwargs=given)
    process.start()
    wait_for(lambda: fault.hits)
    process.kill()
    process.join()
    assert not target.exists()
    assert sorted(files(aside / "whole")) == kept

    proxy.faults, proxy.requests = [], []
    said: list[Progress] = []
    assert not download(target, storage(), listener=said.append).was_there
    read = {one.path.removeprefix("/models/team/exp_1/m/run-1/") for one in proxy.requests} & files(uploaded).keys()
    assert read == files(uploaded).keys() - set(kept)
    assert said[-1] == Progress(4101, 4101, sum((uploaded / name).stat().st_size for name in kept))
    assert files(target) == files(uploaded)
    assert not aside.exists()


def test_what_a_failure_has_left_counts_only_where_it_is_what_the_manifest_names(
    uploaded: Path, tmp_path: Path, storage: Config, proxy: FaultProxy
) -> None:
    proxy.faults = [Fault("status", "GET", "vocab", times=99)]
    with pytest.raises(UnreachableError):
        download(tmp_path / "to", storage())
    whole = tmp_path / ".to.download" / "whole"
    assert sorted(files(whole)) == ["adapter_model.safetensors", "empty"]
    (whole / "adapter_model.safetensors").write_bytes(b"x" * 4099)
    (whole / "tokenizer").write_text("a file where a folder is to be")
    (whole / "empty").unlink()
    (whole / "empty" / "folder").mkdir(parents=True)
    proxy.faults = []
    download(tmp_path / "to", storage())
    assert files(tmp_path / "to") == files(uploaded)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "to"]


def test_two_downloads_into_one_folder_do_not_mix(uploaded: Path, tmp_path: Path, storage: Config) -> None:
    aside = tmp_path / ".to.download"
    aside.mkdir()
    handle = os.open(aside, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UsageError) as caught:
        download(tmp_path / "to", storage())
    assert str(caught.value) == (
        f"another download to {tmp_path / 'to'} is running; wait for it, or choose another folder with --to"
    )
    os.close(handle)
    download(tmp_path / "to", storage())
    assert files(tmp_path / "to") == files(uploaded)


def test_a_disk_that_takes_no_more_is_not_taken_for_the_bucket(uploaded: Path, tmp_path: Path, storage: Config) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError) as caught:
            download(tmp_path / "to", storage())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == "this machine: File too large"
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        download(tmp_path / "file" / "to", storage())
    assert str(caught.value) == f"{tmp_path / 'file'}: File exists"


def test_the_working_directory_is_no_new_folder(
    uploaded: Path, tmp_path: Path, storage: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError, match=r"^\. is the working directory; choose a new folder with --to$"):
        download(Path(), storage())


def test_an_object_that_was_replaced_in_the_bucket_is_found(uploaded: Path, tmp_path: Path, storage: Config, client: Any) -> None:
    client.put_object(Bucket="models", Key="team/exp_1/m/run-1/tokenizer/vocab ü.json", Body=b"[]")
    with pytest.raises(StorageError, match="the object differs from what was stored"):
        download(tmp_path / "to", storage())
    client.put_object(Bucket="models", Key="team/exp_1/m/run-1/tokenizer/vocab ü.json", Body=b"[1]")
    with pytest.raises(StorageError) as caught:
        download(tmp_path / "to", storage())
    assert str(caught.value) == f"{URI}: tokenizer/vocab ü.json has 3 bytes, expected 2 bytes (manifest.json lists it)"
    client.delete_object(Bucket="models", Key="team/exp_1/m/run-1/tokenizer/vocab ü.json")
    with pytest.raises(StorageError, match=r"tokenizer/vocab ü\.json is missing, expected 2 bytes"):
        download(tmp_path / "to", storage())


def test_an_upload_that_is_not_finished_is_none(uploaded: Path, tmp_path: Path, storage: Config, client: Any) -> None:
    client.delete_object(Bucket="models", Key="team/exp_1/m/run-1/manifest.json")
    with pytest.raises(StorageError) as caught:
        download(tmp_path / "to", storage())
    assert str(caught.value) == (
        f"{URI} has no manifest.json: the upload is unfinished (finish it with: launcher upload RUN), or not by this launcher"
    )


def test_a_folder_above_uploads_names_one_of_them(uploaded: Path, tmp_path: Path, storage: Config) -> None:
    with pytest.raises(StorageError) as caught:
        download(tmp_path / "to", storage(), "s3://models/team/exp_1")
    assert str(caught.value) == (
        "s3://models/team/exp_1 holds several uploads; use one of them, as s3://models/team/exp_1/m/run-1"
    )


@pytest.mark.parametrize(
    "manifest",
    [
        {"files": []},
        {"files": [{"name": "../out", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"name": "/etc/out", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"name": "a", "size": -1, "sha256": "0" * 64}]},
        {"files": [{"name": "a", "size": 1, "sha256": "?"}]},
        {"files": [{"name": "a", "size": 1, "sha256": "0" * 64}] * 2},
        {"files": [{"name": "a", "size": 1}]},
        {"files": {"a": 1}},
        {},
    ],
)
def test_a_manifest_that_names_no_files_of_one_folder_is_refused(
    manifest: dict[str, Any], tmp_path: Path, storage: Config, client: Any
) -> None:
    body = json.dumps({"made_by": "dpo-launcher", **manifest})
    client.put_object(Bucket="models", Key="x/manifest.json", Body=body.encode())
    with pytest.raises(StorageError) as caught:
        download(tmp_path / "to", storage(), "s3://models/x")
    assert str(caught.value) == (
        "s3://models/x/manifest.json: expected a list of files with name, size and sha256; the manifest is damaged, upload again"
    )


def test_what_is_not_there_is_named(tmp_path: Path, storage: Config, client: Any, proxy: FaultProxy) -> None:
    client.put_object(Bucket="models", Key="team/exp_10/weights", Body=b"w")
    with pytest.raises(ExperimentError) as caught:
        download(tmp_path / "to", storage(), "s3://models/team/exp_1")
    assert str(caught.value) == (
        f"s3://models/team/exp_1: no objects found in bucket models at {proxy.url}\n"
        "    expected: a folder with objects\n    found:    none\n    hint:     the nearest key is team/exp_10/weights"
    )
    with pytest.raises(ExperimentError) as caught:
        download(tmp_path / "to", storage(), "s3://modells/x")
    assert str(caught.value) == (
        f"s3://modells/x: bucket modells not found at {proxy.url}\n    expected: an existing bucket\n    found:    modells\n"
        "    hint:     check the name, storage_config.region and storage_config.endpoint_url"
    )
    for uri in ("s3://", "s3:///x", "models/x"):
        with pytest.raises(ExperimentError, match="names no bucket"):
            download(tmp_path / "to", storage(), uri)


def test_credentials_that_may_not_read_are_told_what_they_must(tmp_path: Path, storage: Config, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("status", status=403, code="AccessDenied")]
    with pytest.raises(CredentialError, match=r"their rights to list and read \(s3:ListBucket, s3:GetObject\)"):
        download(tmp_path / "to", storage())
