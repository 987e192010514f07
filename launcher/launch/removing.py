"""Removes a run's Job and its objects from a cluster. The run's folder on the claim stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LauncherError, UsageError

if TYPE_CHECKING:
    from ..backends.kubernetes.backend import Kubernetes
    from ..backends.kubernetes.follow.run import ClusterRun
    from .sweeps.found import Swept


def remove(name: str, *, cluster: bool, namespace: str | None) -> Iterator[str]:
    """One line for each run that ``name`` means, after its objects are removed.

    Raises UsageError for a run that is not over or is on this machine, and for one point of a sweep in a shared Job.
    """
    from ..backends.status.finding import on_cluster
    from ..runs.finding import AmbiguousName
    from .sweeps.found import Swept, find

    try:
        found = find(name, cluster=cluster, namespace=namespace)
    except AmbiguousName:
        raise
    except UsageError:
        left = _left(name, namespace)
        if not left:
            raise
        yield f"{name}: removed {', '.join(left)}, left by a submit that was ended before it created the run"
        return
    if isinstance(found, Swept):
        pairs = [(where, run) for where, run, _ in found.runs]
    else:
        pairs = [found]
        _check_alone(found[1])
    owners = {getattr(run, "owner", run): where for where, run in pairs}
    for run, where in owners.items():
        if on_cluster(where, run) is None:
            raise UsageError(f"{run.name} is on this machine and has no Job; its folder is {run.path}")
    if isinstance(found, Swept):
        _check_ended(found)
    for run, where in owners.items():
        if not (now := where.status(run)).is_over:
            raise UsageError(f"{run.name} is {now.state}; stop it first with: launcher stop {run.name}")
    for run, where in owners.items():
        yield _removed(where, run)


def _left(name: str, namespace: str | None) -> list[str]:
    """Removes what a killed submit left behind, and describes it; empty if no cluster answers or permission is denied."""
    from ..backends.kubernetes.follow.removal import left_over
    from ..backends.status.finding import cluster_of, has_kubeconfig
    from ..experiment.files import read_env

    caller = read_env(Path.cwd())
    if not has_kubeconfig(caller):
        return []
    with suppress(LauncherError):  # the first error tells it
        where, namespaces = cluster_of(caller, namespace)
        return [one for space in namespaces for one in left_over(where.cluster, space, name)]
    return []


def _check_ended(sweep: Swept) -> None:
    """Raises UsageError with every point that has not ended."""
    from .sweeps.grid import not_ended

    active = [run.name for where, run, _ in sweep.runs if not where.status(run).is_over]
    if active:
        raise UsageError(f"{not_ended(active)}; stop the sweep first with: launcher stop {sweep.name}")


def _check_alone(run: Any) -> None:
    """Raises UsageError for one point of a sweep in a shared Job, because the other points need its objects."""
    if getattr(run, "index", None) is not None:
        raise UsageError(
            f"{run.name} is one point of the sweep {run.sweep}, which is one Job: it cannot be removed alone\n"
            f"    hint:     remove all points with: launcher rm {run.sweep}"
        )


def _removed(where: Kubernetes, run: ClusterRun) -> str:
    objects = where.remove(run)
    kept = f"its folder {run.path} stays" if run.sweep != run.name else "the folders of its runs stay"
    if not objects:
        return f"{run.name}: nothing to remove; {kept}"
    return f"{run.name}: removed {', '.join(objects)}; {kept}"
