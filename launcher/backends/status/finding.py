"""Finding the run that a person means: among those of this machine, else among those of the cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ...errors import ExperimentError, LauncherError, UsageError
from ...runs.finding import AmbiguousName, choose, fitting, newest_first, output_dirs, remembered
from ...runs.run_dir import RunDir

if TYPE_CHECKING:
    from .. import Runs
    from ..kubernetes.backend import Kubernetes
    from ..kubernetes.follow.listed import Listed
    from ..kubernetes.follow.run import ClusterRun


def find(name: str, *, cluster: bool = False, namespace: str | None = None) -> tuple[Runs[Any], Any]:
    """The run that ``name`` means, and its backend: searched on this machine, then on the cluster.

    ``cluster`` or a ``namespace``: on the cluster only. Raises UsageError if no run fits, or more than one, and LauncherError
    with the cluster's exit code where it could not be searched.
    """
    from ...experiment.files import read_env
    from ..choose import backend_of

    caller = read_env(Path.cwd())
    if cluster or namespace is not None:
        return find_on_cluster(name, caller, namespace)
    try:
        run = local_run(name)
    except AmbiguousName:
        raise
    except UsageError as error:
        if not has_kubeconfig(caller):
            raise
        try:
            return find_on_cluster(name, caller, None)
        except AmbiguousName:
            raise
        except UsageError as other:
            raise UsageError(f"{error}\n    on the cluster: {str(other).splitlines()[0]}") from None
        except LauncherError as other:  # it may be there
            unknown = LauncherError(f"{name} is not a run of this machine, and the cluster could not be searched: {other}")
            unknown.exit_code = other.exit_code
            raise unknown from None
    return backend_of(run), run


def on_cluster(where: Runs[Any], run: Any) -> tuple[Kubernetes, ClusterRun] | None:
    """The result of ``find`` with its types, for a run on the cluster; None for a run of this machine."""
    return None if isinstance(run, RunDir) else (cast("Kubernetes", where), cast("ClusterRun", run))


def local_runs() -> list[RunDir]:
    """The runs that were started in this directory, newest first."""
    return newest_first(output_dirs(Path.cwd()), remembered(Path.cwd()))


def local_runs_and_containers() -> list[RunDir]:
    """The runs that were started in this directory, and those elsewhere that have a container, newest first."""
    from ..choose import folders_of_containers

    return newest_first(output_dirs(Path.cwd()), [*remembered(Path.cwd()), *folders_of_containers()])


def local_run(name: str) -> RunDir:
    """The run that ``name`` means below this directory; elsewhere on this machine only by its full name."""
    try:
        return choose(name, local_runs())
    except UsageError:
        elsewhere = [run for run in local_runs_and_containers() if run.name == name]
        if len(elsewhere) != 1:
            raise
        return elsewhere[0]


def find_on_cluster(name: str, caller: Mapping[str, str], namespace: str | None) -> tuple[Kubernetes, ClusterRun]:
    """The run on the cluster that ``name`` means; one whose Job is gone by its full name, if a reader pod has its folder."""
    kubernetes, namespaces = cluster_of(caller, namespace)
    runs = [listed.run for listed in listed_on(kubernetes, namespaces, with_pods=False)]
    try:
        found = fitting(
            name, runs, lambda run: {run.key, run.experiment_id}, lambda run: f"{run.namespace}/{run.name}", " --cluster"
        )
    except UsageError as error:
        archived = kubernetes.archived(name, namespaces)
        if archived is not None:
            return kubernetes, archived
        if isinstance(error, AmbiguousName) or kubernetes.has_reader(namespaces[0]):
            raise
        space = namespaces[0]
        unseen = f"a run whose Job is gone is found through the TensorBoard pod, and none runs in namespace {space}"
        hint = f"print the command that adds one with: launcher doctor --cluster -n {space}"
        raise UsageError(f"{error}\n    {unseen}\n    hint:     {hint}") from None
    if name in (found.name, found.key, found.experiment_id, "latest"):
        return kubernetes, found
    # A beginning of its name, which may be the whole name of a run whose Job is gone.
    return kubernetes, kubernetes.archived(name, namespaces) or found


def cluster_of(caller: Mapping[str, str], namespace: str | None) -> tuple[Kubernetes, list[str]]:
    """The cluster, and the namespaces to search: the given one, else the context's and those in the experiment files.

    Raises ClusterError if no cluster is configured.
    """
    from ..kubernetes.api.cluster import Cluster
    from ..kubernetes.backend import Kubernetes
    from ..kubernetes.follow.evidence import explain

    cluster = Cluster.connect(caller, namespace)
    named = [] if namespace is not None else _named_namespaces()
    return Kubernetes(cluster, explain), list(dict.fromkeys([cluster.namespace, *named]))


def listed_on(kubernetes: Kubernetes, namespaces: Sequence[str], *, with_pods: bool) -> list[Listed]:
    """Every run in the namespaces, newest first; a namespace from an experiment file may be forbidden, and is skipped then."""
    from ..kubernetes.api.cluster import ApiError

    found = kubernetes.runs(namespaces[0], with_pods=with_pods)
    for namespace in namespaces[1:]:
        try:
            found += kubernetes.runs(namespace, with_pods=with_pods)
        except ApiError as error:
            if error.status not in (403, 404):
                raise
    return sorted(found, key=lambda one: (one.run.created, one.run.name), reverse=True)


def has_kubeconfig(caller: Mapping[str, str]) -> bool:
    """Whether a kubeconfig exists; asks no cluster."""
    home = caller.get("HOME") or Path.home()
    named = caller.get("KUBECONFIG") or str(Path(home, ".kube", "config"))
    return any(Path(path).expanduser().is_file() for path in named.split(os.pathsep) if path)


def _named_namespaces() -> list[str]:
    """The namespaces in the experiment files below this directory."""
    from ...experiment.files import read_files
    from ...experiment.text.yaml_nodes import data

    named: list[str] = []
    with suppress(ExperimentError):  # no experiment files
        for found in read_files(Path()).found:
            launch = data(found.node).get("launch")
            section = launch.get("kubernetes") if isinstance(launch, dict) else None
            namespace = section.get("namespace") if isinstance(section, dict) else None
            named += [namespace] if isinstance(namespace, str) and namespace else []
    return sorted(set(named))
