"""What a tag must be, what its notes are, and that two builds are compared."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from launcher import published

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / ".ci" / "release.py"
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
CHANGELOG = """\
# Changelog

## [Unreleased]

### Added

- later

## [1.2.0] - 2026-01-02

### Fixed

- a fault

## [1.1.0] - 2025-01-02

[1.2.0]: https://example.com/1.2.0
"""

spec = importlib.util.spec_from_file_location("release", SCRIPT)
assert spec is not None
assert spec.loader is not None
release = importlib.util.module_from_spec(spec)
spec.loader.exec_module(release)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_the_tag_of_the_version_may_be_released() -> None:
    assert run("tag", f"v{published.VERSION}").returncode == 0


@pytest.mark.parametrize(
    ("tag", "known", "why"),
    [
        ("v1.2.0", "1.2.0", None),
        ("v1.2.1", "1.2.0", "tag v1.2.1: pyproject.toml has version 1.2.0, whose tag is v1.2.0"),
        ("1.2.0", "1.2.0", "tag 1.2.0: pyproject.toml has version 1.2.0, whose tag is v1.2.0"),
        ("v1.3.0", "1.3.0", "tag v1.3.0: CHANGELOG.md has no section '## [1.3.0] - YYYY-MM-DD' with text"),
        ("v1.1.0", "1.1.0", "tag v1.1.0: CHANGELOG.md has no section '## [1.1.0] - YYYY-MM-DD' with text"),
    ],
)
def test_a_tag_is_the_version_and_has_a_dated_section_with_text(tag: str, known: str, why: str | None) -> None:
    assert release.wrong(tag, known, CHANGELOG) == why


def test_another_tag_ends_the_workflow_with_the_reason() -> None:
    done = run("tag", "v9.9.9")
    assert (done.returncode, done.stderr) == (
        1,
        f"error: tag v9.9.9: pyproject.toml has version {published.VERSION}, whose tag is v{published.VERSION}\n",
    )


def test_sections_have_their_date_and_text_without_links() -> None:
    assert release.sections(CHANGELOG) == {
        "Unreleased": (None, "### Added\n\n- later"),
        "1.2.0": ("2026-01-02", "### Fixed\n\n- a fault"),
        "1.1.0": ("2025-01-02", ""),
    }


def test_the_changelog_keeps_its_form() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    found = release.sections(text)
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(heads) == len(found), "a heading is not '## [version] - date'"
    first, *versions = found
    assert first == "Unreleased"
    assert found[published.VERSION][0] is not None
    assert [found[one][0] for one in versions] == sorted((found[one][0] for one in versions), reverse=True)
    assert {line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")} <= set(KINDS)
    assert all(f"\n[{one}]: {published.REPOSITORY}/" in text for one in found)


def test_the_notes_of_a_release_are_its_section() -> None:
    done = run("notes")
    assert done.returncode == 0
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert done.stdout.strip() == release.sections(text)[published.VERSION][1]


def test_the_citation_names_the_version_and_its_day() -> None:
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    date, _ = release.sections((REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"))[project["version"]]
    assert (cited["version"], cited["date-released"], cited["license"]) == (project["version"], date, project["license"])
    assert (cited["repository-code"], cited["url"]) == (published.REPOSITORY, published.SITE)


def test_a_build_that_depends_on_its_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "project"
    (root / "one").mkdir(parents=True)
    (root / "one" / "__init__.py").touch()
    (root / "README.md").write_text("One.\n")
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n[project]\nname = "one"\nversion = "1"\n'
        'readme = "README.md"\n[tool.hatch.build.hooks.custom]\n'
    )
    (root / "hatch_build.py").write_text(
        "import time\nfrom pathlib import Path\nfrom hatchling.builders.hooks.plugin.interface import BuildHookInterface\n"
        "class Hook(BuildHookInterface):\n"
        "    def initialize(self, version, data):\n"
        "        Path(self.root, 'one', 'made.py').write_text(f'{time.time_ns()}')\n"
    )
    monkeypatch.setattr(release, "ROOT", root)
    assert release.dist(tmp_path / "dist") == "one-1-py2.py3-none-any.whl: two builds of one commit differ"
    assert not (tmp_path / "dist").exists()
