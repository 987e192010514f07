"""Kubernetes: the state, logs, stopping and resuming of runs on a cluster. It needs no spec."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from ...errors import LauncherError, UsageError
from ...runs.learned.summary import another_rate
from ...why import Evidence, Explanation, Pod, explain
from .. import Status
from .api.channels import Attached
from .api.cluster import ApiError, Cluster
from .follow import state
from .follow.again import start_again
from .follow.apart import note_end
from .follow.archive import Archive, NoReader
from .follow.attach import attach
from .follow.copied import archive_of
from .follow.evidence import gather
from .follow.following import Following
from .follow.listed import Listed, listed
from .follow.owner import delete_owner, owner_of
from .follow.pods import has_started, newest
from .follow.point import pod_in
from .follow.printed import archived, last_lines, so_far
from .follow.removal import removed
from .follow.run import ClusterRun
from .follow.stops import can_stop, stop_point
from .follow.stored import KILLED, Stored, ended_by_folder, stored_runs
from .follow.view import Outage, View
from .render.template import template_of

_END: Final = 60.0  # seconds that killing a run waits for the end of its pods
_GRACE: Final = 120  # seconds, if the pods do not set a grace period
_TAIL: Final = 400  # lines of a pod's log that contain its last metrics


@dataclass
class Kubernetes:
    """Runs in the namespaces of one cluster. ``why`` explains why a run does not run yet."""

    cluster: Cluster
    why: Callable[[Cluster, ClusterRun], Explanation]
    _last: dict[str, Status] = field(default_factory=dict, init=False, repr=False)  # of runs whose Job is deleted by now
    _unseen: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def runs(self, namespace: str, *, with_pods: bool = True) -> list[Listed]:
        """Every run that has a Job, JobSet or TrainJob, newest first."""
        return listed(self.cluster, namespace, with_pods=with_pods)

    def gone(self, namespace: str, there: Sequence[ClusterRun]) -> list[Stored]:
        """Every run of the claim whose Job is deleted, newest first: those that are not among ``there``. Raises NoReader."""
        folders = {run.folder for run in there}
        return [one for one in stored_runs(Archive(self.cluster, namespace)) if one.run.folder not in folders]

    def archived(self, name: str, namespaces: Sequence[str]) -> ClusterRun | None:
        """The run with exactly this name, whose Job is deleted but whose folder a reader pod can read."""
        for namespace in namespaces:
            with suppress(NoReader, ApiError):
                if (run := Archive(self.cluster, namespace).find(name)) is not None:
                    return run
        return None

    def has_reader(self, namespace: str) -> bool:
        """Whether the folders of runs in the namespace can be read."""
        with suppress(NoReader, ApiError):
            return bool(Archive(self.cluster, namespace).reader())
        return False

    def archive(self, run: ClusterRun) -> Archive:
        return archive_of(self.cluster, run)

    def object(self, run: ClusterRun) -> Mapping[str, Any] | None:
        """The run's Job, JobSet or TrainJob; None if it is deleted."""
        return owner_of(self.cluster, run)

    def pods(self, run: ClusterRun) -> list[Pod]:
        """The run's pods, oldest first."""
        if not run.has_pods:
            return []
        found = self.cluster.list(f"/api/v1/namespaces/{run.namespace}/pods", run.selector)
        return sorted((pod_in(run, one) for one in found), key=lambda pod: (pod.created, pod.name))

    def status(self, run: ClusterRun) -> Status:
        """The run's state. If its Job is deleted: as last seen, or as its record says."""
        obj, pods = self.object(run), self.pods(run)
        if obj is not None:
            found = state.state(obj, pods, run.nodes)
            if run.is_apart and found.state == "lost":
                with suppress(NoReader, ApiError):
                    return ended_by_folder(self.archive(run), run)
            return self._unqueued(run) or found if state.is_overdue(obj, found) else found
        if (ending := state.outlived(pods)) is not None:
            return ending
        if run.name in self._last:
            return self._last[run.name]
        with suppress(NoReader, ApiError):
            return ended_by_folder(self.archive(run), run)
        return Status("lost", KILLED, f"its {run.kind} was deleted")

    def follow(self, run: ClusterRun, rank: int | None = 0, begin: int = 0) -> Iterator[str]:
        """A rank's log, or that of all ranks with prefixes, to the run's end; ``begin``: from ``mark``."""
        if not run.job or self.object(run) is None:
            yield from archived(self.archive(run), run, rank)
            return
        after = datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if begin else ""
        why = partial(self.why, self.cluster, run)
        following = Following(self.cluster, run, rank=rank, begin=after, archive=self.archive(run), why=why)
        yield from following.pieces()
        self._note(run, following.view.status())

    def read(self, run: ClusterRun, rank: int | None = 0) -> Iterator[str]:
        """The log so far: from the pods if they have all of it, else from the archive."""
        obj = self.object(run)
        pods = self.pods(run) if obj is not None else []
        yield from so_far(self.cluster, self.archive(run), run, obj, pods, rank)

    def mark(self, run: ClusterRun) -> int:
        """The second in which the newest pod was created: a follower from there reads pods created later."""
        return max((int(datetime.fromisoformat(pod.created).timestamp()) for pod in self.pods(run)), default=0)

    def ranks(self, run: ClusterRun) -> list[int]:
        return list(range(run.ranks_a_node * run.nodes))

    def place(self, run: ClusterRun) -> str:
        return str(run.path)

    def evidence(self, run: ClusterRun) -> Evidence:
        return gather(self.cluster, run)

    def next_steps(self, run: ClusterRun, record: Mapping[str, Any]) -> list[str]:
        download = f"download {run.name} -n {run.namespace}"
        learned = [f"learned {run.name} -n {run.namespace}"] if (record.get("result") or {}).get("learned") else []
        return [download, *learned, f"tensorboard -n {run.namespace}", *another_rate(record, f"submit -n {run.namespace}")]

    def tail(self, run: ClusterRun) -> list[str]:
        """The last lines of the first rank: of its pod, else of its metrics in the archive, else none."""
        for pod in reversed(self.pods(run)):
            if (pod.index or 0) == 0 and has_started(pod):
                with suppress(ApiError):
                    return [line.removeprefix("[rank 0] ") for line in last_lines(self.cluster, run, pod, _TAIL)]
        with suppress(NoReader, ApiError):
            return self.archive(run).steps(run)
        return []

    def words(self, run: ClusterRun) -> str:
        """The last lines of the newest pod that has started, if no rank has printed anything."""
        for pod in reversed(self.pods(run)):
            if has_started(pod):
                with suppress(ApiError):
                    text = "\n".join(last_lines(self.cluster, run, pod, 30))
                    return "" if "[rank " in text else text
        return ""

    def record(self, run: ClusterRun) -> dict[str, Any]:
        """The record in the run's folder; empty if it cannot be read."""
        with suppress(NoReader, ApiError):
            return self.archive(run).record(run)
        return {}

    def file(self, run: ClusterRun, path: str) -> str | None:
        """The text of a file in the run's folder; None if it is missing or no reader pod runs."""
        with suppress(NoReader, ApiError):
            return self.archive(run).file(run, path)
        return None

    def checkpoints(self, run: ClusterRun) -> list[str]:
        with suppress(NoReader, ApiError):
            return self.archive(run).checkpoints(run)
        return []

    def unseen(self, run: ClusterRun) -> int:
        return self._unseen.get(run.name, 0)

    def grace(self, run: ClusterRun) -> int:
        """Seconds between the request to stop and SIGKILL."""
        obj = self.object(run)
        pod = {} if obj is None else template_of(obj)["spec"]
        return int(pod.get("terminationGracePeriodSeconds") or _GRACE)

    def stop(self, run: ClusterRun, *, now: bool = False) -> Status:
        """Asks the run to write a checkpoint and end, and returns at once; ``now``: kills its pods and waits for their end.

        Raises UsageError for a point whose Job has all points of its sweep, where an earlier version has rendered it.
        """
        obj = self.object(run)
        before = self.status(run)
        if before.is_over:
            return before
        if run.index is not None and obj is not None:
            if not can_stop(obj):
                _check_whole(run, "stop")
            self._unseen[run.name] = stop_point(self.cluster, run, obj, now=now)
            return self._killed(run) if now else before
        if obj is None and now:  # pods that outlive it, for example on a node that does not answer
            return self._killed(run)
        if obj is None:  # those that run on without it write a checkpoint when they are deleted
            for pod in self.pods(run) if before.state == "running" else ():
                self.cluster.delete(f"/api/v1/namespaces/{run.namespace}/pods/{pod.name}")
            return before
        at = self.cluster.now().isoformat(timespec="seconds")
        annotations = {state.STOPPED: state.stop_time(obj) or at} | ({state.ABORTED: at} if now else {})
        if state.queue_of(obj) is None:
            self.cluster.patch(run.place, {"metadata": {"annotations": annotations}, "spec": {"suspend": True}})
        else:
            # Kueue would admit a suspended Job again. The run's folder stays.
            self.cluster.patch(run.place, {"metadata": {"annotations": annotations}})
            delete_owner(self.cluster, run, obj["metadata"]["uid"], propagation="Foreground")
        return self._killed(run) if now else before

    def _killed(self, run: ClusterRun) -> Status:
        """Deletes the run's pods at once, and returns its state when none is left."""
        for pod in self.pods(run):
            self.cluster.delete(f"/api/v1/namespaces/{run.namespace}/pods/{pod.name}", grace=0)
        self._last[run.name] = Status("aborted", 130, "killed on request")
        deadline = time.monotonic() + _END
        while self.pods(run) and not (after := self.status(run)).is_over:
            if time.monotonic() > deadline:
                raise LauncherError(f"{run.name} is still {after.state}; its node may be down")
            time.sleep(0.5)
        return self.status(run)

    def wait(self, run: ClusterRun, say: Callable[[str], None]) -> None:
        """Returns when the run is over; ``say`` is told when the cluster cannot be reached."""
        if not run.job:
            return
        with View(self.cluster, run, Outage(say)) as view:
            seen = 0
            while not view.status().is_over:
                seen = view.wait(seen, 1.0)
                view.check()
            self._note(run, view.status())

    def resume(self, run: ClusterRun) -> ClusterRun:
        """Starts a run that is over again, in its own folder, and returns it as it is then; raises UsageError as ``stop``.

        Its Job exists: one that is deleted is made again from the run's folder, see ``launch.rebuilt``.
        """
        _check_whole(run, "resume")
        obj = self.object(run)
        if obj is None:
            raise LauncherError(f"{run.name}: its {run.kind} was deleted just now; retry with: launcher resume {run.name}")
        start_again(self.cluster, run, obj)
        self._last.pop(run.name, None)
        return replace(run, uid=str((self.object(run) or obj)["metadata"]["uid"]))

    def stays_stopped(self, run: ClusterRun) -> bool:
        """Whether a person has stopped this point alone: resuming its sweep does not start it."""
        obj = self.object(run)
        return obj is not None and state.is_stopped_alone(obj)

    def parallel(self, run: ClusterRun) -> int | None:
        """How many points of the sweep in one Job run at the same time; None where none of them can get a Job of its own."""
        obj = self.object(run)
        return state.parallel_of(obj) if obj is not None and can_stop(obj) else None

    def _note(self, run: ClusterRun, seen: Status) -> None:
        """Keeps how a run was last seen, for when its Job is deleted; its folder knows more than that it was lost."""
        if seen.state != "lost":
            self._last[run.name] = seen

    def forget(self, run: ClusterRun) -> None:
        """The run was created again: how it was last seen is no longer true."""
        self._last.pop(run.name, None)

    def remove(self, run: ClusterRun) -> list[str]:
        """Deletes the Job of a run that is over, and all that belongs to it; returns the kinds and names. Its folder stays."""
        _check_whole(run, "rm")
        if run.sweep is not None and run.point is not None:
            obj = self.object(run)
            note_end(self.cluster, run, self.status(run), None if obj is None else state.ended_at(obj))
        return removed(self.cluster, run)

    def attach(self, run: ClusterRun, node: int, command: Sequence[str], *, tty: bool) -> Attached:
        """A command inside the pod of the run's ``node``; raises as ``follow.attach``."""
        return attach(self.cluster, run, newest(self.pods(run)), node, command, tty=tty)

    def _unqueued(self, run: ClusterRun) -> Status | None:
        """The state of a run about which Kueue says nothing."""
        why = explain(self.evidence(run))
        return Status("starting", None, why.sentence) if why.cause == "no-controller" else None


def _check_whole(run: ClusterRun, verb: str) -> None:
    if run.index is not None:
        raise UsageError(
            f"{run.name} shares the Job {run.job} with the other points of {run.sweep}: {verb} the whole sweep\n"
            f"    hint:     {verb} the sweep with: launcher {verb} {run.sweep}"
        )
