"""The images' locks, as they are checked in."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
LINE = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)")


def pins(name: str) -> dict[str, str]:
    lines = (REPOSITORY / "docker" / name).read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(found[1]): found[2] for line in lines if (found := LINE.match(line))}


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_a_lock_holds_every_package_by_hash_in_the_version_that_is_tested(variant):
    text = (REPOSITORY / "docker" / f"requirements-{variant}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert blocks
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
    locked, tested = pins(f"requirements-{variant}.txt"), pins("constraints.txt")
    assert {name: version for name, version in locked.items() if tested.get(name, version) != version} == {}


@pytest.mark.parametrize(("variant", "extras"), [("cpu", ["trainer", "trackers"]), ("cuda", ["trainer", "trackers", "cuda"])])
def test_a_lock_satisfies_what_the_project_asks_for(variant, extras):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = pins(f"requirements-{variant}.txt")
    wanted = [Requirement(line) for extra in extras for line in project["optional-dependencies"][extra]]
    shared = re.compile("boto3|ftfy|gspread|pydantic|python-calamine|python-dotenv|pyyaml")
    wanted += [Requirement(line) for line in project["dependencies"] if shared.match(line)]
    assert [str(one) for one in wanted if not one.specifier.contains(locked[canonicalize_name(one.name)])] == []


def test_the_cpu_lock_has_torchs_published_and_its_cpu_builds_and_nothing_of_cuda():
    text = (REPOSITORY / "docker" / "requirements-cpu.txt").read_text(encoding="utf-8")
    assert not re.search(r"^(nvidia|cuda|triton)", text, re.MULTILINE)
    (torch,) = re.findall(r"^torch==2\.13\.0 \\\n(?:    .*\n)+", text, re.MULTILINE)
    cpu_builds = re.findall(r"^# cpu build: ([0-9a-f]{64})$", text, re.MULTILINE)
    published = (REPOSITORY / "docker" / "requirements-cuda.txt").read_text(encoding="utf-8")
    (of_cuda,) = re.findall(r"^torch==2\.13\.0 \\\n(?:    .*\n)+", published, re.MULTILINE)
    hashes = set(re.findall(r"sha256:([0-9a-f]{64})", torch))
    assert cpu_builds
    assert hashes == {*cpu_builds, *re.findall(r"sha256:([0-9a-f]{64})", of_cuda)}
    assert re.search(r"^nvidia-nccl", published, re.MULTILINE)
