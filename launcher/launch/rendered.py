"""From an experiment's name to the job of a run, and to what its backend would start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExperimentError, UsageError
from ..redact import REDACTOR

if TYPE_CHECKING:
    from ..backends.choose import AnyBackend
    from ..backends.docker.spec import DockerSpec
    from ..backends.kubernetes.render.placement import Local
    from ..backends.kubernetes.render.spec import KubernetesSpec
    from ..experiment.loaded import Loaded
    from ..experiment.schema import Experiment
    from ..job.image import Image
    from ..job.job import Job


def rendered(
    name: str, backend: str | None, overrides: tuple[str, ...], run_name: str | None, file: Path | None
) -> tuple[AnyBackend, Job, Loaded, str | None]:
    """The backend, the job and its experiment, and why the backend is the host where nobody said so."""
    from ..backends.choose import choose_backend
    from ..backends.host import gpus_there
    from ..experiment.files import load, read_env
    from ..job.job import plan
    from ..job.topology import Node
    from ..planning.parallelism import choose_parallelism
    from ..runs.run_dir import check_run_name, new_run_name

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
    from ..experiment.files import load, read_env
    from ..job.job import plan
    from ..planning.parallelism import choose_parallelism
    from ..runs.run_dir import check_run_name, new_run_name

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
    from ..experiment.files import read_env
    from ..job.image import image_of, variant_of

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
    from ..planning.config_file import find_model_config

    h = experiment.hyperparameters
    try:
        config, _ = find_model_config(experiment.model_name, Path.cwd(), caller, network=False)
    except ExperimentError:
        return None
    return config.parameters if h.full_finetuning else config.adapter_weights(h.r, h.target_modules)


def as_container(cluster: Job, loaded: Loaded) -> DockerSpec:
    """The container of the same run here, as if this machine had the GPUs that it asks for."""
    from ..backends.docker.backend import Docker
    from ..backends.host import gpus_there
    from ..experiment.files import read_env
    from ..job.job import plan

    caller = read_env(Path.cwd())
    with loaded.placed():
        e = loaded.experiment
        there = gpus_there(caller) if e.launch.gpus == "auto" else e.launch.gpus
        job = plan(e, run=cluster.run, key=cluster.key, gpus_there=there, parallelism=cluster.topology.parallelism)
        return Docker(Path.cwd(), caller).render(job)
