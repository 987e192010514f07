"""Which bucket names the S3 client accepts. No bucket, of AWS or another server, can have a different name."""

from __future__ import annotations

import re
from typing import Final

SCHEME: Final = "s3://"
NAME: Final = r"[a-zA-Z0-9.\-_]{1,255}"  # both from botocore; legacy names and other servers allow more than AWS's 63 characters
ARN: Final = (
    r"arn:aws.*?:(?:s3|s3-object-lambda):[a-z\-0-9]*:[0-9]{12}:accesspoint[/:][a-zA-Z0-9\-.]{1,63}"
    r"|arn:aws.*?:s3-outposts:[a-z\-0-9]+:[0-9]{12}:outpost[/:][a-zA-Z0-9\-]{1,63}[/:]accesspoint[/:][a-zA-Z0-9\-]{1,63}"
)
EXPECTED: Final = "the name of a bucket (letters, digits, '.', '-' and '_') or the ARN of an access point"
_URI: Final = re.compile(rf"(?P<bucket>{ARN}|[^/]*)(?:/(?P<prefix>.*))?", re.DOTALL)


def is_bucket(name: str) -> bool:
    """Whether a bucket can have this name."""
    return re.fullmatch(f"{NAME}|{ARN}", name) is not None


def split(uri: str) -> tuple[str, str]:
    """``s3://bucket/prefix`` -> (bucket, prefix without outer slashes). The ARN of an access point may contain a slash."""
    found = _URI.fullmatch(uri.removeprefix(SCHEME))
    assert found is not None, "every text matches"
    return found["bucket"], (found["prefix"] or "").strip("/")


def meant(name: str) -> str | None:
    """What to write for an invalid bucket name, if that can be guessed."""
    bucket, prefix = split(name.strip())
    if not is_bucket(bucket):
        return None
    return f"bucket_name: {bucket}" + (f", and object_prefix: {prefix}" if prefix else "")
