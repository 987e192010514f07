"""What a run has printed so far: from the logs of its pods, else from the archive on the claim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ....why import Pod
from ..api.cluster import Cluster
from ..api.errors import unless
from . import archive as archives
from . import state
from .archive import Archive, NoReader
from .logs import pod_log, shown
from .pods import has_started
from .ranklog import RankLog
from .run import ClusterRun


def so_far(
    cluster: Cluster, archive: Archive, run: ClusterRun, obj: Mapping[str, Any] | None, pods: Sequence[Pod], rank: int | None
) -> Iterator[str]:
    """The output of ``rank``, or of all ranks with prefixes: from the pods if they have all of it, else from the archive.

    ``obj``: the run's object, None if it is deleted. Raises NoReader if neither has any.
    """
    mine = [pod for pod in pods if has_started(pod) and (rank is None or (pod.index or 0) == rank // run.ranks_a_node)]
    if obj is not None and mine and state.has_all(obj, mine):
        yield from _of_pods(cluster, run, mine, rank)
        return
    try:
        yield from archived(archive, run, rank)
    except NoReader:
        if not mine:
            raise
        yield "(the log of earlier pods is not shown: it is on the claim, and no TensorBoard pod runs)\n"
        yield from _of_pods(cluster, run, mine, rank)


def archived(archive: Archive, run: ClusterRun, rank: int | None) -> Iterator[str]:
    """The output of ``rank``, or of all ranks, from the run's folder. Raises NoReader."""
    archive.reader()
    for one in archive.ranks(run) if rank is None else [rank]:
        log = RankLog(one)
        lines = log.feed(archive.log(run, one) or b"") + log.close()
        yield shown(lines, rank, 0, run.nodes)
    if rank == 0 or (rank is None and run.nodes == 1):
        yield _last_word(run, archive.record(run))


def last_lines(cluster: Cluster, run: ClusterRun, pod: Pod, count: int) -> list[str]:
    """The last ``count`` lines of a pod's log. Raises ApiError."""
    path = f"/api/v1/namespaces/{run.namespace}/pods/{pod.name}/log"
    text = b"".join(cluster.stream(path, container=run.container, tailLines=count))
    return text.decode("utf-8", "replace").splitlines()


def _of_pods(cluster: Cluster, run: ClusterRun, pods: Sequence[Pod], rank: int | None) -> Iterator[str]:
    for pod in pods:
        with unless(400, 404):  # it never had a container, or it is deleted
            for batch in pod_log(cluster, run.namespace, pod.name, run.container, lambda: True):
                yield shown(batch, rank, pod.index or 0, run.nodes)


def _last_word(run: ClusterRun, record: Mapping[str, Any]) -> str:
    """The last line of the first node's entry, as in its pod's log; the ranks' logs do not have it."""
    attempts, outcome = record.get("attempts") or [], archives.said(record)
    if not attempts or outcome is None:
        return ""
    return f"{run.name}: attempt {attempts[-1]['number']}: {outcome.state}, exit {outcome.exit_code}: {outcome.sentence}\n"
