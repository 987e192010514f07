"""The verbs that merge an adapter into its base model and serve models."""

from __future__ import annotations

import json

import click

from ..errors import Warned
from .storage import drawn
from .terminal import completion
from .terminal.options import json_option, namespace_option
from .terminal.screen import complain, facts, notices, say, this_launcher


@click.command("merge", short_help="Merge an adapter into its base model.")
@click.argument("name", metavar="RUN|PATH", shell_complete=completion.runs)
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
    notices([*map(Warned, done.warnings), *done.notices], err=True)
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


@click.command("serve", short_help="Print or run what serves a run's weights.")
@click.argument("name", metavar="RUN|PATH", shell_complete=completion.runs)
@click.option(
    "--backend", type=click.Choice(["host", "docker", "kubernetes"]), default="host", help="Where to serve (default: host)."
)
@click.option("--engine", type=click.Choice(["vllm", "ollama"]), default="vllm", help="What serves it (default: vllm).")
@click.option("--merged", metavar="DIR", help="A merged model instead of base and adapter; also a hub id, or a path in a pod.")
@click.option("--image", metavar="IMAGE", help="Image with vLLM (default: vLLM's own, by its tag).")
@click.option(
    "--max-model-len",
    "length",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most tokens of prompt and answer (default: the model's).",
)
@click.option(
    "--dtype", type=click.Choice(["bfloat16", "float16", "float32"]), help="Precision of vLLM (default: its own choice)."
)
@click.option(
    "--tensor-parallel-size",
    "gpus",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="GPUs over which vLLM spreads the model (default: 1).",
)
@namespace_option
@click.option("--run", "is_run", is_flag=True, help="Run the command instead of printing it.")
def serve(name: str, is_run: bool, **chosen: str | int | None) -> None:
    """Print the vLLM command, the docker run, the Kubernetes objects or the Modelfile that serve a run's weights.

    vLLM serves an adapter beside its base. Merge an adapter that vLLM cannot serve first: launcher merge.
    """
    from ..after.serve import How
    from ..after.serve import serve as serving
    from ..after.target import target

    found = serving(target(name), How(**chosen))  # type: ignore[arg-type]
    notices(found.notices, err=True)
    if is_run:
        found.run()
    click.echo(found.text, nl=False)


VERBS: tuple[click.Command, ...] = (merge, serve)
