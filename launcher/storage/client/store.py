"""Store: one bucket of one server, called with retries."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from ...errors import ExperimentError, Mistake
from ...experiment.schema import StorageConfig
from .credentials import session_of
from .explained import Garbled, code_of, endpoint_of, headers_of, passes_later, shown_endpoint, status_of

T = TypeVar("T")
_LONGEST: Final = 20.0  # seconds of a pause between two tries
_ASKED: Final = 120.0  # seconds of a pause that the server asks for, at most
STYLE: Final = "DPO_S3_ADDRESSING_STYLE"
_STYLES: Final = ("auto", "path", "virtual")
_PIECE: Final = 256 * 1024
_NOT_SENT: Final = "the object differs from what was sent"
_UNKNOWN_HEADER: Final = {"InvalidArgument", "InvalidRequest", "NotImplemented", "UnsupportedArgument"}


@dataclass(frozen=True)
class Effort:
    """``part``: bytes of one request; ``pause``: seconds before the second try, doubled for each further one."""

    part: int = 8 * 1024 * 1024
    threads: int = 8
    attempts: int = 6
    pause: float = 0.5
    timeout: float = 60.0  # seconds in which no byte is sent or received


EFFORT: Final = Effort()


@dataclass
class Store:
    """All threads of a transfer share one.

    ``takes_sha256`` becomes false if the server refuses S3's checksum headers, as some compatible servers do;
    then Content-MD5 is sent. ``closing``: the transfer has failed, nothing is retried. ``notices``: what was left undone.
    """

    client: Any
    bucket: str
    target: str
    effort: Effort = field(default_factory=Effort)
    takes_sha256: bool = True
    closing: threading.Event = field(default_factory=threading.Event)
    notices: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, bucket: str, storage: StorageConfig | None, env: Mapping[str, str], effort: Effort) -> Store:
        """Raises CredentialError if half of a credential is set, and ValueError if the endpoint is not an address."""
        from botocore.config import Config

        config = Config(
            connect_timeout=min(10.0, effort.timeout),
            read_timeout=effort.timeout,
            retries={"mode": "standard", "total_max_attempts": 1},  # `patiently` retries, also what breaks while it is read
            max_pool_connections=effort.threads + 2,
            # Some servers refuse the checksums that SDKs add by themselves since 2025; ours are given by hand.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3=_s3(env),
        )
        endpoint = endpoint_of(storage, env)
        client = session_of(storage, env).client("s3", endpoint_url=endpoint, config=config)
        return cls(client, bucket, f"bucket {bucket} at {shown_endpoint(endpoint)}", effort)

    def call(self, operation: str, *, body: bytes | None = None, keeps: str | None = None, **arguments: Any) -> dict[str, Any]:
        """boto3's answer to ``operation`` on the bucket; raises boto3's error when retries do not help.

        An answer with another SHA-256 than ``keeps`` (base64) counts as a transient error.
        """

        def once() -> dict[str, Any]:
            sent = {} if body is None else {"Body": Body(body)}
            answer = dict(getattr(self.client, operation)(Bucket=self.bucket, **arguments, **sent))
            found = answer.get("ChecksumSHA256", keeps)
            if keeps is not None and found != keeps:
                raise Garbled(f"s3://{self.bucket}/{arguments['Key']}: expected SHA-256 {keeps}, found {found}: {_NOT_SENT}")
            return answer

        return self.patiently(once)

    def send(self, operation: str, body: bytes, sha256: bytes, **arguments: Any) -> dict[str, Any]:
        """``call`` with a body that the server verifies: by its SHA-256, or by its MD5 if it supports no SHA-256."""
        from botocore.exceptions import ClientError

        if self.takes_sha256:
            digest = base64_of(sha256)
            checks = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": digest}
            try:
                return self.call(operation, body=body, keeps=digest, **checks, **arguments)
            except ClientError as error:
                if not refuses_checksums(error):
                    raise
                self.takes_sha256 = False
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        return self.call(operation, body=body, ContentMD5=base64_of(md5), **arguments)

    def pages(self, operation: str, markers: Mapping[str, str], **arguments: Any) -> Iterator[dict[str, Any]]:
        """Every page of a listing; ``markers``: argument for the next page -> field of the last page with its value."""
        more: dict[str, Any] = {}
        while True:
            page = self.call(operation, **arguments, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {argument: page[name] for argument, name in markers.items() if page.get(name)}

    def patiently(self, once: Callable[[], T]) -> T:
        """Calls ``once``, with retries after pauses while its error is transient, and returns its result."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return once()
            except Exception as error:
                if attempt >= self.effort.attempts or not passes(error) or self.closing.wait(self._pause(attempt, error)):
                    raise

    def _pause(self, attempt: int, error: Exception) -> float:
        asked = headers_of(error).get("retry-after", "")
        if asked.isdigit():
            return min(float(asked), _ASKED)
        # Threads that fail together must not come back together.
        return float(min(_LONGEST, self.effort.pause * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))


def _s3(env: Mapping[str, str]) -> Any:
    """Options only for S3; without a style the SDK and its profile decide where the bucket's name is in an address."""
    style = env.get(STYLE)
    if style not in (None, "", *_STYLES):
        raise ExperimentError(Mistake(STYLE, f"must be one of {', '.join(_STYLES)}", found=style))
    # Each body comes with its SHA-256 or MD5 in a header that is signed: a second hash would sign nothing more.
    return {"payload_signing_enabled": False, **({"addressing_style": style} if style else {})}


class Body(io.BytesIO):
    """A request's body, read in larger pieces than urllib3's 16 KiB, because each costs a system call and the GIL.

    Not in one piece: the timeout counts per piece, and a slow connection must send one within it.
    """

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size if size is None or size < 0 else max(size, _PIECE))


def passes(error: Exception) -> bool:
    """Whether a retry may succeed."""
    from botocore import exceptions as aws
    from botocore.parsers import ResponseParserError

    if isinstance(error, aws.ClientError):
        return passes_later(error)
    if isinstance(error, aws.SSLError):
        return "CERTIFICATE" not in str(error).upper()
    return isinstance(error, aws.HTTPClientError | aws.ConnectionError | aws.IncompleteReadError | ResponseParserError | Garbled)


def refuses_checksums(error: Any) -> bool:
    return code_of(error) in _UNKNOWN_HEADER or status_of(error) == 501


def is_missing(error: Any) -> bool:
    """Whether an object is missing (and not the bucket)."""
    return status_of(error) == 404 and code_of(error) != "NoSuchBucket"


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")
