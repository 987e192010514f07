"""Objects as YAML that PyYAML and kubectl read alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's if available: ten times as fast
# Strings that some YAML parser reads as a number, a boolean or null: Go's does for 1e5 and y, which PyYAML does not quote.
_NO_TEXT = re.compile(r"[^A-Za-z/].*|[A-Za-z]|y|n|yes|no|on|off|true|false|null", re.IGNORECASE | re.DOTALL)


class _Dumper(_Base):  # type: ignore[misc]
    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value else "'" if _NO_TEXT.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def document(obj: Mapping[str, Any]) -> str:
    """One object; keys keep their order, and a string of several lines is a block."""
    written: str = yaml.dump(obj, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return written
