"""The images of this checkout on an engine: built for a person, pushed, and removed when they are old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import UsageError
from ...job.image import VARIANTS, Image, checkout, image_of, variant_of
from ...published import REPOSITORY, checkout_command, published_image
from ..host import gpus_there
from .build import Layer, Say, ensure, find, layers, prune, push
from .engine import connect


@dataclass(frozen=True)
class Built:
    """An image on the engine. ``was_there``: it was not built now; ``pushed``: its reference by digest, None if not pushed."""

    reference: str
    layers: tuple[Layer, ...]
    was_there: bool
    pushed: str | None

    @property
    def bytes(self) -> int:
        return sum(layer.size for layer in self.layers)

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "bytes": self.bytes}


def image_here(variant: str | None, caller: Mapping[str, str]) -> Image:
    """The image of this checkout; without ``variant`` cuda if this machine has a GPU, else cpu.

    Raises UsageError outside a checkout, with the command that makes one.
    """
    if checkout() is None:
        image = published_image(variant or variant_of(gpus_there(caller)))
        raise UsageError(
            f"build needs a checkout of {REPOSITORY}\n"
            f"    hint:     {checkout_command('launcher build')}\n"
            f"    or:       runs take {image} where launch.image is not set"
        )
    return image_of(variant or variant_of(gpus_there(caller)), caller)


def build(image: Image, registry: str | None, caller: Mapping[str, str], say: Say, *, no_cache: bool, to_push: bool) -> Built:
    """Builds ``image`` if it is missing (``no_cache``: in any case), and with ``to_push`` pushes it to ``registry``.

    ``say`` is told at least every five seconds what is done. Raises UsageError without a registry, LauncherError if it fails.
    """
    if to_push and not registry:
        raise UsageError("--push needs --registry (or DPO_REGISTRY)")
    client = connect(caller)
    was_there = not no_cache and find(client, image.reference) is not None
    ensure(client, image, caller, say, no_cache=no_cache)
    pushed = push(client, image.reference, f"{registry}/dpo-launcher", say) if to_push else None
    return Built(image.reference, tuple(layers(client, image.reference)), was_there, pushed)


def remove_old(caller: Mapping[str, str], say: Say) -> int:
    """Removes this project's images but those of this checkout or version and those in use; returns the bytes removed."""
    images = [image_of(variant, caller) for variant in VARIANTS] if checkout() else []
    keep = [name for image in images if image.build for name in (image.reference, image.build.runtime)]
    keep += map(published_image, VARIANTS)
    return prune(connect(caller), keep, say)
