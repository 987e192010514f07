"""Following: a run's log over all its pods, while they come and go; from the pods' logs, and then from the archive."""

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
from .pods import has_ended
from .point import pod_in
from .ranklog import RankLog
from .run import ClusterRun
from .silence import Silence
from .view import Outage, View

GIVE_UP: Final = 300  # seconds that an image pull may fail until a follower gives up
_TICK: Final = 0.2  # seconds between two pieces while there is no output
_ASK: Final = 10.0  # seconds between two explanations of a run that does not start
_AWAY: Final = 3.0  # seconds until a failed read of a log is retried
_UNKNOWN: Final = 0.5  # seconds until a log that does not exist yet is retried
_LINGER: Final = 150.0  # seconds after a run's end to wait for logs that have not ended
_KEPT: Final = 32  # lines by which a position in a pod's log is found in the archive

Why = Callable[[], Explanation | None]


class Following:
    """A run's log, from its first pod created after ``begin`` (time in ISO form) to the run's end.

    ``rank`` None: all ranks, with a prefix. ``why`` explains a run that does not start.
    """

    def __init__(self, cluster: Cluster, run: ClusterRun, *, rank: int | None, begin: str, archive: Archive, why: Why):
        self._cluster, self._run, self._rank, self._begin, self._archive = cluster, run, rank, begin, archive
        self._why, self._waiting_for, self._asked, self._unpulled = why, "", 0.0, 0.0
        self._out: queue.Queue[str | Exception] = queue.Queue(maxsize=256)
        self._outage = Outage(self._say)
        self._has_lines = False  # of any rank, or of the entry
        self.view = View(cluster, run, self._outage)

    def pieces(self) -> Iterator[str]:
        """Whole lines in pieces; an empty piece several times a second while there is no output.

        Raises ApiError and ClusterError, and LauncherError if an image cannot be pulled for minutes.
        """
        with self.view:
            threads = [threading.Thread(target=self._guarded, args=(node,), daemon=True) for node in self._nodes()]
            for thread in threads:
                thread.start()
            over, silence = 0.0, Silence(self._run)
            while True:
                are_done = not any(thread.is_alive() for thread in threads)  # before the read, which then sees all output
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
                if (words := silence.words(is_running=status.state == "running", has_lines=self._has_lines)) is not None:
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
        """What the run waits for, if that has changed."""
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
            sentence = found.sentence if found is not None else "its image cannot be pulled"
            hint = f"\n    hint:     {found.suggestion}" if found is not None else ""
            raise LauncherError(
                f"{self._run.name}: {sentence}; unchanged for {GIVE_UP // 60} minutes\n"
                f"    the run still waits; remove it with: launcher stop {self._run.name}{hint}"
            )
        if found is None or found.sentence == self._waiting_for:
            return None
        self._waiting_for = found.sentence
        return f"waiting: {found.sentence}\n"

    def _nodes(self) -> list[int]:
        """The nodes of the run whose pods have the wanted ranks."""
        return list(range(self._run.nodes)) if self._rank is None else [self._rank // self._run.ranks_a_node]

    def _guarded(self, node: int) -> None:
        try:
            self._node(node)
        except Exception as error:  # ``_next`` raises it
            self._out.put(error)

    def _node(self, node: int) -> None:
        """All pods of one node of the run, one after the other: first the log of the older pod to its end."""
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
        """The oldest wanted pod of the node that was not read yet."""
        mine = [pod for pod in self.view.pods() if (pod.index or 0) == node and pod.created > self._begin]
        return next((pod for pod in mine if pod.name not in done), None)

    def _pod(self, pod: Pod, recent: RecentLines) -> bool:
        """The log of ``pod`` to its end; False if the pod was deleted before."""
        position = Position()

        def ended() -> bool:
            now = self.view.pod(pod.name)
            return now is None or has_ended(now)

        trouble = Outage(self._say)
        while not self.view.is_closed:
            try:
                for batch in pod_log(self._cluster, self._run.namespace, pod.name, self._run.container, ended, position):
                    self._put(batch, pod.index or 0, recent)
                    trouble.back()
                    if self.view.is_closed:
                        return True
                return True
            except ClusterRefused:
                raise
            except ClusterError:
                pass  # the view reports that the server is away, and waits too
            except ApiError as error:
                if error.status == 404 and self._is_pending(pod):
                    time.sleep(_UNKNOWN)
                    continue
                if error.status in (400, 404):  # 400: it ended without a container
                    return error.status == 400
                if error.status < 500 and error.status != 429:
                    raise
                trouble.away(error)
            time.sleep(_AWAY)
        return True

    def _is_pending(self, pod: Pod) -> bool:
        """Whether a pod without a log exists, and its kubelet does not know it yet."""
        try:
            found = self._cluster.get(f"/api/v1/namespaces/{self._run.namespace}/pods/{pod.name}")
        except (ApiError, ClusterError):
            return False
        return pod_in(self._run, found).phase == "Pending" and "deletionTimestamp" not in found["metadata"]

    def _from_archive(self, node: int, pod: Pod | None, recent: RecentLines) -> bool:
        """The ranks' output after the last line read from their pod, to the run's end; False if it cannot be read."""
        try:
            self._archive.reader()
        except (NoReader, ApiError):
            if pod is None:
                raise
            unread = "its last output is on the claim with the runs, which no pod can read (see: launcher doctor --cluster)"
            self._say(f"{pod.name} was deleted; {unread}")
            return False
        first = node * self._run.ranks_a_node
        ranks = range(first, first + self._run.ranks_a_node) if self._rank is None else [self._rank]
        logs, trouble = [RankLog(rank, recent.of(rank)) for rank in ranks], Outage(self._say)
        while True:
            over = self.view.status().is_over or self.view.is_closed  # before the read: the last one then sees all
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
        self._has_lines = self._has_lines or bool(batch)
        text = shown(batch, self._rank, node, self._run.nodes)
        if text:
            self._out.put(text)

    def _say(self, words: str) -> None:
        self._out.put(f"{words}\n")


class RecentLines:
    """The last lines of each rank, by which the position in its file is found."""

    def __init__(self, kept: int):
        self._kept = kept
        self._lines: dict[int, deque[str]] = {}

    def add(self, batch: list[Line]) -> None:
        for line in batch:
            if line.rank is not None and line.text:
                self._lines.setdefault(line.rank, deque(maxlen=self._kept)).append(line.text)

    def of(self, rank: int) -> list[str]:
        return list(self._lines.get(rank, ()))
