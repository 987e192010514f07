"""The verbs that build the training image and remove old ones."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UsageError

_variant_option = click.option(
    "--variant", type=click.Choice(["cpu", "cuda"]), help="Which image (default: cuda where this machine has a GPU, else cpu)."
)


@click.command("build")
@_variant_option
@click.option("--push", is_flag=True, help="Push it to --registry, and print its reference by digest.")
@click.option("--registry", envvar="DPO_REGISTRY", metavar="NAME", help="Where to push, as registry.example.com/team.")
@click.option("--no-cache", is_flag=True, help="Build every stage again.")
@click.option("--print-tag", is_flag=True, help="Print the image's reference and build nothing.")
def build(variant: str | None, push: bool, registry: str | None, no_cache: bool, print_tag: bool) -> None:
    """Build the training image, if it is not there yet.

    `launcher run` does so by itself. The tag is a hash of all that goes in: Dockerfile, locked packages, source, base. A package
    index, certificates and wheels of your own: DPO_BUILD_INDEX, DPO_BUILD_EXTRA_INDEX, DPO_BUILD_CA, DPO_BUILD_WHEELS; another
    base: DPO_BASE_IMAGE. None of them leaves a trace in the image.
    """
    from ..backends.docker.build import ensure, find, layers, size
    from ..backends.docker.build import push as push_image
    from ..backends.docker.engine import connect
    from ..backends.host import gpus_there
    from ..experiment.files import read_env
    from ..job.image import image_of, variant_of

    caller = read_env(Path.cwd())
    image = image_of(variant or variant_of(gpus_there(caller)), caller)
    if print_tag:
        click.echo(image.reference)
        return
    if push and not registry:
        raise UsageError("--push needs --registry (or DPO_REGISTRY)")
    client = connect(caller)
    was_there = not no_cache and find(client, image.reference) is not None
    ensure(client, image, caller, click.echo, no_cache=no_cache)
    total = 0
    for layer in layers(client, image.reference):
        total += layer.size
        click.echo(f"{size(layer.size):>10}  {layer.made_by[:90]}")
    click.echo(f"{size(total):>10}  {image.reference}{' (was there)' if was_there else ''}")
    if push:
        click.echo(push_image(client, image.reference, f"{registry}/dpo-launcher", click.echo))


@click.command("prune", short_help="Remove the images of older checkouts.")
def prune() -> None:
    """Remove images of this project that are not those of this checkout; what a container uses is kept."""
    from ..backends.docker.build import prune as prune_images
    from ..backends.docker.build import size
    from ..backends.docker.engine import connect
    from ..experiment.files import read_env
    from ..job.image import VARIANTS, checkout, image_of

    caller = read_env(Path.cwd())
    images = [image_of(variant, caller) for variant in VARIANTS] if checkout() else []
    keep = [name for image in images if image.build for name in (image.reference, image.build.runtime)]
    freed = prune_images(connect(caller), keep, click.echo)
    click.echo(f"{size(freed)} in removed images (layers that others share stay)")


VERBS: tuple[click.Command, ...] = (build, prune)
