"""What contributors and agents are told: its files, rooms, targets and links exist."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / name
    for name in (
        "AGENTS.md",
        "CHANGELOG.md",
        ".github/CONTRIBUTING.md",
        ".github/SECURITY.md",
        ".github/pull_request_template.md",
    )
]
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
everywhere = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@everywhere
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@everywhere
def test_every_make_target_exists(page: Path) -> None:
    named = re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))
    assert [name for name in named if name not in TARGETS] == []


@everywhere
def test_every_room_and_script_is_there(page: Path) -> None:
    paths = re.findall(r"`((?:launcher|trainer|tests|\.ci|\.github)/[\w./]+)[` ]", page.read_text(encoding="utf-8"))
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


def test_the_rooms_of_launcher_and_trainer_are_all_described() -> None:
    text = (REPOSITORY / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = [file.parent for name in ("launcher", "trainer") for file in (REPOSITORY / name).glob("*/__init__.py")]
    named = [room.relative_to(REPOSITORY).as_posix() for room in rooms]
    assert [name for name in named if f"`{name}`" not in text] == []


def test_agents_are_told_little() -> None:
    assert len((REPOSITORY / "AGENTS.md").read_text(encoding="utf-8").splitlines()) <= 20
