"""View: what is known of one run's objects, kept up to date by watches while somebody looks."""

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
from .pods import has_ended, pod_of
from .run import ClusterRun

_PAUSE: Final = 1.0  # seconds before a watch that ended at once begins again
_AWAY: Final = 3.0  # seconds between two attempts to reach a server that is away


class Outage:
    """Says once that the server is away, and once that it is back. Threads share it."""

    def __init__(self, say: Callable[[str], None]):
        self._say, self._lock, self._is_away = say, threading.Lock(), False

    def away(self, error: LauncherError) -> None:
        with self._lock:
            said, self._is_away = self._is_away, True
        if not said:
            self._say(f"{str(error).splitlines()[0]}; waiting for it, the run goes on meanwhile")

    def back(self) -> None:
        with self._lock:
            said, self._is_away = self._is_away, False
        if said:
            self._say("the cluster answers again")


class View:
    """The Job or JobSet of a run and its pods, those included that are gone: how they ended is known from here alone."""

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
        """Returns when both lists are there; raises what they raise."""
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
        """Raises what ended the watches, if something did."""
        if self._failure is not None:
            raise self._failure

    @property
    def job(self) -> Mapping[str, Any] | None:
        """The object, None when it is deleted."""
        return self._job

    @property
    def is_closed(self) -> bool:
        return self._closed

    def pods(self) -> list[Pod]:
        """Every pod that is there, and those that are gone and had ended before; oldest first."""
        with self._changed:
            known = [pod for name, pod in self._pods.items() if name in self._there or has_ended(pod)]
        return sorted(known, key=lambda pod: (pod.created, pod.name))

    def alive(self) -> list[Pod]:
        """The pods that are there."""
        with self._changed:
            return sorted((self._pods[name] for name in self._there), key=lambda pod: (pod.created, pod.name))

    def pod(self, name: str) -> Pod | None:
        """The pod as it was last seen; None if it is gone."""
        with self._changed:
            return self._pods[name] if name in self._there else None

    def status(self) -> Status:
        job = self._job
        if job is not None:
            return state.state(job, self.pods(), self._run.nodes)
        return Status("stopping", None, "its Job was deleted") if self.alive() else state.gone(self.pods())

    def settle(self) -> None:
        """Lists the pods once more, after the Job has said that it is over: its watch may be ahead of theirs."""
        job = self._job
        version = str(job["metadata"].get("resourceVersion")) if job is not None else "gone"
        with self._settling:
            if self._settled == version:
                return
            try:
                page = self._cluster.get(self._pods_at, labelSelector=self._run.selector)
            except (ApiError, ClusterError):
                return  # its watch goes on, and says what is the matter
            with self._changed:
                self._set_pods(page.get("items") or [])
                self._notify()
            self._settled = version

    def wait(self, seen: int, seconds: float) -> int:
        """Waits for a change after version ``seen``; returns the version of now."""
        with self._changed:
            self._changed.wait_for(lambda: self.version != seen or self._closed, seconds)
            return self.version

    def _guarded(self, *watch: Any) -> None:
        try:
            self._keep(*watch)
        except Exception as error:  # whoever looks raises it
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
        """Lists, then watches from there; lists again when the server has forgotten where that was."""
        version: str | None = None
        while not self._closed:
            began = time.monotonic()
            try:
                if version is None:
                    page = self._cluster.get(path, labelSelector=labels, fieldSelector=fields)
                    version = str(page["metadata"]["resourceVersion"])
                    with self._changed:
                        self._listed += 1
                        replace(page.get("items") or [])
                        self._notify()
                    self._outage.back()
                for event in self._cluster.watch(path, version, labels, fieldSelector=fields):
                    version = str(event["object"]["metadata"]["resourceVersion"])
                    if event["type"] != "BOOKMARK":
                        with self._changed:
                            note(event["type"], event["object"])
                            self._notify()
                    if self._closed:
                        return
            except ApiError as error:
                if error.status == 410:
                    version = None
                    continue
                if error.status < 500 and error.status != 429:
                    raise
                version = None
                self._wait(error)
            except ClusterRefused:
                raise
            except ClusterError as error:
                if not self._listed:
                    raise
                version = None
                self._wait(error)
            if time.monotonic() - began < _PAUSE:
                time.sleep(_PAUSE)

    def _wait(self, error: LauncherError) -> None:
        """Waits for a server that is away; what it told before is listed again, as the first sign that it is back."""
        self._outage.away(error)
        time.sleep(_AWAY)

    def _notify(self) -> None:
        self.version += 1
        self._changed.notify_all()

    def _set_jobs(self, found: list[dict[str, Any]]) -> None:
        self._job = next(iter(found), None)

    def _note_job(self, kind: str, obj: dict[str, Any]) -> None:
        self._job = None if kind == "DELETED" else obj

    def _set_pods(self, found: list[dict[str, Any]]) -> None:
        pods = [pod_of(obj) for obj in found]
        self._there = {pod.name for pod in pods}
        self._pods.update((pod.name, pod) for pod in pods)

    def _note_pod(self, kind: str, obj: dict[str, Any]) -> None:
        pod = pod_of(obj)
        self._pods[pod.name] = pod
        (self._there.discard if kind == "DELETED" else self._there.add)(pod.name)
