"""S3: a folder goes up whole, each object checked against its SHA-256, the manifest last. The only room that knows boto3."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import CredentialError, ExperimentError, Mistake, UploadError
from ..experiment import StorageConfig

MANIFEST: Final = "manifest.json"
PART: Final = 64 * 1024 * 1024  # bytes; larger objects are sent in parts of this size
_NAMES: Final = "AWS_ACCESS_KEY and AWS_SECRET_KEY (or the AWS SDK's own names, a profile or a role)"
_REFUSED: Final = {
    "401", "403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
}  # fmt: skip


@dataclass(frozen=True)
class Uploaded:
    """What lies in the bucket now: ``objects`` counts the manifest, ``bytes`` all contents."""

    uri: str
    objects: int
    bytes: int


@dataclass(frozen=True)
class _File:
    """``sha256`` in hex; ``checksum`` as S3 returns it: base64, and for an object in parts the hash of their hashes."""

    name: str
    size: int
    sha256: str
    checksum: str


def upload_folder(folder: Path, *, storage: StorageConfig, prefix_parts: Sequence[str], env: Mapping[str, str]) -> Uploaded:
    """Uploads every file below ``folder`` to ``s3://<bucket>/<object_prefix>/<prefix_parts…>/<relative path>``.

    Each object is sent with its SHA-256 and looked at again: size, and the checksum where the server keeps one. The
    ``manifest.json`` (names, sizes, SHA-256) is written last, so a prefix that has one is whole. Links are uploaded as the
    files that they name inside the folder; a link that leads out of it is refused before anything is sent.

    Raises CredentialError if credentials are missing or refused, UploadError for everything else that the folder, the
    network or the server does, and ExperimentError if ``storage`` names no bucket.
    """
    if storage.bucket_name is None:
        raise ExperimentError(Mistake("storage_config", "bucket_name is not set", expected="the name of a bucket"))
    with _explained(storage):
        paths = _paths(folder)
        client = _client(storage, env)
        prefix = "/".join(part.strip("/") for part in (storage.object_prefix, *prefix_parts) if part.strip("/"))
        files = [_put(client, storage.bucket_name, prefix, name, path) for name, path in paths.items()]
        manifest = _manifest(files)
        _put_bytes(client, storage.bucket_name, _key(prefix, MANIFEST), manifest)
    return Uploaded(f"s3://{_key(storage.bucket_name, prefix)}", len(files) + 1, sum(f.size for f in files) + len(manifest))


def _key(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _paths(folder: Path) -> dict[str, Path]:
    """Relative name -> file, in order of the names."""
    if not folder.is_dir():
        raise UploadError(f"{folder}: expected a folder to upload, found none")
    inside, found = folder.resolve(), {}
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or not path.resolve().is_relative_to(inside):
            kind = f"a link to {path.readlink()}" if path.is_symlink() else "neither a file nor a folder"
            raise UploadError(f"{folder}: {name} is {kind}, expected files inside the folder: nothing was uploaded")
        found[name] = path
    if not found:
        raise UploadError(f"{folder}: expected files to upload, found an empty folder")
    if MANIFEST in found:
        raise UploadError(f"{folder}: has a file {MANIFEST}, a name that the upload needs for its own list: nothing was uploaded")
    return dict(sorted(found.items()))


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below that is no real folder: links to folders are not entered."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        else:
            yield entry


def _client(storage: StorageConfig, env: Mapping[str, str]) -> Any:
    import boto3
    from botocore.config import Config

    access, secret, token = _keys(env)
    session = boto3.session.Session(
        # None leaves the choice to boto3's own chain: its environment names, profiles, roles.
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        aws_session_token=token,
        region_name=storage.region or env.get("AWS_REGION") or None,
    )
    config = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})
    try:
        return session.client("s3", endpoint_url=storage.endpoint_url, config=config)
    except ValueError as error:
        raise UploadError(f"{_endpoint(storage)}: endpoint_url is not the address of a server") from error


def _keys(env: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """(access key, secret key, session token): the seed's names first, then the SDK's, which ``.env`` may hold as well."""
    for access, secret, token in (
        ("AWS_ACCESS_KEY", "AWS_SECRET_KEY", ""),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    ):
        given = [name for name in (access, secret) if env.get(name)]
        if len(given) == 1:
            missing = secret if given == [access] else access
            raise CredentialError(f"{missing} is not set, but {given[0]} is: expected both or neither")
        if given:
            return env[access].strip(), env[secret].strip(), env.get(token) or None
    return None, None, None


def _put(client: Any, bucket: str, prefix: str, name: str, path: Path) -> _File:
    from boto3.s3.transfer import TransferConfig

    file, key = _hashed(name, path), _key(prefix, name)
    with path.open("rb") as body:
        client.upload_fileobj(
            body,
            bucket,
            key,
            ExtraArgs={"ChecksumAlgorithm": "SHA256"},
            Config=TransferConfig(multipart_threshold=PART, multipart_chunksize=PART),
        )
    _verify(client, bucket, key, file.size, file.checksum)
    return file


def _put_bytes(client: Any, bucket: str, key: str, body: bytes) -> None:
    checksum = _base64(hashlib.sha256(body).digest())
    client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", ChecksumSHA256=checksum)
    _verify(client, bucket, key, len(body), checksum)


def _verify(client: Any, bucket: str, key: str, size: int, checksum: str) -> None:
    head = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    # Not every S3-compatible server keeps a SHA-256; the size it always knows.
    for what, expected, found in (
        ("bytes", size, head["ContentLength"]),
        # AWS adds "-<number of parts>" to the hash of hashes, other servers do not; base64 has no "-".
        ("SHA-256", checksum, head.get("ChecksumSHA256", checksum).partition("-")[0]),
    ):
        if found != expected:
            raise UploadError(f"s3://{bucket}/{key}: expected {what} {expected}, found {found}: the object is not what was sent")


def _hashed(name: str, path: Path) -> _File:
    whole, parts, size = hashlib.sha256(), [], 0
    with path.open("rb") as file:
        while chunk := file.read(PART):
            whole.update(chunk)
            parts.append(hashlib.sha256(chunk).digest())
            size += len(chunk)
    checksum = _base64(whole.digest())
    if size >= PART:
        checksum = _base64(hashlib.sha256(b"".join(parts)).digest())
    return _File(name, size, whole.hexdigest(), checksum)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def _manifest(files: Sequence[_File]) -> bytes:
    entries = [{k: v for k, v in asdict(file).items() if k != "checksum"} for file in files]
    return (json.dumps({"files": entries}, indent=2, ensure_ascii=False) + "\n").encode()


@contextmanager
def _explained(storage: StorageConfig) -> Iterator[None]:
    """Turns what boto3 raises into one sentence that names the bucket and the endpoint, and never a secret."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions as aws

    target = f"bucket {storage.bucket_name} at {_endpoint(storage)}"
    no_credentials = (
        aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError, aws.ProfileNotFound,
        aws.NoAuthTokenError, aws.SSOError,
    )  # fmt: skip
    try:
        yield
    except aws.ClientError as error:
        raise _of_client_error(error, target) from error
    except no_credentials as error:
        raise CredentialError(f"{target}: no credentials ({type(error).__name__}); set {_NAMES}") from error
    except (aws.EndpointConnectionError, aws.ConnectionError, aws.HTTPClientError) as error:
        raise UploadError(f"{target}: not reachable ({type(error).__name__}); check endpoint_url and the network") from error
    except (aws.BotoCoreError, Boto3Error, OSError) as error:
        shown = str(error).replace(storage.endpoint_url or target, _endpoint(storage))
        raise UploadError(f"{target}: {shown}") from error


def _of_client_error(error: Any, target: str) -> CredentialError | UploadError:
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _REFUSED or status in (401, 403):
        return CredentialError(f"{target}: the credentials were refused ({code}); check {_NAMES} and their rights to write there")
    if code == "NoSuchBucket":
        return UploadError(f"{target}: there is no such bucket; check bucket_name, region and endpoint_url")
    return UploadError(f"{target}: {error.operation_name} failed: {code} (HTTP {status})")


def _endpoint(storage: StorageConfig) -> str:
    """The endpoint as it may be shown: a user and password in a URL are cut out."""
    if storage.endpoint_url is None:
        return "AWS"
    url = urlsplit(storage.endpoint_url)
    return f"{url.scheme}://{url.netloc.rsplit('@', 1)[-1]}"
