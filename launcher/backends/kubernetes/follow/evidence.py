"""The evidence that a cluster has about a run. What cannot be read is left out and listed in ``unseen``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from ....errors import LauncherError
from ....runs.follow import Metric, parse
from ....why import Condition, Event, Evidence, Explanation, Pod
from ....why import explain as explained
from ....why.resources import gpus_in
from ... import Status
from ..api.cluster import ApiError, Cluster, ExecError
from ..render.template import template_of
from . import state
from .archive import NoReader
from .copied import archive_of
from .events import events_of
from .owner import owner_of
from .pods import conditions_of, has_started, newest
from .point import pod_in
from .remembered import remember, remembered
from .run import ClusterRun
from .stored import ended_before, ended_by_folder, last_pods

_LINES: Final = 200  # at the end of a log
_KUEUE: Final = "kueue.x-k8s.io"


def explain(cluster: Cluster, run: ClusterRun) -> Explanation:
    """Why the run waits, runs, or ended."""
    return explained(gather(cluster, run))


def gather(cluster: Cluster, run: ClusterRun, *, is_helper: bool = False) -> Evidence:
    """Everything that can be read about the run; raises LauncherError only if the cluster does not answer.

    ``is_helper``: see ``Evidence``; its pods are not remembered.
    """
    look = _Look(cluster, run)
    obj = look.object()
    raw = look.pods() if run.has_pods else []
    there = tuple(_pod(run, one) for one in raw)
    mine = [pod_in(run, one) for one in raw]
    known = state.state(obj, mine, run.nodes) if obj is not None else state.outlived(mine) or look.recorded()
    if not is_helper:
        remember(cluster, run, there)
    pods = (*look.before(obj, there, known), *there)
    lines, since, printed = look.lines(there, known)
    last = _last_step(lines)
    found = Evidence(
        run=run.name,
        backend="kubernetes",
        state=known.state,
        exit_code=known.exit_code,
        sentence=known.sentence,
        key=run.key,
        step=last.step if last else None,
        total_steps=last.total if last else None,
        since=since if known.state == "running" else None,
        lines=tuple(lines),
        lines_of=printed,
        image=run.image,
        namespace=run.namespace,
        nodes=run.nodes,
        pods=pods,
        before=look.attempt_before(obj, pods, known),
        kind=run.kind,
        is_helper=is_helper,
    )
    if obj is not None:
        found = replace(look.with_owner(found, obj), events=look.events(obj, raw, there))
    checkpoints = look.checkpoints() if known.is_over and known.state != "done" else None
    return replace(found, unseen=tuple(look.unseen), checkpoints=checkpoints)


@dataclass
class _Look:
    """Reads a run's objects; ``unseen`` collects what could not be read."""

    cluster: Cluster
    run: ClusterRun
    unseen: list[str] = field(default_factory=list)

    def object(self) -> Mapping[str, Any] | None:
        return owner_of(self.cluster, self.run)

    def with_owner(self, found: Evidence, obj: Mapping[str, Any]) -> Evidence:
        """``found`` with what the run's object and its queue tell."""
        container: Mapping[str, Any] = template_of(obj)["spec"]["containers"][0]
        limits: Mapping[str, Any] = (container.get("resources") or {}).get("limits") or {}
        queue = state.queue_of(obj)
        return replace(
            found,
            memory=limits.get("memory"),
            gpus=gpus_in(limits),
            image=container.get("image") or found.image,
            conditions=conditions_of(obj),
            queue=queue,
            workload=self.workload() if queue is not None else (),
            local_queue=self.local_queue(queue) if queue is not None else (),
            is_suspended=bool(obj["spec"].get("suspend")),
            age=state.age(obj, self.cluster.now()),
            is_untouched=state.is_untouched(obj),
            parallel=state.parallel_of(obj),
        )

    def pods(self) -> list[dict[str, Any]]:
        with self._allowed("pods"):
            return list(self.cluster.list(self._in("pods"), self.run.selector))
        return []

    def events(self, obj: Mapping[str, Any], raw: Sequence[Mapping[str, Any]], pods: tuple[Pod, ...]) -> tuple[Event, ...]:
        with self._allowed("events"):
            return tuple(events_of(self.cluster, self.run, obj, raw, pods))
        return ()

    def workload(self) -> tuple[Condition, ...]:
        """The conditions of the run's Kueue workload, and its admission checks that are not ready."""
        with self._allowed("Kueue workloads"):
            for one in self.cluster.list(self._kueue("workloads")):
                if any(owner.get("uid") == self.run.uid for owner in one["metadata"].get("ownerReferences") or []):
                    return (*conditions_of(one), *_checks(one))
        return ()

    def local_queue(self, queue: str) -> tuple[Condition, ...]:
        with self._allowed("Kueue localqueues"):
            return conditions_of(self.cluster.get(self._kueue("localqueues", queue)))
        return ()

    def recorded(self) -> Status:
        """The state of a run whose Job is deleted."""
        with self._allowed("the run's folder"):
            return ended_by_folder(archive_of(self.cluster, self.run), self.run)
        return Status("lost", 137, f"its {self.run.kind} was deleted")

    def before(self, obj: Mapping[str, Any] | None, there: tuple[Pod, ...], known: Status) -> list[Pod]:
        """Pods that are gone by now: those that explain why a run restarted, or how one ended whose Job is gone."""
        if known.state in ("done", "stopped", "aborted") or (obj is not None and known.is_over and there):
            return []
        if obj is not None and not known.is_over and not state.restarts(obj, there):
            return []
        found = [pod for pod in remembered(self.cluster, self.run) if pod.name not in {one.name for one in there}]
        if obj is not None or not found:
            return found
        with suppress(NoReader, ExecError, ApiError):  # without its record all that is known counts
            last = last_pods(archive_of(self.cluster, self.run), self.run)
            return [pod for pod in found if last.get(pod.index or 0, pod.name) == pod.name]
        return found

    def attempt_before(self, obj: Mapping[str, Any] | None, pods: tuple[Pod, ...], known: Status) -> str | None:
        """How the attempt ended after which the run started again, by its record; None where pods show it, or it was resumed."""
        if obj is None or known.is_over or any(pod.phase == "Failed" for pod in pods) or not state.restarts(obj, pods):
            return None
        with suppress(NoReader, ExecError, ApiError):
            resumed = (obj["metadata"].get("annotations") or {}).get(state.RESUMED)
            return ended_before(archive_of(self.cluster, self.run).record(self.run), resumed)
        return None

    def checkpoints(self) -> tuple[str, ...] | None:
        """Those of a run that is over; None where nothing can read its folder."""
        with suppress(NoReader, ExecError, ApiError):
            archive = archive_of(self.cluster, self.run)
            archive.reader()
            return tuple(archive.checkpoints(self.run))
        return None

    def lines(self, pods: tuple[Pod, ...], known: Status) -> tuple[list[str], float | None, str | None]:
        """The last log lines, seconds since the newest one if that is known, and the pod that printed them.

        They are from the pod that failed first, else from node 0, else from the claim.
        """
        there = [pod for pod in newest(pods) if has_started(pod)]
        failed = [pod for pod in there if pod.phase == "Failed"]
        failed.sort(key=lambda pod: pod.container.ended if pod.container else "")
        for pod in [*failed, *there][:1]:
            with self._allowed("pod logs"):
                return (*self._tail(pod), pod.name)
        if not known.is_over or known.state == "done":
            return [], None, None
        with self._allowed("the run's folder"):
            archive = archive_of(self.cluster, self.run)
            files = [str(self.run.path / "logs" / name) for name in ("rank-0.log", "entry.log")]
            # A rank that never began has no log: the other file counts then.
            tails = ["sh", "-c", 'tail -q -n 40 "$@" 2>/dev/null || :', "sh", *files]
            return (archive.output(tails) or b"").decode("utf-8", "replace").splitlines(), None, None
        return [], None, None

    def _tail(self, pod: Pod) -> tuple[list[str], float | None]:
        asked: dict[str, Any] = {"container": self.run.container, "timestamps": "true", "tailLines": _LINES}
        text = b"".join(self.cluster.stream(f"{self._in('pods')}/{pod.name}/log", **asked)).decode("utf-8", "replace")
        stamped = [line.partition(" ") for line in text.splitlines() if line]
        lines = [line for _, _, line in stamped]
        if not stamped:  # then since its start
            began = pod.container.started if pod.container is not None else ""
            return [], (self.cluster.now() - datetime.fromisoformat(began)).total_seconds() if began else None
        stamp = stamped[-1][0]
        try:  # a runtime uses its machine's time zone
            newest_stamp = datetime.fromisoformat(stamp[:19] + ("+00:00" if stamp.endswith("Z") else stamp[-6:]))
        except ValueError:  # lines of the kubelet itself have no stamp
            return lines, None
        return lines, max(0.0, (self.cluster.now() - newest_stamp).total_seconds())

    def _in(self, kind: str) -> str:
        return f"/api/v1/namespaces/{self.run.namespace}/{kind}"

    def _kueue(self, kind: str, name: str = "") -> str:
        """The path of Kueue's objects in the served version: old releases only serve v1beta1, new ones are about to drop it."""
        groups = self.cluster.get("/apis").get("groups") or []
        served = next((group["versions"][0]["groupVersion"] for group in groups if group["name"] == _KUEUE), f"{_KUEUE}/v1beta2")
        return f"/apis/{served}/namespaces/{self.run.namespace}/{kind}" + (f"/{name}" if name else "")

    @contextmanager
    def _allowed(self, what: str) -> Iterator[None]:
        """Continues without what cannot be read, and notes it once in ``unseen``."""
        try:
            yield
        except LauncherError as error:
            if isinstance(error, ApiError) and error.status == 404:
                return
            said = f"{what}: {str(error).splitlines()[0]}"
            if said not in self.unseen:
                self.unseen.append(said)


def _pod(run: ClusterRun, obj: Mapping[str, Any]) -> Pod:
    """A pod with its own reason and message, not those of its container."""
    status = obj.get("status") or {}
    return replace(pod_in(run, obj), reason=str(status.get("reason") or ""), message=str(status.get("message") or ""))


def _checks(workload: Mapping[str, Any]) -> Iterator[Condition]:
    """Kueue's admission checks that are not ready, as conditions."""
    for check in (workload.get("status") or {}).get("admissionChecks") or []:
        if check.get("state") != "Ready":
            words = f"{check.get('name')} is {check.get('state')}" + (f": {check['message']}" if check.get("message") else "")
            yield Condition("AdmissionCheck", False, str(check.get("state") or ""), words)


def _last_step(lines: list[str]) -> Metric | None:
    metrics = [metric for line in lines if (metric := parse(line.removeprefix("[rank 0] "))) is not None]
    return next((metric for metric in reversed(metrics) if metric.kind == "train"), metrics[-1] if metrics else None)
