"""Errors of boto3 as one sentence that names bucket and server but no secret; disk errors as one that names the file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from ...errors import CredentialError, ExperimentError, LauncherError, Mistake, UnreachableError, UploadError
from ...experiment.schema import StorageConfig
from ...experiment.variables import has_password, password_in
from ...network import certificate, reason, shown, skew, through, wrong_clock
from .credentials import NAMES

_REFUSED: Final = {  # the credentials themselves; any other 401 or 403 is a missing right
    "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired",
}  # fmt: skip
_AWAY: Final = re.compile(
    r"timed? ?out|timeout|connect|Max Retries|HTTP 5|\b50[0-4]\b|\b429\b", re.IGNORECASE
)  # a metadata service
_CLOCK: Final = {"RequestTimeTooSkewed", "RequestExpired"}
# Transient errors; a checksum error is bytes that changed in transit.
_PASSING: Final = {
    "BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown",
    "Throttling", "ThrottlingException", "TooManyRequests", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
}  # fmt: skip
# Operation -> the right that it needs, where its name differs from s3:<operation>.
_RIGHTS: Final = {
    "ListObjectsV2": "ListBucket", "HeadBucket": "ListBucket", "HeadObject": "GetObject",
    "ListMultipartUploads": "ListBucketMultipartUploads", "ListParts": "ListMultipartUploadParts",
    "CreateMultipartUpload": "PutObject", "UploadPart": "PutObject", "CompleteMultipartUpload": "PutObject",
}  # fmt: skip
_RIGHT_IS_MISSING: Final = {"401", "403", "AccessDenied", "AllAccessDisabled", "Forbidden", "Unauthorized", "UnauthorizedAccess"}
_OF_BUCKET: Final = {"ListBucket", "ListBucketMultipartUploads"}

# Errors of a write, which come without the file's name.
_OF_A_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE})


class Garbled(Exception):
    """The received bytes are not the requested ones; a retry may help."""


def endpoint_of(storage: StorageConfig | None, env: Mapping[str, str]) -> str | None:
    """The server's address, None for AWS; raises ExperimentError for a variable that contains a password, as for the setting."""
    if storage is not None and storage.endpoint_url is not None:
        return storage.endpoint_url
    name = next((name for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if env.get(name)), None)
    if name is not None and has_password(env[name]):
        raise ExperimentError(password_in(name))
    return None if name is None else env[name]


def shown_endpoint(endpoint: str | None) -> str:
    """The endpoint without user and password."""
    return "AWS" if endpoint is None else shown(endpoint) + urlsplit(endpoint).path.rstrip("/")


@contextmanager
def explained(
    bucket: str, endpoint: str | None, *, purpose: str, failure: type[LauncherError], where: str | None = None
) -> Iterator[None]:
    """Turns boto3's errors into CredentialError, and those of server and this machine's disk into ``failure``.

    A server that does not answer just now is an UnreachableError, except after a training: then ``failure`` is UploadError, whose
    retry only uploads. ``purpose``: what the credentials must allow, as ``write``. With ``where`` (a setting of an experiment) a
    missing bucket is an ExperimentError at that place.
    """
    from boto3.exceptions import Boto3Error
    from botocore import exceptions as aws
    from botocore.parsers import ResponseParserError

    target = f"bucket {bucket} at {shown_endpoint(endpoint)}"
    no_credentials = (
        aws.NoCredentialsError, aws.PartialCredentialsError, aws.ProfileNotFound,
        aws.NoAuthTokenError, aws.SSOError,
    )  # fmt: skip
    try:
        yield
    except aws.ClientError as error:
        if where is not None and error.response.get("Error", {}).get("Code") == "NoSuchBucket":
            raise ExperimentError(_no_bucket(where, bucket, endpoint)) from error
        raise _of_client_error(error, target, purpose, failure) from error
    except aws.CredentialRetrievalError as error:
        kind = _waiting(failure) if _AWAY.search(str(error)) else CredentialError
        raise kind(f"{target}: cannot get the SDK's credentials: {error}; or set {NAMES}") from error
    except no_credentials as error:
        raise CredentialError(f"{target}: no credentials ({type(error).__name__}); set {NAMES}") from error
    except (aws.EndpointConnectionError, aws.ConnectionError, aws.HTTPClientError) as error:
        raise _unconnected(error, target, endpoint, failure) from error
    except Garbled as error:
        raise failure(str(error)) from error
    except OSError as error:
        if not is_of_disk(error):
            raise failure(f"{target}: {error}") from error
        raise failure(f"{error.filename or 'this machine'}: {error.strerror}") from error
    except (aws.BotoCoreError, Boto3Error, ResponseParserError) as error:
        shown = str(error).replace(endpoint or target, shown_endpoint(endpoint))
        raise failure(f"{target}: {shown}") from error


