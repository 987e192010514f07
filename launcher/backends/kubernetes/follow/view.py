"""View: a run's objects, kept up to date by watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from ....errors import LauncherError
from ....why import Pod
from ... import Status
from ..api.cluster import ApiError, Cluster, ClusterError, ClusterRefused
from . import state
from .pods import has_ended
from .point import part_of, pod_in
from .run import ClusterRun

_PAUSE: Final = 1.0  # seconds until a watch that ended at once is started again
_AWAY: Final = 3.0  # seconds between two attempts to reach a server


class Outage:
    """Reports once that the server cannot be reached, and once that it is back. Threads share it."""

    def __init__(self, say: Callable[[str], None]):
        self._say, self._lock, self._is_away = say, threading.Lock(), False

    def away(self, error: LauncherError) -> None:
        with self._lock:
            said, self._is_away = self._is_away, True
        if not said:
            self._say(f"{str(error).splitlines()[0]}; retrying, the run continues")

    def back(self) -> None:
        with self._lock:
            said, self._is_away = self._is_away, False
        if said:
            self._say("the cluster answers again")


class View:
    """The Job or JobSet of a run and its pods, including deleted ones: only this shows how they ended."""

    def __init__(self, cluster: Cluster, run: ClusterRun, outage: Outage):
        self._cluster, self._run, self._outage = cluster, run, outage
        self._job: Mapping[str, Any] | None = None
        self._pods: dict[str, Pod] = {}
        self._there: set[str] = set()
        self._listed = 0
        self._closed = False
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._settling = threading.Lock()
        self._settled = ""
        self._pods_at = f"/api/v1/namespaces/{run.namespace}/pods"
        self.version = 0  # grows with every change

    def __enter__(self) -> View:
        """Returns when both lists have arrived; raises what they raise."""
        kinds, _, name = self._run.place.rpartition("/")
        watches = (
            (kinds, None, f"metadata.name={name}", self._set_jobs, self._note_job),
            (self._pods_at, self._run.selector, None, self._set_pods, self._note_pod),
        )
        for watch in watches:
            threading.Thread(target=self._guarded, args=watch, daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._listed >= 2 or self._failure is not None)
        self.check()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def check(self) -> None:
        """Raises the exception that ended the watches, if any."""
        if self._failure is not None:
            raise self._failure

    @property
    def job(self) -> Mapping[str, Any] | None:
        """The object; None if it is deleted."""
        return self._job

    @property
    def is_closed(self) -> bool:
        return self._closed

    def pods(self) -> list[Pod]:
        """Every pod, including deleted ones that had ended before; oldest first."""
        with self._changed:
            known = [pod for name, pod in self._pods.items() if name in self._there or has_ended(pod)]
        return sorted(known, key=lambda pod: (pod.created, pod.name))

    def alive(self) -> list[Pod]:
        """The pods that are not deleted."""
        with self._changed:
            return sorted((self._pods[name] for name in self._there), key=lambda pod: (pod.created, pod.name))

    def pod(self, name: str) -> Pod | None:
        """The pod as last seen; None if it is deleted."""
        with self._changed:
            return self._pods[name] if name in self._there else None

    def status(self) -> Status:
        job = self._job
        if job is not None:
            return state.state(job, self.pods(), self._run.nodes)
        return state.outlived(self.alive()) or state.gone(self.pods())

    def settle(self) -> None:
        """Lists the pods again once the Job is over: its watch may be ahead of theirs."""
        job = self._job
        version = str(job["metadata"].get("resourceVersion")) if job is not None else "gone"
        with self._settling:
            if self._settled == version:
                return
            try:
                page = self._cluster.get(self._pods_at, labelSelector=self._run.selector)
            except (ApiError, ClusterError):
                return  # its watch continues, and reports the failure
            with self._changed:
                self._set_pods(page.get("items") or [])
                self._notify()
            self._settled = version

    def wait(self, seen: int, seconds: float) -> int:
        """Waits for a change after version ``seen``; returns the current version."""
        with self._changed:
            self._changed.wait_for(lambda: self.version != seen or self._closed, seconds)
            return self.version

    def _guarded(self, *watch: Any) -> None:
        try:
            self._keep(*watch)
        except Exception as error:  # ``check`` raises it
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _keep(
        self,
        path: str,
        labels: str | None,
        fields: str | None,
        replace: Callable[[list[dict[str, Any]]], None],
        note: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """Lists, then watches from there; lists again when the server no longer has that version."""
        version: str | None = None
        while not self._closed:
            began = time.monotonic()
            try:
                if version is None:
                    version = self._list(path, labels, fields, replace)
                for event in self._cluster.watch(path, version, labels, fieldSelector=fields):
                    version = str(event["object"]["metadata"]["resourceVersion"])
                    if event["type"] != "BOOKMARK":
                        with self._changed:
                            note(event["type"], event["object"])
                            self._notify()
                    if self._closed:
                        return
            except (ApiError, ClusterError) as error:
                version = None
                if not self._can_retry(error):
                    raise
                if not (isinstance(error, ApiError) and error.status == 410):
                    self._wait(error)
            if time.monotonic() - began < _PAUSE:
                time.sleep(_PAUSE)

    def _list(self, path: str, labels: str | None, fields: str | None, replace: Callable[[list[dict[str, Any]]], None]) -> str:
        """Lists, and returns the version of the list."""
        page = self._cluster.get(path, labelSelector=labels, fieldSelector=fields)
        with self._changed:
            self._listed += 1
            replace(page.get("items") or [])
            self._notify()
        self._outage.back()
        return str(page["metadata"]["resourceVersion"])

    def _can_retry(self, error: ApiError | ClusterError) -> bool:
        """Whether a failed list or watch is retried: 410 is an outdated version, the others an unreachable or busy server."""
        if isinstance(error, ApiError):
            return error.status in (410, 429) or error.status >= 500
        return not isinstance(error, ClusterRefused) and bool(self._listed)

    def _wait(self, error: LauncherError) -> None:
        """Waits for a server that cannot be reached; the next list shows whether it is back."""
        self._outage.away(error)
        time.sleep(_AWAY)

    def _notify(self) -> None:
        self.version += 1
        self._changed.notify_all()

    def _set_jobs(self, found: list[dict[str, Any]]) -> None:
        self._job = next((part_of(self._run, one) for one in found), None)

    def _note_job(self, kind: str, obj: dict[str, Any]) -> None:
        self._job = None if kind == "DELETED" else part_of(self._run, obj)

    def _set_pods(self, found: list[dict[str, Any]]) -> None:
        pods = [pod_in(self._run, obj) for obj in found]
        self._there = {pod.name for pod in pods}
        self._pods.update((pod.name, pod) for pod in pods)

    def _note_pod(self, kind: str, obj: dict[str, Any]) -> None:
        pod = pod_in(self._run, obj)
        self._pods[pod.name] = pod
        (self._there.discard if kind == "DELETED" else self._there.add)(pod.name)
