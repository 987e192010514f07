"""One place holds where this project is published; everything else that names it agrees."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from launcher import published

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_that_of_the_package() -> None:
    assert PROJECT["version"] == published.VERSION


def test_the_package_links_to_the_repository_and_the_site() -> None:
    urls = PROJECT["urls"]
    assert urls["Repository"] == published.REPOSITORY
    assert urls["Documentation"] == published.SITE
    assert urls["Changelog"] == f"{published.REPOSITORY}/blob/main/CHANGELOG.md"
    assert urls["Issues"] == f"{published.REPOSITORY}/issues"


def test_the_images_lie_beside_the_repository_and_name_it() -> None:
    assert published.REPOSITORY.replace("https://github.com", "ghcr.io") == published.IMAGES
    dockerfile = (REPOSITORY / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"org\.opencontainers\.image\.source=(\S+)", dockerfile) == [published.REPOSITORY]


def test_the_images_are_built_for_the_architecture_of_the_runner_that_builds_them() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    runner = workflow["jobs"]["image"]["runs-on"]
    assert {"ubuntu-24.04": "amd64", "ubuntu-24.04-arm": "arm64"}[runner] == published.ARCHITECTURE


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_an_image_has_the_version_in_its_tag(variant: str) -> None:
    assert published.published_image(variant) == f"ghcr.io/dpo-launcher/dpo-launcher:{PROJECT['version']}-{variant}"


def test_a_checkout_is_made_of_the_same_version() -> None:
    assert published.checkout_command("launcher build") == (
        "git clone --branch v0.1.0 https://github.com/dpo-launcher/dpo-launcher && cd dpo-launcher"
        " && python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/launcher build"
    )
