import hashlib
import json
import os
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from moto.server import ThreadedMotoServer

from launcher import storage as room
from launcher.errors import CredentialError, ExperimentError, UploadError
from launcher.experiment import StorageConfig
from launcher.storage import Uploaded, upload_folder

KEYS = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch, tmp_path_factory):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nowhere = str(tmp_path_factory.mktemp("home") / "none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
    monkeypatch.setenv("AWS_CONFIG_FILE", nowhere)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def client(server):
    post(server, "/moto-api/reset")
    client = boto3.client("s3", endpoint_url=server, aws_access_key_id="x", aws_secret_access_key="y", region_name="us-east-1")
    client.create_bucket(Bucket="models")
    return client


def post(server: str, path: str, body: bytes = b"") -> None:
    plain = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(server + path, data=body, headers=plain, method="POST")).close()


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "adapter"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 8)
    (folder / "tokenizer" / "vocab ü.json").write_text("{}")
    (folder / "empty").touch()
    return folder


def upload(folder, server, *, env=KEYS, parts=("exp_1", "Qwen3-0.6B", "run-1"), **settings) -> Uploaded:
    settings = {"bucket_name": "models", "object_prefix": "team/", "endpoint_url": server, **settings}
    return upload_folder(folder, storage=StorageConfig(**settings), prefix_parts=parts, env=env)


def contents(client) -> dict[str, bytes]:
    listed = client.list_objects_v2(Bucket="models").get("Contents", [])
    return {o["Key"]: client.get_object(Bucket="models", Key=o["Key"])["Body"].read() for o in listed}


