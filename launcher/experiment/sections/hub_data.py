"""The name of a dataset on the hub in ``datasets_path``: ``hf://owner/name[@revision][?config=NAME]``."""

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
    """The commit of the dataset that ``sources``, the ``data`` of a run's record, name; None where they are of no dataset."""
    return next((str(source["hub"]["revision"]) for source in sources if source.get("hub")), None)


def is_remote(path: str | None) -> bool:
    """Whether ``path`` is on a server: in a bucket or on the hub."""
    return (path or "").startswith(REMOTE)


@dataclass(frozen=True)
class HubData:
    """A dataset ``name`` (owner/name); ``revision``: a branch, tag or commit, None: the newest commit. ``config``: None: the
    default one.
    """

    name: str
    revision: str | None = None
    config: str | None = None

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Raises ValueError for another text."""
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
