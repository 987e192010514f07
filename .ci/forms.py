"""Checks workflows, issue forms and the citation against their schemas, all in one process: starting takes the longest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from check_jsonschema import main

# A file that a pattern names belongs to none below it.
SCHEMAS: Final = {
    "github-workflows": ".github/workflows/*.yml",
    "github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "github-issue-forms": ".github/ISSUE_TEMPLATE/*.yml",
    "dependabot": ".github/dependabot.yml",
    "citation-file-format": "CITATION.cff",
}


def check(root: Path) -> bool:
    """Whether all files below ``root`` are right; prints what is wrong."""
    taken: set[Path] = set()
    codes = []
    for schema, pattern in SCHEMAS.items():
        files = sorted(set(root.glob(pattern)) - taken)
        assert files, f"no file is {pattern}"
        taken.update(files)
        codes.append(main(["--builtin-schema", f"vendor.{schema}", *map(str, files)], standalone_mode=False))
    return not any(codes)


if __name__ == "__main__":
    sys.exit(not check(Path()))