def is_of_disk(error: BaseException | None) -> bool:
    """Whether ``error`` comes from this machine's disk, not from the network."""
    return isinstance(error, OSError) and (error.filename is not None or error.errno in _OF_A_DISK)


def no_address(endpoint: str | None, failure: type[LauncherError]) -> LauncherError:
    return failure(f"{shown_endpoint(endpoint)}: endpoint_url is not a server's address")


def _no_bucket(where: str, bucket: str, endpoint: str | None) -> Mistake:
    hint = "check the name, storage_config.region and storage_config.endpoint_url"
    return Mistake(where, f"bucket {bucket} not found at {shown_endpoint(endpoint)}", "an existing bucket", bucket, hint)


def _unconnected(error: Exception, target: str, endpoint: str | None, failure: type[LauncherError]) -> LauncherError:
    meaning = certificate(str(error))
    if meaning is not None:
        return failure(f"{target}: {meaning} (AWS_CA_BUNDLE names a file with the certificates to trust)")
    words = str(getattr(error, "kwargs", {}).get("error") or error)
    said = "" if (why := reason(words)) == " ".join(words.split()) else f": {why}"
    way = through(endpoint, os.environ) if endpoint is not None else through("https://s3.amazonaws.com", os.environ)
    what = f"cannot connect{way} ({type(error).__name__}{said}); check endpoint_url and the network"
    return _waiting(failure)(f"{target}: {what}")


def _waiting(failure: type[LauncherError]) -> type[LauncherError]:
    """The class of an error that waiting may fix."""
    return failure if failure is UploadError else UnreachableError


def _of_client_error(error: Any, target: str, purpose: str, failure: type[LauncherError]) -> LauncherError:
    code, status = code_of(error), status_of(error)
    if code in _CLOCK:
        ahead = skew(headers_of(error).get("date"))
        return CredentialError(f"{target}: " + wrong_clock(ahead, "the server's", said_by(error)))
    if code in _REFUSED:
        return CredentialError(f"{target}: permission denied ({code}); check {NAMES} and their rights to {purpose}")
    if is_refused(error):
        return CredentialError(f"{target}: {refusal(error)}\n    hint:     check {NAMES} and their rights to {purpose}")
    if code == "NoSuchBucket":
        return failure(f"{target}: bucket not found; check bucket_name, region and endpoint_url")
    kind = _waiting(failure) if passes_later(error) else failure
    return kind(f"{target}: {error.operation_name} failed: {code} (HTTP {status})")


def refusal(error: Any) -> str:
    """``PutObject was refused: needs s3:PutObject on …; the server's answer: …`` for an error that ``is_refused``."""
    operation = str(error.operation_name)
    if code_of(error) not in _RIGHT_IS_MISSING:  # a quota, a key of encryption
        return f"{operation} was refused; the server's answer: {said_by(error)}"
    right = _RIGHTS.get(operation, operation.removesuffix("V2"))
    on = "the bucket" if right in _OF_BUCKET else "its objects"
    return f"{operation} was refused: needs s3:{right} on {on}; the server's answer: {said_by(error)}"


def is_refused(error: Any) -> bool:
    """Whether the credentials lack a permission."""
    return status_of(error) in (401, 403) or code_of(error) in ("401", "403", "AccessDenied")


def passes_later(error: Any) -> bool:
    """Whether the same request may succeed later."""
    status = status_of(error)
    return (status >= 500 and status != 501) or status in (408, 429) or code_of(error) in _PASSING


def said_by(error: Any) -> str:
    """The server's code and sentence: ``AccessDenied, not allowed by the policy``. A HEAD's answer has no sentence."""
    sentence = " ".join(str(error.response.get("Error", {}).get("Message") or "").split())
    return f"{code_of(error)}, {sentence}" if sentence else f"{code_of(error)} (HTTP {status_of(error)})"


def code_of(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def status_of(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def headers_of(error: Any) -> Mapping[str, str]:
    response = getattr(error, "response", None)
    found = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}) if isinstance(response, dict) else {}
    return found if isinstance(found, Mapping) else {}
