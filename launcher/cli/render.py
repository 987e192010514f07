"""The verbs that show what would be started, and the two ways from a name to a job that all verbs share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ExperimentError, UsageError
from ..redact import REDACTOR
from .options import (
    backend_option,
    cluster_option,
    experiment_argument,
    file_option,
    json_option,
    kind_option,
    name_option,
    namespace_option,
    set_option,
)

if TYPE_CHECKING:
    from ..backends.docker.spec import DockerSpec
    from ..backends.kubernetes.render.placement import Local
    from ..backends.kubernetes.render.spec import KubernetesSpec
    from ..config import Loaded
    from ..experiment import Experiment
    from ..image import Image
    from ..job import Job
    from .backends import AnyBackend


@click.command("render", short_help="Print what `launcher run` or `launcher submit` would start.")
@experiment_argument()
@backend_option
@cluster_option
@kind_option
@namespace_option
@set_option
@name_option
@file_option
def render(
    experiment: str,
    backend: str | None,
    cluster: bool,
    kind: str | None,
    namespace: str | None,
    overrides: tuple[str, ...],
    run_name: str | None,
    file: Path | None,
) -> None:
    """Print what `launcher run EXP` would start, or `launcher submit EXP` create (--cluster).

    The objects of a cluster are YAML that `kubectl create -f -` takes; no cluster is asked.
    """
    if cluster or backend == "kubernetes":
        from ..backends.kubernetes.render.spec import text

        job, loaded = cluster_job(experiment, (*overrides, *cluster_settings(kind, namespace)), run_name, file)
        click.echo(text(cluster_spec(job, loaded, namespace=job.experiment.launch.kubernetes.namespace)), nl=False)
        return
    if kind is not None or namespace is not None:
        raise UsageError("--kind and --namespace are for a cluster: add --cluster")
    where, job, loaded, _ = rendered(experiment, backend, overrides, run_name, file)
    with loaded.placed():
        spec: Any = where.render(job)
    click.echo(where.text(spec), nl=False)


@click.command("diff", short_help="Say what differs between a run here and on a cluster.")
@experiment_argument()
@kind_option
@namespace_option
@set_option
@file_option
@json_option
def diff(
    experiment: str,
    kind: str | None,
    namespace: str | None,
    overrides: tuple[str, ...],
    file: Path | None,
    as_json: bool,
) -> None:
    """Say what differs between EXP's container on this machine and its pods on a cluster. Neither is started or asked."""
    from ..backends.kubernetes.render.diff import differences

    cluster, loaded = cluster_job(experiment, (*overrides, *cluster_settings(kind, namespace)), None, file)
    there = cluster_spec(cluster, loaded, namespace=cluster.experiment.launch.kubernetes.namespace)
    found = differences(_container(cluster, loaded), there)
    if as_json:
        import json

        click.echo(json.dumps([one.json() for one in found], indent=2, ensure_ascii=False))
        return
    click.echo(f"{loaded.key}: what differs between a container here and the cluster; all else is the same")
    for one in found:
        click.echo(f"\n{one.what}\n    here     {one.here}\n    cluster  {one.there}")


def _container(cluster: Job, loaded: Loaded) -> DockerSpec:
    """The container of the same run here, as if this machine had the GPUs that it asks for."""
    from ..backends.docker.backend import Docker
    from ..backends.host import gpus_there
    from ..config import read_env
    from ..job import plan

    caller = read_env(Path.cwd())
    with loaded.placed():
        e = loaded.experiment
        there = gpus_there(caller) if e.launch.gpus == "auto" else e.launch.gpus
        job = plan(e, run=cluster.run, key=cluster.key, gpus_there=there, parallelism=cluster.topology.parallelism)
        return Docker(Path.cwd(), caller).render(job)


