"""Objects as YAML that reads the same here, in kubectl and to people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, where PyYAML was built with it: ten times as fast
# What some reader of YAML takes for a number, a truth or nothing. Go's takes 1e5 and y for such, which PyYAML would not quote.
_NO_TEXT = re.compile(r"[^A-Za-z/].*|[A-Za-z]|y|n|yes|no|on|off|true|false|null", re.IGNORECASE | re.DOTALL)


class _Dumper(_Base):  # type: ignore[misc]
    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value else "'" if _NO_TEXT.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def document(obj: Mapping[str, Any]) -> str:
    """One object; its keys stay in their order, and a text of several lines is written as such."""
    written: str = yaml.dump(obj, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return written
