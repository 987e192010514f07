"""A page with a part that a program writes: ``<!-- NAME: … -->`` … ``<!-- /NAME -->``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
DOCS: Final = ROOT / "docs"


def with_part(page: str, name: str, text: str) -> str:
    """``page`` with ``text`` between the markers of ``name``; raises ValueError where they are missing."""
    found = re.compile(rf"(<!-- {name}:[^\n]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if len(found.findall(page)) != 1:
        raise ValueError(f"expected one pair of markers {name!r}")
    return found.sub(lambda match: f"{match[1]}\n{text.strip()}\n\n{match[2]}", page)


def write_part(path: Path, name: str, text: str) -> None:
    path.write_text(with_part(path.read_text(encoding="utf-8"), name, text), encoding="utf-8")
