"""The lines that the launcher and a process of ``trainer/after/`` exchange: JSON texts behind a record separator (RFC 7464).

The launcher asks with {"…": …} as the module defines it; {"hello": true} is the first line, {"stop": true} ends what is being
answered. The process answers with what the module defines, {"line": text for a person}, and in the end {"answer": …} or
{"error": {"code", "text", "mistakes"}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

SEPARATOR: Final = "\x1e"


def encoded(data: Mapping[str, Any]) -> str:
    """One line, without its end."""
    return SEPARATOR + json.dumps(data, ensure_ascii=False)


def decoded(line: str) -> dict[str, Any] | None:
    """The object of a line, None for a line that is none: a library may print as it likes."""
    _, separator, text = line.partition(SEPARATOR)
    if not separator:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
