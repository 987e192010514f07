"""Where this project is published: repository, site and images, and the version whose image fits this code."""

from __future__ import annotations

from pathlib import Path
from typing import Final

VERSION: Final = "0.1.0"  # that of pyproject.toml; a test compares them
REPOSITORY: Final = "https://github.com/dpo-launcher/dpo-launcher"
SITE: Final = "https://dpo-launcher.github.io/dpo-launcher/"
IMAGES: Final = "ghcr.io/dpo-launcher/dpo-launcher"
ARCHITECTURE: Final = "amd64"  # of the images: the runner of release.yml; a test compares them


def image_tag(variant: str) -> str:
    """The tag under which a release publishes its image, such as ``0.1.0-cuda``. ``variant`` is cpu or cuda."""
    return f"{VERSION}-{variant}"


def published_image(variant: str) -> str:
    """The reference of this version's image, which a launcher outside a checkout uses where launch.image is not set."""
    return f"{IMAGES}:{image_tag(variant)}"


def with_manifests(command: str) -> str:
    """``command``, which reads ``k8s/…`` of a checkout; elsewhere after a line that clones this version, and of that clone."""
    if (Path(__file__).parents[1] / "k8s").is_dir():
        return command
    folder = REPOSITORY.rpartition("/")[2]
    return f"git clone --branch v{VERSION} {REPOSITORY} && {command.replace(' k8s/', f' {folder}/k8s/')}"


def checkout_command(command: str) -> str:
    """A line for a shell that makes a checkout of this version, installs its launcher, and runs ``command`` with it."""
    folder = REPOSITORY.rpartition("/")[2]
    clone = f"git clone --branch v{VERSION} {REPOSITORY} && cd {folder}"
    return f"{clone} && python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/{command}"
