"""A pod's log, line by line: no line lost and none twice, however often the connection drops. Pure but for ``pod_log``."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ..api.cluster import ApiError, Cluster
from ..render.pod import CONTAINER

_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_RANK: Final = re.compile(r"\[rank (\d+)\] ?")
_SLACK: Final = 1  # seconds by which stamps may be out of order: a runtime stamps the two streams of a container apart
_LONGEST: Final = 16384  # bytes of a line that a runtime keeps whole
_PAUSE: Final = 0.5  # seconds before a log is asked for again
# At a log that has ended: one that is empty, was rotated away, or stops within a line, has no last line by which to tell its end.
_LOOKS: Final = 24


class Line(NamedTuple):
    """What a rank has said, or the pod's entry, whose ``rank`` is None."""

    rank: int | None
    text: str


@dataclass
class Position:
    """How far a log was read: the stamps of its last seconds and how many lines had each."""

    _seconds: dict[int, Counter[str]] = field(default_factory=dict)
    _newest: int | None = None
    _known: tuple[str, int] = ("", 0)

    @property
    def since(self) -> str | None:
        """``sinceTime`` of a request that goes on here; None at the beginning."""
        if self._newest is None:
            return None
        return datetime.fromtimestamp(self._newest - _SLACK, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def attach(self) -> Callable[[str], bool]:
        """For the lines of one answer to a request with ``since``, in their order: whether a line with this stamp is new.

        The server has all lines from ``since`` on and in their order, so as many lines of a stamp are old as were seen of it.
        """
        old = Counter[str]()
        for seen in self._seconds.values():
            old += seen

        def is_new(stamp: str) -> bool:
            if old[stamp] > 0:
                old[stamp] -= 1
                return False
            self._note(stamp)
            return True

        return is_new

    def seen(self, stamp: str) -> int:
        """How many lines with this stamp were seen, as far back as is remembered."""
        return self._seconds.get(self._second(stamp), Counter[str]())[stamp]

    @property
    def most(self) -> int:
        """How many lines with the same stamp were seen at most, as far back as is remembered."""
        return max((count for stamps in self._seconds.values() for count in stamps.values()), default=0)

    def _note(self, stamp: str) -> None:
        second = self._second(stamp)
        if self._newest is None or second > self._newest:
            self._newest = second
            for past in [one for one in self._seconds if one < second - _SLACK]:
                del self._seconds[past]
        if second >= self._newest - _SLACK:
            self._seconds.setdefault(second, Counter())[stamp] += 1

    def _second(self, stamp: str) -> int:
        # Of a thousand lines a second most have their second from the line before.
        if not stamp.startswith(self._known[0]) or not self._known[0]:
            zone = "+00:00" if stamp.endswith("Z") else stamp[-6:]
            self._known = (stamp[:19], int(datetime.fromisoformat(stamp[:19] + zone).timestamp()))
        return self._known[1]


@dataclass
class Cut:
    """Pieces of an answer with ``timestamps``, cut anywhere, become (stamp, line). ``rest``: a last line without an end."""

    rest: bytes = b""

    def feed(self, piece: bytes) -> list[tuple[str, str]]:
        *whole, self.rest = (self.rest + piece).split(b"\n")
        return [one for line in whole if (one := _split(line)) is not None]


def lines(text: str, rank: int | None = None) -> Iterator[Line]:
    """What one line of a pod's output says: the rank of its prefix, and a line for every carriage return in it."""
    for part in text.removesuffix("\r").split("\r"):
        found = _RANK.match(part)
        if found:
            rank = int(found[1])
            yield Line(rank, part[found.end() :])
        else:
            yield Line(rank, part)


def shown(batch: Iterable[Line], rank: int | None, node: int, nodes: int) -> str:
    """What a person sees of the lines of a pod, who wants those of ``rank``, or of all with a prefix (None).

    What an entry says itself belongs to the first rank, as there is one entry a node.
    """
    if rank is not None:
        return "".join(f"{line.text}\n" for line in batch if line.rank == rank or (line.rank is None and rank == 0))
    own = "" if nodes == 1 else f"[node {node}] "
    return "".join(f"{own if line.rank is None else f'[rank {line.rank}] '}{line.text}\n" for line in batch)


def pod_log(
    cluster: Cluster, namespace: str, pod: str, has_ended: Callable[[], bool], position: Position | None = None
) -> Iterator[list[Line]]:
    """The log of a pod from ``position``, or its beginning, to its container's end, in batches; an empty one now and then.

    ``has_ended``: whether the container will not say another word. Raises ApiError where the pod is gone (404) or its log is
    refused, ClusterError where the server is away: called again with the same ``position`` it goes on.
    """
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    position, looks = Position() if position is None else position, 0
    while True:
        ended = has_ended()  # before the look at the log, so that the last look sees all of it
        is_new, cut, began = position.attach(), Cut(), time.monotonic()
        asked: dict[str, Any] = {"container": CONTAINER, "timestamps": "true", "sinceTime": position.since}
        try:
            for piece in cluster.stream(path, follow=str(not ended).lower(), **asked):
                yield [line for stamp, text in cut.feed(piece) if is_new(stamp) for line in lines(text)]
            looks += ended
            if ended and (looks >= _LOOKS or (not cut.rest and _is_end(cluster, path, position))):
                yield [line for stamp, text in cut.feed(b"\n") for line in lines(text)]
                return
        except ApiError as error:
            # 400: its container has not started. It may also have ended without ever having been there.
            if error.status != 400 or ended:
                raise
        yield []
        if not ended and time.monotonic() - began < _PAUSE:
            time.sleep(_PAUSE)


def _is_end(cluster: Cluster, path: str, position: Position) -> bool:
    """Whether a log was read to its end. An answer that was cut off looks like a whole one, so the last line is asked for, with
    as many before it as may have its stamp and were not seen."""
    text = b"".join(cluster.stream(path, container=CONTAINER, timestamps="true", tailLines=position.most + 1))
    *whole, unended = text.split(b"\n")
    if unended:
        return False
    stamps = [found[0] for line in whole if (found := _split(line)) is not None]
    # No line at all may be an answer that was cut off at once.
    return bool(stamps) and stamps.count(stamps[-1]) <= position.seen(stamps[-1])


def _split(line: bytes) -> tuple[str, str] | None:
    """Stamp and text of a line; None for the kubelet's own words, which have no stamp."""
    text = line.decode("utf-8", "replace")
    stamp, _, rest = text.partition(" ")
    if not _STAMP.fullmatch(stamp):
        return None
    return stamp, _joined(rest) if len(rest) > _LONGEST else rest


def _joined(text: str) -> str:
    """A line that the runtime cut in pieces, of which the kubelet stamps each but ends only the last."""
    raw, parts = text.encode("utf-8"), list[bytes]()
    while len(raw) > _LONGEST:
        part, raw = raw[:_LONGEST], raw[_LONGEST:]
        parts.append(part)
        head = raw[:40].decode("ascii", "replace").partition(" ")[0]
        if not _STAMP.fullmatch(head):
            break  # another runtime, another length: as it came
        raw = raw[len(head) + 1 :]
    return b"".join([*parts, raw]).decode("utf-8", "replace")
