"""Errors of boto3 as one sentence that names bucket and server and never a secret; errors of a disk by their file."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import CredentialError, ExperimentError, LauncherError, Mistake
from ..experiment.schema import StorageConfig
from .credentials import NAMES

_REFUSED: Final = {
    "401", "403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
}  # fmt: skip

# Errors of a write, which come without the file's name.
_OF_A_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE})


class Garbled(Exception):
    """The bytes that arrived are not those that were asked for; a retry may help."""


def endpoint_of(storage: StorageConfig | None, env: Mapping[str, str]) -> str | None:
    """The server's address, None for AWS."""
    named = storage.endpoint_url if storage else None
    return named or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None


def shown_endpoint(endpoint: str | None) -> str:
    """The endpoint without user and password."""
    if endpoint is None:
        return "AWS"
    url = urlsplit(endpoint)
    return f"{url.scheme}://{url.netloc.rsplit('@', 1)[-1]}{url.path.rstrip('/')}"


@contextmanager
def explained(
    bucket: str, endpoint: str | None, *, purpose: str, failure: type[LauncherError], where: str | None = None
) -> Iterator[None]:
    """Turns boto3's errors into CredentialError, and those of network, server and this machine's disk into ``failure``.

    ``purpose``: what the credentials must allow, as ``write``. With ``where`` (the setting of an experiment) a missing bucket is
    an ExperimentError at that place.
    """
    from boto3.exceptions import Boto3Error
    from botocore import exceptions as aws
    from botocore.parsers import ResponseParserError

    target = f"bucket {bucket} at {shown_endpoint(endpoint)}"
    no_credentials = (
        aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError, aws.ProfileNotFound,
        aws.NoAuthTokenError, aws.SSOError,
    )  # fmt: skip
    try:
        yield
    except aws.ClientError as error:
        if where is not None and error.response.get("Error", {}).get("Code") == "NoSuchBucket":
            raise ExperimentError(_no_bucket(where, bucket, endpoint)) from error
        raise _of_client_error(error, target, purpose, failure) from error
    except no_credentials as error:
        raise CredentialError(f"{target}: no credentials ({type(error).__name__}); set {NAMES}") from error
    except (aws.EndpointConnectionError, aws.ConnectionError, aws.HTTPClientError) as error:
        raise failure(f"{target}: cannot connect ({type(error).__name__}); check endpoint_url and the network") from error
    except Garbled as error:
        raise failure(str(error)) from error
    except OSError as error:
        if error.filename is None and error.errno not in _OF_A_DISK:
            raise failure(f"{target}: {error}") from error
        raise failure(f"{error.filename or 'this machine'}: {error.strerror}") from error
    except (aws.BotoCoreError, Boto3Error, ResponseParserError) as error:
        shown = str(error).replace(endpoint or target, shown_endpoint(endpoint))
        raise failure(f"{target}: {shown}") from error


def no_address(endpoint: str | None, failure: type[LauncherError]) -> LauncherError:
    return failure(f"{shown_endpoint(endpoint)}: endpoint_url is not a server's address")


def _no_bucket(where: str, bucket: str, endpoint: str | None) -> Mistake:
    hint = "check the name, storage_config.region and storage_config.endpoint_url"
    return Mistake(where, f"bucket {bucket} not found at {shown_endpoint(endpoint)}", "an existing bucket", bucket, hint)


def _of_client_error(error: Any, target: str, purpose: str, failure: type[LauncherError]) -> LauncherError:
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _REFUSED or status in (401, 403):
        return CredentialError(f"{target}: permission denied ({code}); check {NAMES} and their rights to {purpose}")
    if code == "NoSuchBucket":
        return failure(f"{target}: bucket not found; check bucket_name, region and endpoint_url")
    return failure(f"{target}: {error.operation_name} failed: {code} (HTTP {status})")
