"""Following: the log of a run over all its pods, while they come and go, from the cluster's own log and then the archive's."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from ....errors import LauncherError
from ....why import Explanation, Pod
from ....why.image import WAITING
from ..api.cluster import ApiError, Cluster, ClusterError, ClusterRefused
from .archive import Archive, NoReader
from .logs import Line, Position, pod_log, shown
from .pods import has_ended, pod_of
from .ranklog import RankLog
from .run import ClusterRun
from .view import Outage, View

GIVE_UP: Final = 300  # seconds for which an image may fail to come before a follower goes away
_TICK: Final = 0.2  # seconds between two pieces while nothing is said
_ASK: Final = 10.0  # seconds between two questions why a run does not begin
_AWAY: Final = 3.0  # seconds before a log that could not be read is asked for again
_UNKNOWN: Final = 0.5  # seconds before a log that nobody has heard of yet is asked for again
_LINGER: Final = 150.0  # seconds after a run's end for which logs that do not end are waited for
_KEPT: Final = 32  # lines by which the place of a log is found again in the archive

Why = Callable[[], Explanation | None]


class Following:
    """One look at a run's log, from its first pod that was created after ``begin`` (the time in ISO form), to the run's end.

    ``rank`` None is all of them, with a prefix. ``why`` says what a run that does not begin is waiting for.
    """

    def __init__(self, cluster: Cluster, run: ClusterRun, *, rank: int | None, begin: str, archive: Archive, why: Why):
        self._cluster, self._run, self._rank, self._begin, self._archive = cluster, run, rank, begin, archive
        self._why, self._waiting_for, self._asked, self._unpulled = why, "", 0.0, 0.0
        self._out: queue.Queue[str | Exception] = queue.Queue(maxsize=256)
        self._outage = Outage(self._say)
        self.view = View(cluster, run, self._outage)

    def pieces(self) -> Iterator[str]:
        """Whole lines in pieces, an empty one several times a second while there is none.

        Raises what the cluster refuses, and LauncherError where an image does not come for minutes.
        """
        with self.view:
            threads = [threading.Thread(target=self._guarded, args=(node,), daemon=True) for node in self._nodes()]
            for thread in threads:
                thread.start()
            over = 0.0
            while True:
                are_done = not any(thread.is_alive() for thread in threads)  # before the look, so that it sees all
                yield self._next()
                self.view.check()
                if are_done and self._out.empty():
                    return
                status = self.view.status()
                over = (over or time.monotonic()) if status.is_over else 0.0
                if over and time.monotonic() - over > _LINGER and self._out.empty():
                    return
                if status.state == "starting" and (words := self._pending()) is not None:
                    yield words

    def _next(self) -> str:
        try:
            pieces = [self._out.get(timeout=_TICK)]
        except queue.Empty:
            return ""
        with suppress(queue.Empty):
            while len(pieces) < 64:
                pieces.append(self._out.get_nowait())
        text = ""
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            text += piece
        return text

    def _pending(self) -> str | None:
        """What the run waits for, if that is news."""
        pods = self.view.alive()
        unpulled = any(pod.container is not None and pod.container.reason in WAITING for pod in pods)
        now = time.monotonic()
        self._unpulled = (self._unpulled or now) if unpulled else 0.0
        gives_up = unpulled and now - self._unpulled > GIVE_UP
        if not gives_up and now - self._asked < _ASK:
            return None
        self._asked = now
        found = self._why()
        if gives_up:
            sentence = found.sentence if found is not None else "its image is not pulled"
            hint = f"\n    hint:     {found.suggestion}" if found is not None else ""
            raise LauncherError(
                f"{self._run.name}: {sentence}; nothing has changed for {GIVE_UP // 60} minutes\n"
                f"    the run is still there: `launcher stop {self._run.name}` takes it away{hint}"
            )
        if found is None or found.sentence == self._waiting_for:
            return None
        self._waiting_for = found.sentence
        return f"waiting: {found.sentence}\n"

    def _nodes(self) -> list[int]:
        """The nodes of the run whose pods have the ranks that are wanted."""
        return list(range(self._run.nodes)) if self._rank is None else [self._rank // self._run.ranks_a_node]

    def _guarded(self, node: int) -> None:
        try:
            self._node(node)
        except Exception as error:  # whoever follows raises it
            self._out.put(error)

    def _node(self, node: int) -> None:
        """All the pods of one node of the run, one after the other: the log of an old one is finished first."""
        recent = RecentLines(_KEPT)
        done: set[str] = set()
        seen = 0
        while not self.view.is_closed:
            is_over = self.view.status().is_over
            if is_over:
                self.view.settle()
            pod = self._next_pod(node, done)
            if pod is not None:
                done.add(pod.name)
                if not self._pod(pod, recent) and self._from_archive(node, pod, recent):
                    return
            elif is_over:
                if not done and not self._begin:
                    self._from_archive(node, None, recent)
                return
            else:
                seen = self.view.wait(seen, 1.0)

    def _next_pod(self, node: int, done: set[str]) -> Pod | None:
        """The oldest pod of the node that was not read yet, of those that are wanted."""
        mine = [pod for pod in self.view.pods() if (pod.index or 0) == node and pod.created > self._begin]
        return next((pod for pod in mine if pod.name not in done), None)

    def _pod(self, pod: Pod, recent: RecentLines) -> bool:
        """The log of ``pod`` to its end; False if the pod was gone before that."""
        position = Position()

        def ended() -> bool:
            now = self.view.pod(pod.name)
            return now is None or has_ended(now)

        trouble = Outage(self._say)
        while not self.view.is_closed:
            try:
                for batch in pod_log(self._cluster, self._run.namespace, pod.name, ended, position):
                    self._put(batch, pod.index or 0, recent)
                    trouble.back()
                    if self.view.is_closed:
                        return True
                return True
            except ClusterRefused:
                raise
            except ClusterError:
                pass  # the view says that the server is away, and waits for it too
            except ApiError as error:
                if error.status == 404 and self._is_pending(pod):
                    time.sleep(_UNKNOWN)
                    continue
                if error.status in (400, 404):  # 400: it ended without ever having had a container
                    return error.status == 400
                if error.status < 500 and error.status != 429:
                    raise
                trouble.away(error)
            time.sleep(_AWAY)
        return True

    def _is_pending(self, pod: Pod) -> bool:
        """Whether a pod whose log is not found is there, and only its kubelet has not heard of it yet."""
        try:
            found = self._cluster.get(f"/api/v1/namespaces/{self._run.namespace}/pods/{pod.name}")
        except (ApiError, ClusterError):
            return False
        return pod_of(found).phase == "Pending" and "deletionTimestamp" not in found["metadata"]

    def _from_archive(self, node: int, pod: Pod | None, recent: RecentLines) -> bool:
        """What ranks have said since the last line that came of their pod, to the run's end; False where nothing can read it."""
        try:
            self._archive.reader()
        except (NoReader, ApiError):
            if pod is None:
                raise
            unread = "what it said last is on the runs' claim, which nothing can read (`launcher doctor --cluster` says why)"
            self._say(f"{pod.name} went away; {unread}")
            return False
        first = node * self._run.ranks_a_node
        ranks = range(first, first + self._run.ranks_a_node) if self._rank is None else [self._rank]
        logs, trouble = [RankLog(rank, recent.of(rank)) for rank in ranks], Outage(self._say)
        while True:
            over = self.view.status().is_over or self.view.is_closed  # before the look, so that the last one sees all
            try:
                for log in logs:
                    self._put(log.feed(self._archive.log(self._run, log.rank, log.offset) or b""), node, recent)
            except ClusterRefused:
                raise
            except (NoReader, ApiError, ClusterError) as error:
                trouble.away(error)
            else:
                trouble.back()
                if over:
                    for log in logs:
                        self._put(log.close(), node, recent)
                    return True
            if self.view.is_closed:
                return True
            time.sleep(_AWAY)

    def _put(self, batch: list[Line], node: int, recent: RecentLines) -> None:
        recent.add(batch)
        text = shown(batch, self._rank, node, self._run.nodes)
        if text:
            self._out.put(text)

    def _say(self, words: str) -> None:
        self._out.put(f"{words}\n")


class RecentLines:
    """The last lines of each rank, by which their place in its file is found."""

    def __init__(self, kept: int):
        self._kept = kept
        self._lines: dict[int, deque[str]] = {}

    def add(self, batch: list[Line]) -> None:
        for line in batch:
            if line.rank is not None and line.text:
                self._lines.setdefault(line.rank, deque(maxlen=self._kept)).append(line.text)

    def of(self, rank: int) -> list[str]:
        return list(self._lines.get(rank, ()))
