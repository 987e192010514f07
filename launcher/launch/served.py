"""Finds a server made by `launcher serve --backend kubernetes` by its name, and explains why it does not answer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LauncherError, UsageError

if TYPE_CHECKING:
    from ..backends.status.state import Explained
    from .sweeps.found import Swept


def find_or_server(name: str, *, cluster: bool, namespace: str | None) -> Swept | Explained | tuple[Any, Any]:
    """The run or sweep ``name`` (see ``found.find``), else the explanation of the server ``name``. Raises like ``find`` if
    there is neither.
    """
    from ..runs.finding import AmbiguousName
    from .sweeps.found import find

    try:
        return find(name, cluster=cluster, namespace=namespace)
    except AmbiguousName:
        raise
    except UsageError:
        server = None
        with suppress(LauncherError):  # the cluster does not answer; the first error already says so
            server = _explained(name, namespace)
        if server is None:
            raise
        return server


def _explained(name: str, namespace: str | None) -> Explained | None:
    """Why the server does not answer, or that it does; None if there is no such server. Raises LauncherError."""
    from ..backends.kubernetes.follow.beside import explain, servers
    from ..backends.status.finding import cluster_of, has_kubeconfig
    from ..backends.status.state import Explained
    from ..experiment.files import read_env
    from ..why import Explanation

    caller = read_env(Path.cwd())
    if not has_kubeconfig(caller):
        return None
    kubernetes, namespaces = cluster_of(caller, namespace)
    for space in namespaces:
        pods, deployment = servers(kubernetes.cluster, space, name)
        why = explain(kubernetes.cluster, space, pods, "server", deployment)
        if why is None and not pods:
            continue
        state = "starting"
        if why is None:
            pod = pods[-1]["metadata"]["name"]
            ready = [one for one in (pods[-1].get("status") or {}).get("conditions") or [] if one["type"] == "Ready"]
            state = "running" if any(one["status"] == "True" for one in ready) else "starting"
            does = "answers" if state == "running" else "downloads and loads its model"
            ask = f"kubectl -n {space} port-forward service/{deployment} 8000:80"
            see = f"see its log with: kubectl -n {space} logs {pod}"
            why = Explanation(state, f"{name} {does}: {pod}", f"ask it through: {ask}" if state == "running" else see)
        return Explained(name, "kubernetes", state, None, why)
    return None
