"""The verbs that make a whole model of a run's adapter, and serve it."""

from __future__ import annotations

import json

import click

from .options import json_option
from .screen import complain, facts, notices, say, this_launcher
from .storage import drawn


@click.command("merge", short_help="Merge an adapter into its base model.")
@click.argument("name", metavar="RUN|PATH")
@click.option("-o", "--output", required=True, metavar="DIR|s3://…", help="A new folder, or a folder in a bucket.")
@click.option(
    "--dtype", type=click.Choice(["bfloat16", "float16", "float32"]), help="Of the weights (default: the base's, in 16 bits)."
)
@click.option("--no-compare", is_flag=True, help="Skip the comparison with base and adapter, which loads both.")
@click.option("--backend", type=click.Choice(["host", "docker"]), help="Where to merge (default: as the run ran).")
@json_option
def merge(name: str, output: str, dtype: str | None, no_compare: bool, backend: str | None, as_json: bool) -> None:
    """Merge an adapter into its base model: safetensors with tokenizer, chat template and configuration.

    One tensor at a time is in memory. The merged model is compared with base and adapter on the run's first pairs; DIR appears
    when both agree.
    """
    from ..after.merge import How
    from ..after.merge import merge as merged
    from ..after.target import target
    from ..storage.progress import size

    with drawn("uploaded") as listener:
        done = merged(target(name), output, How(dtype, not no_compare, backend), complain, listener)
    if as_json:
        click.echo(json.dumps(done.json(), indent=2))
        return
    notices(done.notices, err=True)
    say(f"Merged {done.name} into {done.place}")
    facts(
        {
            "weights": f"{done.tensors:,} tensors, {size(done.bytes)}, {done.dtype}; {done.changed:,} changed by the adapter",
            "base": done.base,
            "agreement": done.said or "not compared",
        }
    )
    if not done.place.startswith("s3://"):
        say(f"Serve it with: {this_launcher()} serve {name} --merged {done.place}")


VERBS: tuple[click.Command, ...] = (merge,)
