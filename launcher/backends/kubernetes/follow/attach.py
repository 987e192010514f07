"""A command inside the pod of one of a run's nodes."""

from __future__ import annotations

from collections.abc import Sequence

from ....errors import LauncherError, UsageError
from ....why import Pod
from ..api.channels import Attached
from ..api.cluster import ApiError, Cluster
from .pods import is_running
from .run import ClusterRun


def attach(cluster: Cluster, run: ClusterRun, pods: Sequence[Pod], node: int, command: Sequence[str], *, tty: bool) -> Attached:
    """``pods``: the newest of each node. Raises UsageError for a node that the run does not have, LauncherError if its container
    does not run or the cluster denies the command."""
    if node >= run.nodes:
        raise UsageError(f"--node {node}: {run.name} has node{'s 0 to ' if run.nodes > 1 else ' '}{run.nodes - 1}")
    pod = next((one for one in pods if (one.index or 0) == node), None)
    if pod is None or not is_running(pod):
        raise LauncherError(f"{run.name}: the container of node {node} is not running\n    hint:     launcher why {run.name}")
    try:
        return cluster.attach(pod.name, run.container, command, run.namespace, tty=tty)
    except ApiError as error:
        if error.status != 403:
            raise
        raise LauncherError(f"{error.said}\n    hint:     {_debug(run, pod)}") from error


def _debug(run: ClusterRun, pod: Pod) -> str:
    """What works where exec is closed; the launcher does not do it, as it needs a right that the Role does not give."""
    image = f" --image={run.image}" if run.image is not None else ""
    command = f"kubectl -n {run.namespace} debug -it {pod.name} --target={run.container} --profile=restricted{image} -- sh"
    return f"with the right to patch pods/ephemeralcontainers, open a debug container with: {command}"
