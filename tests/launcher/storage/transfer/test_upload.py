from __future__ import annotations

import base64
import hashlib
import json
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import CredentialError, ExperimentError, UploadError
from launcher.experiment.schema import StorageConfig
from launcher.storage import Progress, Uploaded, upload_folder
from tests.s3.proxy import OTHER_SHA256, Fault, FaultProxy
from tests.s3.server import PART, MotoServer

from ..conftest import EFFORT, IMPATIENT, KEYS

PREFIX = "team/exp_1/Qwen3-0.6B/run-1"
WEIGHTS = f"{PREFIX}/adapter_model.safetensors"

Config = Callable[..., StorageConfig]
Contents = Callable[[], dict[str, bytes]]


def upload(folder: Path, storage: StorageConfig, **more: Any) -> Uploaded:
    given = {"prefix_parts": ("exp_1", "Qwen3-0.6B", "run-1"), "env": KEYS, "effort": EFFORT, **more}
    return upload_folder(folder, storage=storage, **given)


def composite(body: bytes) -> bytes:
    """As S3 has it: of a large object the hash of its parts' hashes."""
    parts = [hashlib.sha256(body[start : start + PART]).digest() for start in range(0, max(1, len(body)), PART)]
    return parts[0] if len(parts) == 1 else hashlib.sha256(b"".join(parts)).digest()


