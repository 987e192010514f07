"""A dataset of the hub in ``datasets_path``: ``hf://owner/name[@revision][?config=NAME]``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

HUB: Final = "hf://"
EXPECTED: Final = "hf://owner/name or hf://owner/name@revision, optionally with ?config=NAME"
REMOTE: Final = ("s3://", HUB)
_URI: Final = re.compile(
    r"hf://(?:datasets/)?(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?(?:\?config=(?P<config>[^?&=]+))?"
)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def recorded_commit(sources: Iterable[Mapping[str, Any]]) -> str | None:
    """The dataset's commit in ``sources``, the ``data`` of a run's record; None if the data are not a hub dataset."""
    return next((str(source["hub"]["revision"]) for source in sources if source.get("hub")), None)


def is_remote(path: str | None) -> bool:
    """Whether ``path`` is in a bucket or on the hub."""
    return (path or "").startswith(REMOTE)


@dataclass(frozen=True)
class HubData:
    """``name``: owner/name. ``revision``: branch, tag or commit, None for the newest commit. ``config``: None for the default."""

    name: str
    revision: str | None = None
    config: str | None = None

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Raises ValueError for an invalid address."""
        found = _URI.fullmatch(uri)
        if found is None:
            raise ValueError(f"{uri} is not {EXPECTED}")
        return cls(found["name"], found["revision"], found["config"])

    def __str__(self) -> str:
        config = f"?config={self.config}" if self.config else ""
        return f"{HUB}{self.name}{f'@{self.revision}' if self.revision else ''}{config}"

    @property
    def is_pinned(self) -> bool:
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> Self:
        return replace(self, revision=commit)
