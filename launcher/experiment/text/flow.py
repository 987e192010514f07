"""Flow: a value as YAML on one line, as a person can paste it into an experiment file."""

from __future__ import annotations

from typing import Any, Final

_WIDE: Final = 1_000_000


def flow(value: Any) -> str:
    """``value`` as it is written inside a mapping or list on one line: quoted where YAML would read another value.

    >>> flow({"input_columns": {"prompt": "a, b"}, "answers": ["x", "1"]})
    "{input_columns: {prompt: 'a, b'}, answers: [x, '1']}"
    """
    import yaml

    text = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, allow_unicode=True, width=_WIDE)
    return text.strip().removeprefix("[").removesuffix("]")
