"""How runs on a cluster are now: the values behind `launcher ps --cluster` and `launcher status`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ...errors import LauncherError, Warned
from ...health import Finding, read_findings
from ...runs.follow import parse
from ...runs.known import Known, judged, newest_metric, progress, time_spent, trained_how
from ...runs.learned.quality import Quality
from ...why import Pod
from .. import Status
from .finding import cluster_of, listed_on

if TYPE_CHECKING:
    from ..kubernetes.backend import Kubernetes
    from ..kubernetes.follow.listed import Listed
    from ..kubernetes.follow.run import ClusterRun
    from ..kubernetes.follow.stored import Stored


@dataclass(frozen=True)
class Node:
    """One node of a run on a cluster: its pod, and the machine that the pod was given."""

    name: str
    index: int | None
    node: str | None
    phase: str
    reason: str

    @property
    def is_running(self) -> bool:
        return self.phase == "Running" and not self.reason


@dataclass(frozen=True)
class ClusterPart:
    """What only a run on a cluster has. ``restarts`` is None where its object is gone. ``reported``: by Kubeflow Trainer."""

    job: str
    kind: str
    namespace: str
    image: str | None
    restarts: int | None
    running: int
    nodes: tuple[Node, ...]
    reported: str | None = None


def cluster_runs_known(
    caller: Mapping[str, str], namespace: str | None, warn: Callable[[str], None] | None = None
) -> list[Known]:
    """Every run of the cluster's namespaces that may hold this person's runs, newest first.

    With ``warn`` also those whose Job is gone; it is told where the claim cannot be read.
    """
    kubernetes, namespaces = cluster_of(caller, namespace)
    there = listed_on(kubernetes, namespaces, with_pods=True)
    found = [known_listed(one) for one in there]
    if warn is None:
        return found
    for name in namespaces:
        try:
            found += [known_listed(one) for one in kubernetes.gone(name, [one.run for one in there])]
        except LauncherError as error:
            if name == namespaces[0]:
                warn(Warned(f"runs whose Job is gone are not listed: {str(error).splitlines()[0]}"))
    return sorted(found, key=lambda run: (run.created, run.run), reverse=True)


def health_of(record: Mapping[str, Any]) -> tuple[Finding, ...] | None:
    """What the watch of the training found; None for a run without one."""
    found = read_findings(record)
    return None if found is None else tuple(found)


def status_on_cluster(where: Kubernetes, run: ClusterRun) -> tuple[Known, Mapping[str, Any], ClusterPart]:
    """(state, record, what only a run on a cluster has)."""
    from ..kubernetes.follow import state
    from ..kubernetes.follow.pods import is_running, newest, reason

    obj, every = where.object(run), where.pods(run)
    pods, record = newest(every), where.record(run)
    nodes = tuple(Node(pod.name, pod.index, pod.host, pod.phase, "" if is_running(pod) else reason(pod)) for pod in pods)
    part = ClusterPart(
        job=run.job,
        kind=run.kind,
        namespace=run.namespace,
        image=run.image,
        restarts=state.restarts(obj, every) if obj is not None else None,
        running=sum(map(is_running, pods)),
        nodes=nodes,
        reported=state.reported(obj) if obj is not None else None,
    )
    return _known_on_cluster(where, run, obj, record, every), record, part


def _known_on_cluster(
    where: Kubernetes, run: ClusterRun, obj: Mapping[str, Any] | None, record: Mapping[str, Any], pods: Sequence[Pod]
) -> Known:
    """The state of a run, with its step and speed."""
    from ..kubernetes.follow import state
    from ..kubernetes.follow.usage import gpu_hours_of

    now = where.status(run)
    lines = where.tail(run)
    last = newest_metric(lines, run.global_batch)
    evaluated = next((one for line in reversed(lines) if (one := parse(line)) is not None and one.kind == "eval"), None)
    outcome = record.get("outcome") or {}
    ended = (state.ended_at(obj) if now.is_over else None) if obj is not None else outcome.get("ended")
    until = (datetime.fromisoformat(ended) if ended else None) if now.is_over else datetime.now(UTC)
    return replace(
        _known_of(run, now, ended),
        **progress(last, run.global_batch, is_over=now.is_over),
        **judged(Quality.of(record, evaluated, last)),
        **trained_how(record, evaluated),
        **time_spent(record.get("attempts") or [], until),
        gpu_hours=gpu_hours_of(run, record, pods, until),
        health=health_of(record),
    )


def known_listed(one: Listed | Stored) -> Known:
    """A run as the list has it: its step would cost a request for each."""
    return _known_of(one.run, one.status, one.ended)


def _known_of(run: ClusterRun, now: Status, ended: str | None) -> Known:
    return Known(
        run=run.name,
        experiment=run.key,
        state=now.state,
        exit_code=now.exit_code,
        sentence=now.sentence,
        step=None,
        total_steps=None,
        loss=None,
        created=run.created,
        ended=ended,
        folder=str(run.path),
        nodes=run.nodes,
        namespace=run.namespace,
        user=run.user,
    )
