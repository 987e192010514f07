"""The description that a package index shows: README.md, whose relative links and pictures lead to this version on GitHub.

A metadata hook of hatchling: an index has none of the repository's files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?:|#)(?P<path>[^)]+)\)")


def absolute(text: str, repository: str, version: str) -> str:
    """``text`` with absolute links: to files of the tag ``v<version>``, pictures to their bytes."""

    def linked(found: re.Match[str]) -> str:
        kind = "raw" if found["picture"] else "blob"
        return f"{found['picture']}[{found['text']}]({repository}/{kind}/v{version}/{found['path']})"

    return _RELATIVE.sub(linked, text)


class Readme(MetadataHookInterface):
    """Sets ``project.readme``."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        made = absolute(text, metadata["urls"]["Repository"], metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": made}
