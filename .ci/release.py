"""What a release needs besides the tests: ``python .ci/release.py tag v0.1.0 | dist FOLDER | notes``.

``tag`` exits with 1 if the tag is not that of the version in pyproject.toml, or if CHANGELOG.md has no dated section for it.
``dist`` builds the wheel and the source twice, compares their bytes, checks their description, and puts them into FOLDER.
``notes`` prints the version's section of CHANGELOG.md. Needs Python, and for ``dist`` the packages build, hatchling and twine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SECTION = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\d{4}-\d\d-\d\d))?$", re.MULTILINE)


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def sections(changelog: str) -> dict[str, tuple[str | None, str]]:
    """Version -> (date, text) of each section of a changelog, in its order; ``Unreleased`` has no date."""
    found = list(_SECTION.finditer(changelog))
    ends = [*(one.start() for one in found[1:]), len(changelog)]
    return {
        one["version"]: (one["date"], re.split(r"^\[[^\]]+\]: ", changelog[one.end() : end], flags=re.MULTILINE)[0].strip())
        for one, end in zip(found, ends, strict=True)
    }


def wrong(tag: str, known: str, changelog: str) -> str | None:
    """Why ``tag`` cannot be released as the version ``known``; None if it can."""
    if tag != f"v{known}":
        return f"tag {tag}: pyproject.toml has version {known}, whose tag is v{known}"
    date, text = sections(changelog).get(known, (None, ""))
    if date is None or not text:
        return f"tag {tag}: CHANGELOG.md has no section '## [{known}] - YYYY-MM-DD' with text"
    return None


def dist(folder: Path) -> str | None:
    """Builds twice; returns what differs between the two builds, None if nothing does. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as aside:
        builds = [Path(aside, name) for name in ("one", "two")]
        for build in builds:
            command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(build), str(ROOT)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for file in sorted(builds[0].iterdir()):
            if file.read_bytes() != (builds[1] / file.name).read_bytes():
                return f"{file.name}: two builds of one commit differ"
        files = sorted(map(str, builds[0].iterdir()))
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)
        shutil.copytree(builds[0], folder, dirs_exist_ok=True)
    return None


def main(arguments: list[str]) -> int:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    match arguments:
        case ["tag", tag]:
            error = wrong(tag, version(), changelog)
        case ["dist", folder]:
            error = dist(Path(folder))
        case ["notes"]:
            error = wrong(f"v{version()}", version(), changelog)
            print(sections(changelog).get(version(), (None, ""))[1])
        case _:
            error = str(__doc__).splitlines()[0]
    if error is not None:
        print(f"error: {error}", file=sys.stderr)
    return int(error is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
