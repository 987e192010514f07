"""The verbs that submit runs to a cluster, and that manage the Secret of these runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .sweep import parallel_option, submit_sweep, sweep_option
from .terminal import screen
from .terminal.options import choice, data_of_option, experiment_argument, file_option, json_option, kind_option, namespace_option

if TYPE_CHECKING:
    from ..launch.cluster.submission import Submission
    from ..launch.rendered import Choice

registry_option = click.option(
    "--registry", envvar="DPO_REGISTRY", metavar="NAME", help="Push the image there first, e.g. registry.example.com/team."
)
anyway_option = click.option("--anyway", is_flag=True, help="Submit although a preflight check fails.")


@click.command("submit", short_help="Run EXP on the current context's Kubernetes cluster.")
@click.option("--follow", is_flag=True, help="Follow the run to its end and exit with its exit code.")
@click.option("--gpus", type=click.IntRange(0), metavar="N", help="GPUs per node; same as --set launch.gpus=N.")
@click.option("--nodes", type=click.IntRange(1), metavar="N", help="Nodes; same as --set launch.nodes=N.")
@click.option("--gpu", metavar="NAME", help="Only nodes with this GPU, such as 'A100 80GB' (launch.kubernetes.node_selector).")
@click.option("--queue", metavar="Q", help="Kueue LocalQueue; same as --set launch.kubernetes.queue=Q.")
@click.option("--verify", is_flag=True, help="Verify the image's signature first; same as --set launch.verify=true.")
@namespace_option
@kind_option
@registry_option
@anyway_option
@choice()
@sweep_option
@parallel_option
@data_of_option
@json_option
def submit(
    choice: Choice,
    follow: bool,
    gpus: int | None,
    nodes: int | None,
    gpu: str | None,
    queue: str | None,
    verify: bool,
    namespace: str | None,
    kind: str | None,
    registry: str | None,
    anyway: bool,
    data_of: str | None,
    as_json: bool,
    axes: tuple[str, ...],
    parallel: int | None,
) -> int:
    """Run the experiment EXP on the current context's Kubernetes cluster, and return once it is created.

    Runs preflight checks first. Pushes an image of this checkout to --registry, and uploads a local model or large data to
    where the pods read them. If a step fails, everything created so far is removed. With --sweep: one Job for each combination of
    values, NAME-1, NAME-2, …; with --parallel N one Job, of which N pods run at the same time.
    """
    if as_json and follow:
        raise UsageError("--json cannot be combined with --follow")
    from ..launch.on_nodes import with_gpu

    given = {"gpus": gpus, "nodes": nodes, "kubernetes.queue": queue, "verify": "true" if verify else None}
    flags = tuple(f"launch.{name}={value}" for name, value in given.items() if value is not None)
    chosen = replace(choice, overrides=(*choice.overrides, *flags)).on_cluster(kind, namespace)
    chosen = with_gpu(chosen, gpu)
    if axes:
        if follow:
            raise UsageError("--sweep cannot be combined with --follow")
        return submit_sweep(chosen, axes, registry, data_of, parallel, anyway=anyway, as_json=as_json)
    if parallel is not None:
        raise UsageError("--parallel needs --sweep")
    return submit_to_cluster(chosen, registry, data_of, follow=follow, anyway=anyway, as_json=as_json)


@click.command("push")
@experiment_argument(required=False)
@namespace_option
@click.option(
    "--name", "secret", metavar="NAME", help="Name of the Secret (default: launch.kubernetes.secret, else dpo-secrets)."
)
@click.option("--dry-run", is_flag=True, help="Print the keys that would change, and change nothing.")
@file_option
def push_secrets(experiment: str | None, namespace: str | None, secret: str | None, dry_run: bool, file: Path | None) -> None:
    """Push secrets from .env and the environment to the Secret.

    Pushes the secrets that EXP (default: any experiment) names in launch.secrets and notify, HF_TOKEN, AWS_…,
    GOOGLE_SHEETS_…, and proxies with a password. Values are never printed.
    """
    from ..backends.kubernetes.submit.secret import push_secrets as push
    from ..experiment.files import read_env

    done = push(read_env(Path.cwd()), experiment, file, namespace=namespace, name=secret, dry_run=dry_run)
    keys = {"added": done.new, "changed": done.changed, "the same": done.same, "kept": done.others}
    screen.facts({label: ", ".join(names) or None for label, names in keys.items()})
    verb = "created" if done.is_created else "updated" if done.new or done.changed else "unchanged"
    screen.say(f"secret {done.name} in namespace {done.namespace}: {'would be ' if done.is_dry_run else ''}{verb}")


@click.group("secrets", short_help="Manage the Kubernetes Secret that cluster runs read.")
def secrets() -> None:
    """Manage the Kubernetes Secret that cluster runs read."""


secrets.add_command(push_secrets)


def submit_to_cluster(
    choice: Choice,
    registry: str | None,
    data_of: str | None,
    *,
    follow: bool,
    anyway: bool = False,
    as_json: bool = False,
) -> int:
    """Submits a run and prints what was created. With ``follow`` returns the run's exit code at its end."""
    from ..launch.cluster.submit import submit as submitted

    told = Told(as_json)
    done = submitted(choice, registry=registry, data_of=data_of, anyway=anyway, follows=follow, listener=told)
    if as_json:
        click.echo(json.dumps(done.json(), indent=2, ensure_ascii=False))
        return 0
    for kind, called in done.created:
        screen.say(f"{'created':<{screen.LABEL}}{kind} {called}")
    if not follow:
        screen.say(screen.typed(f"Submitted {done.run}. Follow it with: launcher logs -f {done.run}"))
        return 0
    return followed(done)


def followed(done: Submission) -> int:
    from .watch import Interrupts, watch

    with Interrupts() as interrupts:
        return watch(done.where, done.on_cluster, interrupts, pairs_a_step=done.on_cluster.global_batch)


class Told:
    """Prints the progress of a submission. With JSON output it prints on stderr, and leaves out what the JSON contains."""

    def __init__(self, as_json: bool):
        self._as_json = as_json

    def say(self, line: str, /) -> None:
        screen.say(line, err=self._as_json)

    def facts(self, those: Mapping[str, str], /) -> None:
        if not self._as_json:
            screen.facts(those)

    def notices(self, those: Iterable[str], /) -> None:
        screen.notices(those, err=True)


VERBS: tuple[click.Command, ...] = (submit, secrets)
