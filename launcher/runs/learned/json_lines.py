"""JSON lines: one JSON object a line, the format of the files of what a run learned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol


class AsJson(Protocol):
    def json(self) -> Mapping[str, Any]: ...


def written(ones: Iterable[AsJson]) -> str:
    """One JSON object a line, in UTF-8 without escapes."""
    return "".join(json.dumps(one.json(), ensure_ascii=False) + "\n" for one in ones)
