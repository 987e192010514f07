"""Image: the container image of a job and how it is built. Its tag is a hash of its contents. Pure.

In a checkout it is built from the checkout, elsewhere it is the published image of this version; launch.image overrides both.
Environment variables for a build: DPO_BASE_IMAGE (a base pinned by digest, or the id of a local image), DPO_BUILD_INDEX and
DPO_BUILD_EXTRA_INDEX (package indexes), DPO_BUILD_CA (a file of certificates), DPO_BUILD_WHEELS (a folder). Only DPO_BASE_IMAGE
changes the image and its tag.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import UsageError
from ..experiment.schema import Experiment
from ..published import ARCHITECTURE, IMAGES, VERSION, checkout_command, published_image

NAME: Final = "dpo-launcher"
VARIANTS: Final = ("cpu", "cuda")
DOCKERFILE: Final = "docker/Dockerfile"
_OURS: Final = ("launcher", "trainer")
_STAGE: Final = re.compile(r"^FROM +(\S+)(?: +AS +(\S+))? *$", re.MULTILINE)
_BASE: Final = re.compile(r"^ARG BASE_IMAGE=(\S+)$", re.MULTILINE)
_PINNED: Final = re.compile(r"(.+@)?sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Build:
    """What an image is built from: files by their path in the build context, and build arguments.

    ``runtime``: reference of the image with everything except our own code. It is reused, because packages change seldom.
    """

    root: Path
    base: str
    variant: str
    runtime: str
    content: str

    @property
    def packages(self) -> tuple[Path, ...]:
        """Files of the stages up to ``runtime``, relative to ``root``."""
        return (Path(DOCKERFILE), lock_of(self.variant))

    @property
    def source(self) -> tuple[Path, ...]:
        """Files of our own code, relative to ``root``."""
        return tuple(source_files(self.root))

    def last_stage(self) -> str:
        """The Dockerfile's last stage as its own Dockerfile, based on ``runtime``."""
        _, last = split_stages((self.root / DOCKERFILE).read_text(encoding="utf-8"))
        return _STAGE.sub(f"FROM {self.runtime}", last, count=1)


@dataclass(frozen=True)
class Image:
    """An image by its reference. ``build``: how to build it, None for an existing image. ``built_for``: the architecture that
    the engine reports, such as amd64.
    """

    reference: str
    variant: str
    build: Build | None = None
    built_for: str | None = None

    @property
    def architecture(self) -> str | None:
        """The only architecture that it runs on, as Docker and Kubernetes spell it; None if unknown."""
        return self.built_for or (ARCHITECTURE if self.is_published else None)

    @property
    def is_published(self) -> bool:
        """Whether it is a release image of this project."""
        return self.build is None and self.reference.startswith(f"{IMAGES}:")

    @property
    def why(self) -> str:
        """Why this image was chosen, in a few words."""
        if self.build is not None:
            return "built from this checkout"
        if self.reference == published_image(self.variant):
            return f"published with dpo-launcher {VERSION}"
        return "launch.image"

    @property
    def sentence(self) -> str:
        return f"image {self.reference}: {self.why}"

    @property
    def remedy(self) -> str:
        """What to do if it cannot be pulled."""
        if not self.is_published:
            return "set launch.image to an image that this machine can pull, or use --backend host"
        return f"use --backend host, or build the image in a checkout:\n              {checkout_command('launcher build')}"


def image_of(variant: str, caller: Mapping[str, str], given: str | None = None, root: Path | None = None) -> Image:
    """The image of a job: launch.image, else the one of this checkout (or of ``root``), else the published one.

    Raises UsageError if the base image has no digest.
    """
    if given is not None:
        return Image(given, variant)
    root = root or checkout()
    if root is None:
        return Image(published_image(variant), variant)
    dockerfile = (root / DOCKERFILE).read_text(encoding="utf-8")
    lower, last = split_stages(dockerfile)
    base = _base(dockerfile, caller)
    packages = _hash([base, variant, lower, (root / lock_of(variant)).read_bytes()])
    content = _hash([packages, last, *_named(root, source_files(root))])
    runtime = f"{NAME}:{variant}-runtime-{packages}"
    return Image(f"{NAME}:{variant}-{content}", variant, Build(root, base, variant, runtime, content))


def described(variant: str, given: str | None) -> str:
    """Which image ``image_of`` would return, in words. For a checkout without the tag, which would need a hash of every source
    file.
    """
    if given is None and checkout() is not None:
        return f"{variant}, built from this checkout"
    image = image_of(variant, {}, given)
    return f"{image.reference} ({image.why})"


def image_for(experiment: Experiment, gpus: int, caller: Mapping[str, str]) -> Image:
    """The image of a run of ``experiment`` with ``gpus`` per node. Raises what ``image_of`` raises."""
    return image_of(variant_of(gpus), caller, experiment.launch.image)


def variant_of(gpus: int) -> str:
    return "cuda" if gpus else "cpu"


def checkout() -> Path | None:
    """The checkout of this code; None for an installed package."""
    root = Path(__file__).parents[2]
    return root if (root / DOCKERFILE).is_file() and (root / "pyproject.toml").is_file() else None


def lock_of(variant: str) -> Path:
    return Path(f"docker/requirements-{variant}.txt")


def source_files(root: Path) -> list[Path]:
    """Every file of our own packages except bytecode, relative to ``root``, sorted."""
    found = (path for name in _OURS for path in (root / name).rglob("*") if path.is_file())
    return sorted(path.relative_to(root) for path in found if "__pycache__" not in path.parts and path.suffix != ".pyc")


def source_hash(root: Path) -> str:
    """Hash of our own code below ``root``: 16 hexadecimal digits. Other files of a checkout do not count."""
    return _hash(_named(root, source_files(root)))


def split_stages(dockerfile: str) -> tuple[str, str]:
    """(everything before the last FROM, the last stage)."""
    *_, last = _STAGE.finditer(dockerfile)
    return dockerfile[: last.start()], dockerfile[last.start() :]


def _base(dockerfile: str, caller: Mapping[str, str]) -> str:
    base = caller.get("DPO_BASE_IMAGE")
    if not base:
        found = _BASE.search(dockerfile)
        assert found is not None, "the Dockerfile names its base"
        return found.group(1)
    if not _PINNED.fullmatch(base):
        raise UsageError(
            f"DPO_BASE_IMAGE: {base} is not pinned by a digest\n"
            "    expected: name@sha256:… or the id of a local image, sha256:…\n"
            f"    hint:     docker image inspect --format '{{{{.Id}}}}' {base}"
        )
    return base


def _named(root: Path, files: Iterable[Path]) -> list[bytes | str]:
    return [part for file in files for part in (file.as_posix(), (root / file).read_bytes())]


def _hash(parts: Iterable[bytes | str]) -> str:
    """SHA-256 over ``parts``, cut to 16 hexadecimal digits. Each part is preceded by its length, so that different lists never
    collide.
    """
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(raw)}:".encode())
        digest.update(raw)
    return digest.hexdigest()[:16]
