"""The verbs that bring a run, and the secrets that runs read, to a cluster."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import LauncherError, UsageError
from .options import data_of_option, experiment_argument, file_option, kind_option, name_option, namespace_option, set_option

if TYPE_CHECKING:
    from ..backends.kubernetes.backend import Kubernetes
    from ..backends.kubernetes.follow.run import ClusterRun
    from ..backends.kubernetes.render.spec import KubernetesSpec
    from ..backends.kubernetes.submit.facts import Facts, Question
    from ..data.pairs import Pairs
    from ..job.image import Image
    from ..job.job import Job

registry_option = click.option(
    "--registry", envvar="DPO_REGISTRY", metavar="NAME", help="Push the image there first, as registry.example.com/team."
)
anyway_option = click.option("--anyway", is_flag=True, help="Create it although preflight has found something.")


@click.command("submit", short_help="Run EXP on the Kubernetes cluster of the current context.")
@experiment_argument()
@click.option("--follow", is_flag=True, help="Follow it to its end, whose exit code this is then.")
@click.option("--gpus", type=click.IntRange(0), metavar="N", help="GPUs a node, as --set launch.gpus=N.")
@click.option("--nodes", type=click.IntRange(1), metavar="N", help="Nodes, as --set launch.nodes=N.")
@click.option("--queue", metavar="Q", help="Kueue's LocalQueue, as --set launch.kubernetes.queue=Q.")
@namespace_option
@kind_option
@registry_option
@anyway_option
@set_option
@name_option
@data_of_option
@file_option
def submit(
    experiment: str,
    follow: bool,
    gpus: int | None,
    nodes: int | None,
    queue: str | None,
    namespace: str | None,
    kind: str | None,
    registry: str | None,
    anyway: bool,
    overrides: tuple[str, ...],
    run_name: str | None,
    data_of: str | None,
    file: Path | None,
) -> int:
    """Run the experiment EXP on the Kubernetes cluster of the current context, and return when it is created.

    Looks first at everything that would keep it from starting. An image of this checkout is pushed to --registry, and a local
    model or large data are put where the pods find them. What was created is removed if the rest fails.
    """
    from ..launch.rendered import cluster_settings

    given = {"gpus": gpus, "nodes": nodes, "kubernetes.queue": queue}
    flags = tuple(f"launch.{name}={value}" for name, value in given.items() if value is not None)
    settings = (*overrides, *flags, *cluster_settings(kind, namespace))
    return submit_to_cluster(
        experiment, settings, run_name, file, registry=registry, follow=follow, anyway=anyway, data_of=data_of
    )


@click.command("push")
@click.argument("experiment", metavar="[EXP]", required=False)
@namespace_option
@click.option("--name", "secret", metavar="NAME", help="The Secret (default: launch.kubernetes.secret, else dpo-secrets).")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@file_option
def push_secrets(experiment: str | None, namespace: str | None, secret: str | None, dry_run: bool, file: Path | None) -> None:
    """Put secrets of .env and your environment into the Secret that runs on the cluster read.

    Which: those that EXP, or any experiment, names under launch.secrets, and HF_TOKEN, AWS_… and GOOGLE_SHEETS_… Values are
    never shown.
    """
    from ..backends.kubernetes.api.cluster import Cluster
    from ..backends.kubernetes.submit.secret import USUAL, chosen, push
    from ..experiment.files import read_env

    caller = read_env(Path.cwd())
    named, settings = _launch_settings(experiment, file)
    missing = [name for name in named if not caller.get(name)]
    if missing:
        raise UsageError(f"launch.secrets: {', '.join(missing)} is neither in your environment nor in .env")
    values = chosen(caller, named)
    if not values:
        raise UsageError(f"neither your environment nor .env has any of {', '.join(USUAL)}")
    cluster = Cluster.connect(caller, namespace or settings["namespace"])
    name = secret or settings["secret"] or "dpo-secrets"
    done = push(cluster, cluster.namespace, name, values, dry_run=dry_run)
    words = {"added": done.new, "changed": done.changed, "the same": done.same, "kept": done.others}
    for word, names in words.items():
        if names:
            click.echo(f"{word:<12}{', '.join(names)}")
    verb = "created" if done.is_created else "updated" if done.new or done.changed else "unchanged"
    click.echo(f"secret {name} in {cluster.namespace}: {'would be ' if dry_run else ''}{verb}")


@click.group("secrets")
def secrets() -> None:
    """What runs on a cluster may know and nobody may read."""


secrets.add_command(push_secrets)


def submit_to_cluster(
    name: str,
    overrides: tuple[str, ...],
    run_name: str | None,
    file: Path | None,
    *,
    registry: str | None,
    follow: bool,
    anyway: bool = False,
    data_of: str | None = None,
) -> int:
    """Creates the run and says what was done; with ``follow`` returns its exit code at its end."""
    from ..backends.finding import cluster_of
    from ..backends.kubernetes.render.local import look
    from ..backends.kubernetes.submit.creation import create, try_all
    from ..backends.kubernetes.submit.facts import gather
    from ..backends.kubernetes.submit.staging import stage
    from ..experiment.files import read_env
    from ..launch.data import check_travels, copy_of, with_copy
    from ..launch.rendered import cluster_job, cluster_spec

    caller = read_env(Path.cwd())
    job, loaded = cluster_job(name, overrides, run_name, file)
    with loaded.placed():
        local = look(job.experiment, Path.cwd())
        spec = cluster_spec(job, loaded, namespace=None, local=local)
        with copy_of(job.experiment, data_of) as copy:
            pairs = _checked(job, spec, caller, copy)
        if data_of is not None and pairs is not None:
            check_travels(spec, pairs.spreadsheet)
    where, _ = cluster_of(caller, job.experiment.launch.kubernetes.namespace)
    cluster, namespace = where.cluster, where.cluster.namespace
    with _interrupted_by_sigterm():
        facts = gather(cluster, _question(spec, namespace, follow))
        spec = cluster_spec(job, loaded, namespace=namespace, has_jobset=facts.has_jobset, local=local)
        _judge(spec, facts, namespace, registry, is_named=run_name is not None, anyway=anyway)
        image = _pushed(spec, facts, registry, caller)
        if image is not None:
            spec = cluster_spec(job, loaded, namespace=namespace, has_jobset=facts.has_jobset, local=local, image=image)
        spec = with_copy(spec, pairs.spreadsheet if pairs is not None else None)
        _say(job, spec, pairs, cluster.context, namespace, caller)
        try_all(cluster, spec, namespace)
        stage(cluster, spec, namespace, job.experiment.storage_config, caller, click.echo)
        run = create(cluster, spec, namespace)
    for obj in spec.objects:
        click.echo(f"created     {obj['kind']} {obj['metadata']['name']}")
    if not follow:
        click.echo(f"{run.name} is submitted: launcher logs -f {run.name}")
        return 0
    return _followed(where, run)


def _followed(where: Kubernetes, run: ClusterRun) -> int:
    from .watch import Interrupts, watch

    with Interrupts() as interrupts:
        return watch(where, run, interrupts, pairs_a_step=run.global_batch)


def _checked(job: Job, spec: KubernetesSpec, caller: Mapping[str, str], copy: Path | None) -> Pairs | None:
    """The pairs, read as for a run on this machine; None where only a pod can read them."""
    from ..backends.kubernetes.render.placement import travels
    from ..data.pairs import read_pairs
    from ..data.rows import Reading
    from ..job.job import check_model
    from .screen import complain

    e = job.experiment
    if travels(e.model_name, spec.claims):
        check_model(e.model_name, Path.cwd())
    path = e.datasets_path
    if path is not None and not path.startswith("s3://") and not travels(path, spec.claims):
        return None
    return read_pairs(e, Reading(Path.cwd(), caller, copy=copy, say=complain))


def _question(spec: KubernetesSpec, namespace: str, follow: bool) -> Question:
    from ..backends.kubernetes.submit.facts import Question

    verbs = ("submit", *(["submit --queue"] if spec.queue else []), *(["ps", "logs"] if follow else []))
    secret = spec.secret if spec.secret_keys else None
    return Question(namespace, spec.run, spec.claims, secret, spec.queue, verbs)


def _judge(spec: KubernetesSpec, facts: Facts, namespace: str, registry: str | None, *, is_named: bool, anyway: bool) -> None:
    """Says what is worth knowing; raises NotReady for what keeps the run from starting, or says that, too (``anyway``)."""
    from ..backends.kubernetes.submit.preflight import preflight

    found = preflight(spec, facts, namespace=namespace, can_push=registry is not None, is_named=is_named)
    for notice in found.notices:
        click.echo(f"notice: {notice}", err=True)
    if not anyway:
        found.check()
    for finding in found.findings:
        click.echo(f"anyway: {finding}", err=True)


def _pushed(spec: KubernetesSpec, facts: Facts, registry: str | None, caller: Mapping[str, str]) -> Image | None:
    """The image by the digest that it has in the registry; None where the cluster can have it without."""
    from ..backends.kubernetes.submit.preflight import is_local, on_a_node
    from ..job.image import Image

    reference = spec.image.reference
    if registry is None or not is_local(reference) or on_a_node(reference, facts):
        return None
    from ..backends.docker.build import ensure, push
    from ..backends.docker.engine import connect, translated

    client = connect(caller)
    with translated(f"image {reference}"):
        ensure(client, spec.image, caller, click.echo)
        return Image(push(client, reference, f"{registry}/dpo-launcher", click.echo), spec.image.variant)


def _say(job: Job, spec: KubernetesSpec, pairs: Pairs | None, context: str, namespace: str, caller: Mapping[str, str]) -> None:
    """What the run will be."""
    from ..backends.kubernetes.render.placement import RUNS
    from ..planning.derived import derived
    from ..planning.planned import said_before_submit
    from ..runs.run_dir import RunDir
    from .screen import facts, notices

    folder = RunDir(Path(RUNS) / spec.folder)
    if pairs is None:
        data = f"{job.experiment.datasets_path}: only the pods can read it; it is checked there"
        facts({"run": job.run, "devices": job.devices, "a step": job.batch, "output": str(folder.path), "data": data})
    else:
        facts(derived(job, pairs, folder).facts | said_before_submit(job.experiment, pairs, Path(), caller))
    facts({"cluster": f"{spec.kind} {spec.job} in namespace {namespace} of context {context}", "image": spec.image.reference})
    notices(pairs.notices if pairs is not None else ())


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM as Ctrl-C: what is half done is undone."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _launch_settings(experiment: str | None, file: Path | None) -> tuple[Sequence[str], dict[str, str | None]]:
    """(names under launch.secrets, the Secret and the namespace that are meant) of one experiment, or of all."""
    from ..experiment.files import check_files, load

    if experiment is not None:
        loaded = [load(experiment, file=file)]
    else:
        try:
            survey = check_files(Path(), file)
        except LauncherError:
            survey = None
        loaded = [one.loaded for one in survey.experiments if one.loaded is not None] if survey is not None else []
    launches = [one.experiment.launch for one in loaded]
    named = sorted({name for launch in launches for name in launch.secrets})
    settings: dict[str, str | None] = {}
    for setting in ("secret", "namespace"):
        values = {getattr(launch.kubernetes, setting) for launch in launches}
        settings[setting] = values.pop() if len(values) == 1 else None
    return named, settings


VERBS: tuple[click.Command, ...] = (submit, secrets)