def test_a_folder_goes_up_with_a_manifest_that_tells_its_contents(client, server, adapter):
    uploaded = upload(adapter, server)
    stored = contents(client)
    prefix = "team/exp_1/Qwen3-0.6B/run-1"
    manifest = stored.pop(f"{prefix}/manifest.json")
    assert stored == {
        f"{prefix}/adapter_model.safetensors": bytes(range(256)) * 8,
        f"{prefix}/empty": b"",
        f"{prefix}/tokenizer/vocab ü.json": b"{}",
    }
    assert json.loads(manifest) == {
        "files": [
            {"name": name, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            for name, body in ((key.removeprefix(f"{prefix}/"), stored[key]) for key in sorted(stored))
        ]
    }
    assert uploaded == Uploaded(f"s3://models/{prefix}", 4, 2048 + 0 + 2 + len(manifest))


def test_each_object_carries_its_sha_256(client, server, adapter):
    upload(adapter, server, object_prefix="", parts=())
    head = client.head_object(Bucket="models", Key="empty", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.mark.parametrize("size", [room.PART - 1, room.PART, room.PART + 1])
def test_a_file_at_the_edge_of_one_part_arrives_whole(client, server, tmp_path, size):
    folder = tmp_path / "big"
    folder.mkdir()
    with (folder / "weights").open("wb") as file:
        file.write(b"start")
        file.truncate(size)
    upload(folder, server, object_prefix="", parts=())
    assert client.head_object(Bucket="models", Key="weights")["ContentLength"] == size
    with (folder / "weights").open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    manifest = json.loads(client.get_object(Bucket="models", Key="manifest.json")["Body"].read())
    assert manifest == {"files": [{"name": "weights", "size": size, "sha256": expected}]}


def test_the_sdk_s_own_names_are_taken_from_the_environment(client, server, adapter, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    assert upload(adapter, server, env={}).objects == 4


def test_the_sdk_s_own_names_are_taken_from_what_was_given(client, server, adapter):
    assert upload(adapter, server, env={"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}).objects == 4


def test_a_link_to_a_file_inside_is_uploaded_as_that_file(client, server, adapter):
    (adapter / "latest").symlink_to("adapter_model.safetensors")
    upload(adapter, server, object_prefix="", parts=())
    assert contents(client)["latest"] == bytes(range(256)) * 8


@pytest.mark.parametrize("target", ["secret.txt", "outside", "tokenizer/../../secret.txt", "nothing"])
def test_a_link_out_of_the_folder_is_refused_before_anything_is_sent(client, server, adapter, tmp_path, target):
    (tmp_path / "secret.txt").write_text("private")
    (tmp_path / "outside").mkdir()
    link = target if "/" in target else f"../{target}"
    (adapter / "z").symlink_to(link)
    with pytest.raises(UploadError) as caught:
        upload(adapter, server)
    assert str(caught.value) == (f"{adapter}: z is a link to {link}, expected files inside the folder: nothing was uploaded")
    assert contents(client) == {}


def test_an_empty_folder_and_a_missing_one_are_errors(client, server, tmp_path):
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with pytest.raises(UploadError, match="empty: expected files to upload, found an empty folder"):
        upload(tmp_path / "empty", server)
    with pytest.raises(UploadError, match="none: expected a folder to upload, found none"):
        upload(tmp_path / "none", server)


def test_a_file_with_the_manifest_s_name_is_refused(client, server, adapter):
    (adapter / "manifest.json").write_text("mine")
    with pytest.raises(UploadError, match=r"has a file manifest\.json, a name that the upload needs"):
        upload(adapter, server)


def test_a_bucket_that_does_not_exist_is_named(client, server, adapter):
    with pytest.raises(UploadError) as caught:
        upload(adapter, server, bucket_name="modells")
    assert str(caught.value) == (
        f"bucket modells at {server}: there is no such bucket; check bucket_name, region and endpoint_url"
    )
    assert caught.value.exit_code == 47


def test_a_bucket_that_is_not_set_is_the_experiment_s_mistake(server, adapter):
    with pytest.raises(ExperimentError, match="storage_config: bucket_name is not set"):
        upload(adapter, server, bucket_name=None)


def test_an_endpoint_that_does_not_answer_is_named(adapter):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(UploadError) as caught:
            upload(adapter, f"http://127.0.0.1:{port}")
    assert str(caught.value) == (
        f"bucket models at http://127.0.0.1:{port}: not reachable (EndpointConnectionError); check endpoint_url and the network"
    )


def test_no_credentials_at_all_is_said_with_the_names_to_set(server, adapter):
    with pytest.raises(CredentialError) as caught:
        upload(adapter, server, env={})
    assert str(caught.value) == (
        f"bucket models at {server}: no credentials (NoCredentialsError); "
        "set AWS_ACCESS_KEY and AWS_SECRET_KEY (or the AWS SDK's own names, a profile or a role)"
    )
    assert caught.value.exit_code == 44


@pytest.mark.parametrize(("given", "missing"), [("AWS_ACCESS_KEY", "AWS_SECRET_KEY"), ("AWS_SECRET_KEY", "AWS_ACCESS_KEY")])
def test_half_of_the_credentials_is_not_enough(server, adapter, given, missing):
    with pytest.raises(CredentialError) as caught:
        upload(adapter, server, env={given: "hush-hush"})
    assert str(caught.value) == f"{missing} is not set, but {given} is: expected both or neither"


@pytest.fixture
def guarded(client, server):
    """The server checks every signature; gives the access key of a user who exists."""
    iam = boto3.client("iam", endpoint_url=server, aws_access_key_id="x", aws_secret_access_key="y", region_name="us-east-1")
    iam.create_user(UserName="trainer")
    key = iam.create_access_key(UserName="trainer")["AccessKey"]
    post(server, "/moto-api/reset-auth", b"0")
    yield key
    post(server, "/moto-api/reset-auth", b"inf")


@pytest.mark.parametrize(
    ("known", "own_secret", "code"),
    [(False, False, "InvalidAccessKeyId"), (True, False, "SignatureDoesNotMatch"), (True, True, "AccessDenied")],
)
def test_refused_credentials_are_said_without_the_secret(guarded, server, adapter, known, own_secret, code):
    env = {
        "AWS_ACCESS_KEY": guarded["AccessKeyId"] if known else "AKIAEXAMPLE",
        "AWS_SECRET_KEY": guarded["SecretAccessKey"] if own_secret else "hush-hush",
    }
    with pytest.raises(CredentialError) as caught:
        upload(adapter, server, env=env)
    assert str(caught.value) == (
        f"bucket models at {server}: the credentials were refused ({code}); check AWS_ACCESS_KEY and AWS_SECRET_KEY "
        "(or the AWS SDK's own names, a profile or a role) and their rights to write there"
    )


class Forgetful(BaseHTTPRequestHandler):
    """A store that takes every object and remembers only what ``kept`` says of it."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        sent = int(self.headers["Content-Length"])
        self.rfile.read(sent)
        self.server.sizes[self.path] = sent
        self.answer({"Content-Length": "0"})

    def do_HEAD(self):
        self.answer({"Content-Length": str(self.server.sizes[self.path]), **self.server.kept})

    def answer(self, headers):
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def forgetful():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forgetful)
    server.sizes = {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ({"Content-Length": "2"}, "expected bytes 5, found 2"),
        (
            {"x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
            "expected SHA-256 LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=, found 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        ),
    ],
)
def test_an_object_that_the_server_did_not_keep_as_sent_is_an_error_and_no_manifest_follows(forgetful, tmp_path, kept, says):
    forgetful.kept = kept
    (tmp_path / "weights").write_text("hello")
    with pytest.raises(UploadError) as caught:
        upload(tmp_path, f"http://127.0.0.1:{forgetful.server_port}", parts=())
    assert str(caught.value) == f"s3://models/team/weights: {says}: the object is not what was sent"
    assert list(forgetful.sizes) == ["/models/team/weights"]


def test_a_server_that_keeps_no_checksums_is_believed_by_size(forgetful, tmp_path):
    forgetful.kept = {}
    (tmp_path / "weights").write_text("hello")
    assert upload(tmp_path, f"http://127.0.0.1:{forgetful.server_port}", parts=()).objects == 2
    assert list(forgetful.sizes) == ["/models/team/weights", "/models/team/manifest.json"]


def test_an_endpoint_that_is_no_address_is_said(adapter):
    with pytest.raises(UploadError, match="http://: endpoint_url is not the address of a server"):
        upload(adapter, "http://")


def test_a_bucket_name_that_s3_does_not_allow_is_said_in_its_words(server, adapter):
    with pytest.raises(UploadError) as caught:
        upload(adapter, server, bucket_name="no spaces")
    assert str(caught.value).startswith(f"bucket no spaces at {server}: Parameter validation failed:\nInvalid bucket name")
