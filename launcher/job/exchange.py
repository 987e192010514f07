"""The protocol between the launcher and a process of ``trainer/after/``: JSON lines that start with a record separator (RFC
7464).

The launcher starts with {"hello": true}, sends requests as the module defines them, and {"stop": true} to end the current
answer. The process sends what the module defines, {"line": text for the user}, and at the end {"answer": …} or {"error":
{"code", "text", "mistakes"}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

SEPARATOR: Final = "\x1e"


def encoded(data: Mapping[str, Any]) -> str:
    """``data`` as one line, without the line break."""
    return SEPARATOR + json.dumps(data, ensure_ascii=False)


def decoded(line: str) -> dict[str, Any] | None:
    """The object in a line; None for other lines, as libraries may print anything."""
    _, separator, text = line.partition(SEPARATOR)
    if not separator:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