def is_whole(stored: dict[str, bytes], folder: Path) -> bool:
    """Whether the bucket holds the folder's files, and a manifest of them."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(stored[f"{PREFIX}/manifest.json"])
    return {f"{PREFIX}/{name}": body for name, body in files.items()}.items() <= stored.items() and manifest == {
        "made_by": "dpo-launcher",
        "files": [
            {"name": name, "size": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()} for name in sorted(files)
        ],
    }


def test_a_folder_goes_up_with_a_manifest_that_tells_its_contents(adapter: Path, storage: Config, contents: Contents) -> None:
    uploaded = upload(adapter, storage())
    stored = contents()
    assert sorted(stored) == [WEIGHTS, f"{PREFIX}/empty", f"{PREFIX}/manifest.json", f"{PREFIX}/tokenizer/vocab ü.json"]
    assert is_whole(stored, adapter)
    assert uploaded == Uploaded(f"s3://models/{PREFIX}", 4, 4099 + 0 + 2 + len(stored[f"{PREFIX}/manifest.json"]))


def test_the_manifest_has_the_hashes_that_sha256sum_prints(adapter: Path, storage: Config, contents: Contents) -> None:
    upload(adapter, storage())
    files = json.loads(contents()[f"{PREFIX}/manifest.json"])["files"]
    lines = "".join(f"{one['sha256']}  {one['name']}\n" for one in files)
    checked = subprocess.run(["sha256sum", "--check"], cwd=adapter, input=lines, capture_output=True, text=True, check=False)
    assert checked.stdout == "adapter_model.safetensors: OK\nempty: OK\ntokenizer/vocab ü.json: OK\n"


def test_a_large_file_goes_up_in_parts_and_the_manifest_last(adapter: Path, storage: Config, proxy: FaultProxy) -> None:
    upload(adapter, storage())
    assert sorted((part[2], size) for part, size in proxy.parts()) == [(1, PART), (2, PART), (3, PART), (4, PART), (5, 3)]
    writes = [request.path for request in proxy.requests if request.method in ("PUT", "POST")]
    assert writes[-1] == f"/models/{PREFIX}/manifest.json"
    assert writes.count(writes[-1]) == 1


def test_each_object_carries_its_sha_256(client: Any, adapter: Path, storage: Config) -> None:
    upload(adapter, storage())
    head = client.head_object(Bucket="models", Key=f"{PREFIX}/empty", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == OTHER_SHA256
    head = client.head_object(Bucket="models", Key=WEIGHTS, ChecksumMode="ENABLED")
    assert (
        head["ChecksumSHA256"].partition("-")[0]
        == base64.b64encode(composite((adapter / "adapter_model.safetensors").read_bytes())).decode()
    )


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART])
def test_a_file_at_the_edge_of_a_part_arrives_whole(size: int, tmp_path: Path, storage: Config, contents: Contents) -> None:
    (tmp_path / "weights").write_bytes(bytes(n % 251 for n in range(size)))
    upload(tmp_path, storage())
    assert is_whole(contents(), tmp_path)


def test_progress_is_told_to_its_end(adapter: Path, storage: Config) -> None:
    said: list[Progress] = []
    upload(adapter, storage(), listener=said.append)
    assert (said[0], said[-1]) == (Progress(0, 4101, 0), Progress(4101, 4101, 0))
    assert [one.done for one in said] == sorted(one.done for one in said)


def test_what_is_there_already_is_not_sent_again(adapter: Path, storage: Config, proxy: FaultProxy) -> None:
    first = upload(adapter, storage())
    proxy.requests.clear()
    said: list[Progress] = []
    assert upload(adapter, storage(), listener=said.append) == first
    assert {request.method for request in proxy.requests} == {"GET", "HEAD"}
    assert said[-1] == Progress(4101, 4101, 4101)


def test_parts_that_arrived_before_an_upload_was_cut_off_are_not_sent_again(
    adapter: Path, storage: Config, proxy: FaultProxy, client: Any, contents: Contents
) -> None:
    proxy.faults = [Fault("status", "PUT", "partNumber=4", times=99)]
    with pytest.raises(UploadError, match=r"UploadPart failed: SlowDown \(HTTP 503\)"):
        upload(adapter, storage())
    assert f"{PREFIX}/manifest.json" not in contents()
    there = {part for part, _ in proxy.parts()}
    assert 0 < len(there) < 5
    proxy.faults, proxy.requests = [], []
    upload(adapter, storage())
    assert {part for part, _ in proxy.parts()}.isdisjoint(there)
    assert {part[1] for part, _ in proxy.parts()} == {part[1] for part in there}
    assert is_whole(contents(), adapter)
    assert "Uploads" not in client.list_multipart_uploads(Bucket="models")


def test_an_upload_of_other_contents_is_not_gone_on_with(
    adapter: Path, storage: Config, proxy: FaultProxy, client: Any, contents: Contents
) -> None:
    proxy.faults = [Fault("status", "PUT", "partNumber=5", times=99)]
    with pytest.raises(UploadError):
        upload(adapter, storage())
    (adapter / "adapter_model.safetensors").write_bytes(b"x" * 4099)
    (adapter / "empty").unlink()
    proxy.faults = []
    upload(adapter, storage())
    assert is_whole(contents(), adapter)
    assert "Uploads" not in client.list_multipart_uploads(Bucket="models")


def test_uploads_that_nobody_takes_up_are_aborted(adapter: Path, storage: Config, client: Any) -> None:
    for key in (WEIGHTS, WEIGHTS, f"{PREFIX}/empty", f"{PREFIX}/gone"):
        begun = client.create_multipart_upload(Bucket="models", Key=key)
        client.upload_part(Bucket="models", Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=b"other")
    elsewhere = client.create_multipart_upload(Bucket="models", Key="team/exp_2/weights")["UploadId"]
    upload(adapter, storage())
    assert [one["UploadId"] for one in client.list_multipart_uploads(Bucket="models")["Uploads"]] == [elsewhere]


def test_the_manifest_of_earlier_contents_goes_before_anything_of_it_is_replaced(
    adapter: Path, storage: Config, proxy: FaultProxy, contents: Contents
) -> None:
    upload(adapter, storage())
    proxy.requests.clear()
    (adapter / "adapter_model.safetensors").write_bytes(b"y" * 5000)
    (adapter / "empty").rename(adapter / "other")
    upload(adapter, storage())
    assert is_whole(contents(), adapter)
    writes = [(request.method, request.path.rpartition("/")[2]) for request in proxy.requests if request.method != "GET"]
    assert writes[0] == ("DELETE", "manifest.json")
    assert writes[-2:] == [("PUT", "manifest.json"), ("DELETE", "empty")]
    assert f"{PREFIX}/empty" not in contents()


def test_an_object_that_was_damaged_in_the_bucket_is_found_and_sent_again(
    adapter: Path, storage: Config, client: Any, contents: Contents
) -> None:
    upload(adapter, storage())
    client.put_object(Bucket="models", Key=WEIGHTS, Body=b"z" * 4099)
    upload(adapter, storage())
    assert is_whole(contents(), adapter)


@pytest.mark.parametrize("kind", ["status", "reset", "drop", "silent", "wrong checksum"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_fault_that_passes_costs_a_request_and_nothing_else(
    kind: str, method: str, adapter: Path, storage: Config, proxy: FaultProxy, contents: Contents
) -> None:
    fault = Fault(kind, method, "adapter_model", times=2)
    proxy.faults = [fault]
    upload(adapter, storage(), effort=IMPATIENT if kind == "silent" else EFFORT)
    assert fault.hits == 2
    assert is_whole(contents(), adapter)


@pytest.mark.parametrize("match", ["list-type", "uploads", "manifest.json", "empty", "uploadId"])
@pytest.mark.parametrize(("kind", "status"), [("status", 500), ("status", 503), ("reset", 0), ("truncate", 0)])
def test_every_request_is_tried_again(
    kind: str, status: int, match: str, adapter: Path, storage: Config, proxy: FaultProxy, contents: Contents
) -> None:
    proxy.faults = [Fault(kind, match=match, times=2, status=status, code="InternalError")]
    upload(adapter, storage())
    assert is_whole(contents(), adapter)


def test_a_server_that_says_when_to_come_back_is_obeyed(
    adapter: Path, storage: Config, proxy: FaultProxy, contents: Contents
) -> None:
    """It says at once, where the launcher would have waited for the rest of the day."""
    proxy.faults = [Fault("status", "PUT", "empty", headers={"Retry-After": "0"})]
    upload(adapter, storage(), effort=replace(EFFORT, pause=1e6))
    assert is_whole(contents(), adapter)


def test_a_server_that_is_killed_and_comes_back_is_waited_for(
    adapter: Path, storage: Config, proxy: FaultProxy, contents: Contents
) -> None:
    """It goes after the third part, and comes back when the third try has failed."""

    def killed(now: Progress) -> None:
        if now.done >= 3 * PART and proxy not in fallen:
            fallen.append(proxy)
            proxy.kill()
            rising.start()

    fallen: list[FaultProxy] = []
    rising = threading.Timer(0.2, proxy.start)
    upload(adapter, storage(), listener=killed, effort=replace(EFFORT, threads=1, attempts=12, pause=0.02))
    assert fallen
    rising.join()
    assert is_whole(contents(), adapter)


def test_a_part_that_changed_on_the_way_makes_no_manifest(
    adapter: Path, storage: Config, proxy: FaultProxy, contents: Contents
) -> None:
    proxy.faults = [Fault("corrupt request", "PUT", "partNumber=2")]
    with pytest.raises(UploadError, match=rf"s3://models/{WEIGHTS}: expected SHA-256 .*: the object differs from what was sent"):
        upload(adapter, storage())
    assert f"{PREFIX}/manifest.json" not in contents()
    upload(adapter, storage())
    assert is_whole(contents(), adapter)


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("how", ["forgets_checksums", "refuses_checksums"])
def test_a_server_without_checksums_is_checked_by_its_etags_or_read_back(
    how: str, opaque: bool, adapter: Path, storage: Config, proxy: FaultProxy, contents: Contents
) -> None:
    setattr(proxy, how, True)
    proxy.has_opaque_etags = opaque
    upload(adapter, storage())
    assert is_whole(contents(), adapter)
    read = [
        request for request in proxy.requests if request.method == "GET" and request.path.endswith("adapter_model.safetensors")
    ]
    assert bool(read) == opaque
    (part,) = [request for request in proxy.requests if request.part and request.part[2] == 5]
    expected = base64.b64encode(hashlib.md5(b"end").digest()).decode()
    assert part.headers.get("Content-MD5") == expected


@pytest.mark.parametrize("opaque", [False, True])
def test_what_changed_on_the_way_to_a_server_without_checksums_is_found(
    opaque: bool, adapter: Path, storage: Config, proxy: FaultProxy, contents: Contents
) -> None:
    proxy.forgets_checksums, proxy.has_opaque_etags = True, opaque
    proxy.faults = [Fault("corrupt request", "PUT", "partNumber=2")]
    with pytest.raises(UploadError, match="the object differs from what was sent"):
        upload(adapter, storage())
    assert f"{PREFIX}/manifest.json" not in contents()


def test_a_server_that_cannot_list_uploads_gets_all_parts_again(
    adapter: Path, storage: Config, proxy: FaultProxy, contents: Contents
) -> None:
    proxy.faults = [Fault("status", "GET", "?uploads", status=405, code="MethodNotAllowed", times=9)]
    upload(adapter, storage())
    assert is_whole(contents(), adapter)


@pytest.mark.parametrize("query", ["?uploads", "uploadId"])
def test_rights_that_the_upload_does_not_need_are_not_asked_for(
    query: str, adapter: Path, storage: Config, proxy: FaultProxy, client: Any, contents: Contents
) -> None:
    """Uploads or their parts cannot be listed: all parts are sent again."""
    left = client.create_multipart_upload(Bucket="models", Key=WEIGHTS)["UploadId"]
    client.upload_part(Bucket="models", Key=WEIGHTS, UploadId=left, PartNumber=1, Body=b"x" * PART)
    proxy.faults = [Fault("status", "GET", query, status=403, code="AccessDenied", times=9)]
    upload(adapter, storage())
    assert is_whole(contents(), adapter)


def test_parts_that_may_not_be_removed_are_named_and_the_upload_is_complete(
    adapter: Path, storage: Config, proxy: FaultProxy, client: Any, contents: Contents
) -> None:
    client.create_multipart_upload(Bucket="models", Key=f"{PREFIX}/old")
    proxy.faults = [Fault("status", "DELETE", "uploadId", status=403, code="AccessDenied", times=9)]
    assert upload(adapter, storage()).notices == (
        f"bucket models at {proxy.url}: parts of an unfinished upload stay there: AbortMultipartUpload was refused: "
        "needs s3:AbortMultipartUpload on its objects; the server's answer: AccessDenied, by the proxy",
    )
    assert is_whole(contents(), adapter)


def test_an_operation_that_is_refused_is_named_with_its_right_and_the_server_s_sentence(
    adapter: Path, storage: Config, proxy: FaultProxy
) -> None:
    proxy.faults = [Fault("status", "PUT", "vocab", status=403, code="AccessDenied", times=9)]
    with pytest.raises(CredentialError) as caught:
        upload(adapter, storage())
    assert str(caught.value).startswith(
        f"bucket models at {proxy.url}: PutObject was refused: needs s3:PutObject on its objects; "
        "the server's answer: AccessDenied, by the proxy\n    hint:     check AWS_ACCESS_KEY and "
    )


def test_an_endpoint_may_have_a_path(moto: MotoServer, client: Any, adapter: Path, contents: Contents) -> None:
    with FaultProxy(moto.url, prefix="/store/v1") as proxy:
        config = StorageConfig(bucket_name="models", object_prefix="team", endpoint_url=f"{proxy.url}/")
        upload(adapter, config)
        assert all(request.path.startswith("/store/v1/models") for request in proxy.requests)
    assert is_whole(contents(), adapter)


def test_a_link_to_a_file_inside_is_uploaded_as_that_file(adapter: Path, storage: Config, contents: Contents) -> None:
    (adapter / "latest").symlink_to("empty")
    upload(adapter, storage())
    assert is_whole(contents(), adapter)


@pytest.mark.parametrize("target", ["secret.txt", "outside", "tokenizer/../../secret.txt", "nothing"])
def test_a_link_out_of_the_folder_is_refused_before_anything_is_sent(
    target: str, adapter: Path, storage: Config, contents: Contents, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("private")
    (tmp_path / "outside").mkdir()
    link = target if "/" in target else f"../{target}"
    (adapter / "z").symlink_to(link)
    with pytest.raises(UploadError) as caught:
        upload(adapter, storage())
    assert str(caught.value) == (f"{adapter}: z is a link to {link}, expected files inside the folder; nothing was uploaded")
    assert contents() == {}


def test_an_empty_folder_a_missing_one_and_one_with_a_manifest_are_errors(adapter: Path, tmp_path: Path, storage: Config) -> None:
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with pytest.raises(UploadError, match="empty is empty"):
        upload(tmp_path / "empty", storage())
    with pytest.raises(UploadError, match="none not found"):
        upload(tmp_path / "none", storage())
    (adapter / "manifest.json").write_text("mine")
    with pytest.raises(UploadError, match=r"has a file manifest\.json; the upload needs this name"):
        upload(adapter, storage())


def test_a_bucket_that_does_not_exist_is_named(adapter: Path, storage: Config, proxy: FaultProxy) -> None:
    with pytest.raises(UploadError) as caught:
        upload(adapter, storage(bucket_name="modells"))
    assert str(caught.value) == (f"bucket modells at {proxy.url}: bucket not found; check bucket_name, region and endpoint_url")
    assert caught.value.exit_code == 47


def test_a_bucket_that_is_not_set_is_the_experiment_s_mistake(adapter: Path, storage: Config) -> None:
    with pytest.raises(ExperimentError, match="storage_config: bucket_name is not set"):
        upload(adapter, storage(bucket_name=None))


def test_an_endpoint_that_does_not_answer_is_named(adapter: Path, storage: Config) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(UploadError) as caught:
            upload(adapter, storage(endpoint_url=f"http://127.0.0.1:{port}"))
    assert str(caught.value) == (
        f"bucket models at http://127.0.0.1:{port}: cannot connect (EndpointConnectionError: connection refused); "
        "check endpoint_url and the network"
    )


def test_an_endpoint_that_is_no_address_is_said(adapter: Path, storage: Config) -> None:
    with pytest.raises(UploadError, match="http://: endpoint_url is not a server's address"):
        upload(adapter, storage(endpoint_url="http://"))


def test_refused_credentials_are_said_without_the_secret(adapter: Path, storage: Config, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("status", status=403, code="SignatureDoesNotMatch")]
    with pytest.raises(CredentialError) as caught:
        upload(adapter, storage())
    assert str(caught.value) == (
        f"bucket models at {proxy.url}: permission denied (SignatureDoesNotMatch); check AWS_ACCESS_KEY and "
        "AWS_SECRET_KEY (or the AWS SDK's own names, a profile or a role) and their rights to write"
    )
