"""The verbs that build the training image and remove old ones."""

from __future__ import annotations

from pathlib import Path

import click

from .terminal.screen import say

_variant_option = click.option(
    "--variant", type=click.Choice(["cpu", "cuda"]), help="Which image (default: cuda if this machine has a GPU, else cpu)."
)


@click.command("build", short_help="Build the training image if it is missing.")
@_variant_option
@click.option("--push", is_flag=True, help="Push it to --registry and print its reference by digest.")
@click.option("--registry", envvar="DPO_REGISTRY", metavar="NAME", help="Where to push, as registry.example.com/team.")
@click.option("--no-cache", is_flag=True, help="Rebuild every stage.")
@click.option("--print-tag", is_flag=True, help="Print the image's reference and build nothing.")
def build(variant: str | None, push: bool, registry: str | None, no_cache: bool, print_tag: bool) -> None:
    """Build the training image if it is missing. `launcher run` does this itself.

    The tag is a hash of everything in the image: Dockerfile, locked packages, source, base image. For your own package index,
    certificates, wheels or base image set DPO_BUILD_INDEX, DPO_BUILD_EXTRA_INDEX, DPO_BUILD_CA, DPO_BUILD_WHEELS or
    DPO_BASE_IMAGE. The image keeps no trace of the first four.
    """
    from ..backends.docker.build import size
    from ..backends.docker.images import build as build_image
    from ..backends.docker.images import image_here
    from ..experiment.files import read_env

    caller = read_env(Path.cwd())
    image = image_here(variant, caller)
    if print_tag:
        click.echo(image.reference)
        return
    done = build_image(image, registry, caller, say, no_cache=no_cache, to_push=push)
    for layer in done.layers:
        click.echo(f"{size(layer.size):>10}  {layer.made_by[:90]}")
    click.echo(f"{size(done.bytes):>10}  {done.reference}{' (already built)' if done.was_there else ''}")
    if done.pushed is not None:
        click.echo(done.pushed)


@click.command("prune", short_help="Remove the images of older checkouts and versions.")
def prune() -> None:
    """Remove this project's images except those of this checkout and version. Images that a container uses are kept."""
    from ..backends.docker.build import size
    from ..backends.docker.images import remove_old
    from ..experiment.files import read_env

    freed = remove_old(read_env(Path.cwd()), say)
    say(f"Removed images of {size(freed)} (layers that other images share are kept)")


VERBS: tuple[click.Command, ...] = (build, prune)