def rendered(
    name: str, backend: str | None, overrides: tuple[str, ...], run_name: str | None, file: Path | None
) -> tuple[AnyBackend, Job, Loaded, str | None]:
    """The backend, the job and its experiment, and why the backend is the host where nobody said so."""
    from ..backends.host import gpus_there
    from ..config import load, read_env
    from ..job import plan
    from ..run_dir import check_run_name, new_run_name
    from ..topology import Node
    from .backends import choose_backend
    from .parallelism import choose_parallelism

    caller = read_env(Path.cwd())
    loaded = load(name, root=Path(), file=file, overrides=overrides)
    called = new_run_name(loaded.key) if run_name is None else check_run_name(run_name)
    if run_name is None and loaded.experiment.launch.nodes > 1:
        raise UsageError(f"a run over {loaded.experiment.launch.nodes} nodes is started on each of them with one --name")
    where, why = choose_backend(backend, Path.cwd(), caller, loaded.experiment.launch.image)
    with loaded.placed():
        e, there = loaded.experiment, gpus_there(caller)
        REDACTOR.learn(caller, e.launch.secrets)
        shared, node = choose_parallelism(e, Path.cwd(), there, caller), Node.of(caller, e.launch.nodes)
        job = plan(e, run=called, key=loaded.key, gpus_there=there, parallelism=shared, node=node, origin=str(loaded.file))
        return where, job, loaded, why


def cluster_settings(kind: str | None, namespace: str | None) -> tuple[str, ...]:
    """What --kind and --namespace set, as --set would."""
    given = {"kind": kind, "namespace": namespace}
    return tuple(f"launch.kubernetes.{name}={value}" for name, value in given.items() if value is not None)


def cluster_job(name: str, overrides: tuple[str, ...], run_name: str | None, file: Path | None) -> tuple[Job, Loaded]:
    """The job of a run on a cluster, and its experiment. A node's GPUs are as many as are asked for, and ``auto`` is one."""
    from ..config import load, read_env
    from ..job import plan
    from ..run_dir import check_run_name, new_run_name
    from .parallelism import choose_parallelism

    caller = read_env(Path.cwd())
    loaded = load(name, root=Path(), file=file, overrides=overrides)
    called = new_run_name(loaded.key) if run_name is None else check_run_name(run_name)
    with loaded.placed():
        e = loaded.experiment
        REDACTOR.learn(caller, e.launch.secrets)
        there = 1 if e.launch.gpus == "auto" else e.launch.gpus
        shared = choose_parallelism(e, Path.cwd(), there, caller, is_here=False)
        return plan(e, run=called, key=loaded.key, gpus_there=there, parallelism=shared, origin=str(loaded.file)), loaded


def cluster_spec(
    job: Job,
    loaded: Loaded,
    *,
    namespace: str | None,
    has_jobset: bool | None = None,
    image: Image | None = None,
    local: Local | None = None,
) -> KubernetesSpec:
    """The objects of ``job``. ``namespace``: the one that is meant, None where only the context knows it; ``has_jobset``: whether
    the cluster serves JobSets, None where it was not asked; ``image``: the one that was pushed; ``local``: the files of this
    machine, where they were looked at already.
    """
    import getpass

    from ..backends.kubernetes.render.local import look
    from ..backends.kubernetes.render.spec import Place
    from ..backends.kubernetes.render.spec import render as render_objects
    from ..backends.record import code_revision
    from ..config import read_env
    from ..image import image_of, variant_of

    caller = read_env(Path.cwd())
    with loaded.placed():
        place = Place(
            user=caller.get("USER") or getpass.getuser(),
            image=image or image_of(variant_of(job.gpus), caller, job.experiment.launch.image),
            local=local or look(job.experiment, Path.cwd()),
            namespace=namespace,
            has_jobset=has_jobset,
            trained=_trained(job.experiment, caller),
            code=code_revision(),
            caller=caller,
        )
        return render_objects(job, place)


def _trained(experiment: Experiment, caller: Mapping[str, str]) -> int | None:
    """How many weights are trained, where the model's sizes are known on this machine."""
    from ..model_config import find_model_config

    h = experiment.hyperparameters
    try:
        config, _ = find_model_config(experiment.model_name, Path.cwd(), caller, network=False)
    except ExperimentError:
        return None
    return config.parameters if h.full_finetuning else config.adapter_weights(h.r, h.target_modules)


VERBS: tuple[click.Command, ...] = (render, diff)
