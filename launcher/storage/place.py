"""Place: a bucket and a prefix of keys, as in ``s3://bucket/prefix``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..errors import ExperimentError, Mistake
from ..experiment.sections.bucket_name import EXPECTED, SCHEME, is_bucket, split


@dataclass(frozen=True)
class Place:
    """``prefix`` has no slash at either end; it is empty for a whole bucket."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Raises ExperimentError if ``uri`` names no bucket."""
        bucket, prefix = split(uri)
        if not uri.startswith(SCHEME) or not is_bucket(bucket):
            raise ExperimentError(Mistake(uri, "names no bucket", f"s3://bucket/folder, with {EXPECTED}", uri))
        return cls(bucket, prefix)

    @classmethod
    def of(cls, bucket: str, *parts: str) -> Self:
        return cls(bucket, joined(*parts))

    @property
    def uri(self) -> str:
        return SCHEME + joined(self.bucket, self.prefix)

    @property
    def below(self) -> str:
        """The prefix of the keys in this place."""
        return f"{self.prefix}/" if self.prefix else ""

    def key(self, name: str) -> str:
        return self.below + name


def joined(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part.strip("/"))
