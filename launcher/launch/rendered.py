"""From an experiment's name to a run's job, and to what its backend would start."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..redact import REDACTOR

if TYPE_CHECKING:
    from ..backends.choose import AnyBackend
    from ..backends.diff import Difference
    from ..backends.docker.spec import DockerSpec
    from ..backends.host import HostSpec
    from ..backends.kubernetes.render.spec import KubernetesSpec
    from ..experiment.loaded import Loaded
    from ..job.job import Job


@dataclass(frozen=True)
class Choice:
    """The user's choice: experiment key or id, ``--set``, ``--name`` and ``-f``."""

    experiment: str
    overrides: tuple[str, ...] = ()
    run_name: str | None = None
    file: Path | None = None

    def on_cluster(self, kind: str | None, namespace: str | None) -> Choice:
        """The same with ``--kind`` and ``--namespace``."""
        return replace(self, overrides=(*self.overrides, *cluster_settings(kind, namespace)))

    def __str__(self) -> str:
        """As typed after ``launcher run``."""
        named = ["--name", self.run_name] if self.run_name is not None else []
        file = ["-f", str(self.file)] if self.file is not None else []
        return shlex.join([self.experiment, *(f"--set={one}" for one in self.overrides), *named, *file])


@dataclass(frozen=True)
class Rendered:
    """What ``launcher run`` would start or ``launcher submit`` would create. Nothing is started.

    ``where``: the backend on this machine, None for a cluster. ``why_host``: why the host was chosen automatically.
    """

    where: AnyBackend | None
    job: Job
    loaded: Loaded
    spec: HostSpec | DockerSpec | KubernetesSpec
    why_host: str | None = None

    @property
    def backend(self) -> str:
        return "kubernetes" if self.where is None else self.where.name

    def text(self, *, full: bool) -> str:
        """The command of a run on this machine (``full``: with the files that it reads), or all objects of a cluster run."""
        spec: Any = self.spec
        if self.where is None:
            from ..backends.kubernetes.render.spec import text

            return text(spec)
        return self.where.text(spec, full=full)

    def json(self) -> dict[str, Any]:
        return {"run": self.job.run, "experiment": self.job.key, "backend": self.backend, **self.spec.json()}


def rendered(choice: Choice, backend: str | None, notes: Mapping[str, Any] = MappingProxyType({})) -> Rendered:
    """A run on this machine. ``backend``: host, docker, or None (docker if an engine answers, else host).

    ``notes``: for the run's record, see ``Job``.
    """
    from ..backends.choose import choose_backend
    from ..backends.host import gpus_there
    from ..experiment.files import load, read_env
    from ..job.job import plan
    from ..job.starting import paired_loaded
    from ..job.topology import Node
    from ..planning.parallelism import choose_parallelism
    from ..runs.names import check_run_name, new_run_name

    caller = read_env(Path.cwd())
    loaded = load(choice.experiment, root=Path(), file=choice.file, overrides=choice.overrides)
    loaded = paired_loaded(loaded, Path.cwd(), caller)
    called = new_run_name(loaded.key) if choice.run_name is None else check_run_name(choice.run_name)
    if choice.run_name is None and loaded.experiment.launch.nodes > 1:
        raise UsageError(f"a run on {loaded.experiment.launch.nodes} nodes needs --name, the same on each node")
    where, why = choose_backend(backend, Path.cwd(), caller, loaded.experiment.launch.image)
    with loaded.placed():
        e, there = loaded.experiment, gpus_there(caller)
        REDACTOR.learn(caller, e.named_secrets)
        shared, node = choose_parallelism(e, Path.cwd(), there, caller), Node.of(caller, e.launch.nodes)
        job = plan(e, run=called, key=loaded.key, gpus_there=there, parallelism=shared, node=node, origin=str(loaded.file))
        job = replace(job, notes={**_given(choice.overrides), **notes})
        return Rendered(where, job, loaded, where.render(job), why)


def rendered_for_cluster(choice: Choice, notes: Mapping[str, Any] = MappingProxyType({})) -> Rendered:
    """A run on a cluster, without contacting it. ``notes``: for the run's record, see ``Job``."""
    from ..experiment.files import read_env
    from .cluster_objects import Known, cluster_spec
    from .on_nodes import read_deadline

    job, loaded = cluster_job(choice.experiment, choice.overrides, choice.run_name, choice.file)
    job = replace(job, notes={**job.notes, **notes})
    with loaded.placed():
        deadline = read_deadline(job, read_env(Path.cwd()))
    namespace = job.experiment.launch.kubernetes.namespace
    return Rendered(None, job, loaded, cluster_spec(job, loaded, Known(namespace=namespace, deadline=deadline)))


@dataclass(frozen=True)
class Differences:
    """Differences between an experiment's container on this machine and its pods on a cluster."""

    experiment: str
    all: tuple[Difference, ...]

    def json(self) -> list[dict[str, str]]:
        return [one.json() for one in self.all]


def differences(choice: Choice) -> Differences:
    """Compares both renderings, without contacting engine or cluster."""
    from ..backends.diff import differences as between

    there = rendered_for_cluster(choice)
    spec: Any = there.spec
    return Differences(there.loaded.key, tuple(between(as_container(there.job, there.loaded), spec)))


def cluster_settings(kind: str | None, namespace: str | None) -> tuple[str, ...]:
    """--kind and --namespace in the form of --set."""
    given = {"kind": kind, "namespace": namespace}
    return tuple(f"launch.kubernetes.{name}={value}" for name, value in given.items() if value is not None)


def cluster_job(name: str, overrides: tuple[str, ...], run_name: str | None, file: Path | None) -> tuple[Job, Loaded]:
    """The job of a cluster run, and its experiment. A node has the GPUs that the experiment requests; ``auto`` is one."""
    from ..experiment.files import load, read_env
    from ..job.starting import paired_loaded
    from ..runs.names import check_run_name, new_run_name

    caller = read_env(Path.cwd())
    loaded = paired_loaded(load(name, root=Path(), file=file, overrides=overrides), Path.cwd(), caller)
    called = new_run_name(loaded.key) if run_name is None else check_run_name(run_name)
    return replace(planned_for_cluster(loaded, called, caller), notes=_given(overrides)), loaded


def planned_for_cluster(loaded: Loaded, run_name: str, caller: Mapping[str, str]) -> Job:
    """The job of a cluster run, without contacting the cluster. ``caller``: the environment. Raises ExperimentError."""
    from ..job.job import plan
    from ..planning.parallelism import choose_parallelism

    with loaded.placed():
        e = loaded.experiment
        REDACTOR.learn(caller, e.named_secrets)
        there = 1 if e.launch.gpus == "auto" else e.launch.gpus
        shared = choose_parallelism(e, Path.cwd(), there, caller, is_here=False)
        return plan(e, run=run_name, key=loaded.key, gpus_there=there, parallelism=shared, origin=str(loaded.file))


def _given(overrides: Sequence[str]) -> dict[str, Any]:
    """For the run's record: the ``--set`` options, which a suggested command repeats."""
    return {"set": list(overrides)} if overrides else {}


def as_container(cluster: Job, loaded: Loaded) -> DockerSpec:
    """The same run as a container on this machine, as if it had the requested GPUs."""
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
