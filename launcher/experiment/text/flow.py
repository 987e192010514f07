"""Writes a value as one line of YAML that can be pasted into an experiment file."""

from __future__ import annotations

from typing import Any, Final

_WIDE: Final = 1_000_000


def flow(value: Any) -> str:
    """``value`` for use inside a one-line mapping or list; quoted if YAML would read something else.

    >>> flow({"input_columns": {"prompt": "a, b"}, "answers": ["x", "1"]})
    "{input_columns: {prompt: 'a, b'}, answers: [x, '1']}"
    """
    import yaml

    text = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, allow_unicode=True, width=_WIDE)
    return text.strip().removeprefix("[").removesuffix("]")
