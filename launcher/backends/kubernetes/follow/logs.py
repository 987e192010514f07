"""A pod's log, line by line: none is lost or repeated, however often the connection drops. Pure, except ``pod_log``."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ..api.cluster import ApiError, Cluster

_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_RANK: Final = re.compile(r"\[rank (\d+)\] ?")
_SLACK: Final = 1  # seconds by which stamps may be out of order: a runtime stamps stdout and stderr independently
_LONGEST: Final = 16384  # bytes up to which a runtime does not split a line
_PAUSE: Final = 0.5  # seconds until a log is requested again
# Reads of a log that has ended: an empty, rotated or cut one has no last line by which to tell its end.
_LOOKS: Final = 24


class Line(NamedTuple):
    """A line of a rank, or of the pod's entry, whose ``rank`` is None."""

    rank: int | None
    text: str


@dataclass
class Position:
    """How far a log was read: the stamps of its last seconds, and the number of lines with each."""

    _seconds: dict[int, Counter[str]] = field(default_factory=dict)
    _newest: int | None = None
    _known: tuple[str, int] = ("", 0)

    @property
    def since(self) -> str | None:
        """``sinceTime`` of a request that continues here; None at the beginning."""
        if self._newest is None:
            return None
        return datetime.fromtimestamp(self._newest - _SLACK, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def attach(self) -> Callable[[str], bool]:
        """For the lines of one answer to a request with ``since``, in their order: whether a line with this stamp is new.

        The server sends all lines from ``since`` in their order: of the lines with a stamp, as many are old as were seen with it.
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
        """How many lines with this stamp were seen, in the remembered seconds."""
        return self._seconds.get(self._second(stamp), Counter[str]())[stamp]

    @property
    def most(self) -> int:
        """The largest number of lines with the same stamp, in the remembered seconds."""
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
        # A cache: most lines have the same second as the line before.
        if not stamp.startswith(self._known[0]) or not self._known[0]:
            zone = "+00:00" if stamp.endswith("Z") else stamp[-6:]
            self._known = (stamp[:19], int(datetime.fromisoformat(stamp[:19] + zone).timestamp()))
        return self._known[1]


@dataclass
class Cut:
    """Turns pieces of an answer with ``timestamps``, cut anywhere, into (stamp, line). ``rest``: a last line without an end."""

    rest: bytes = b""

    def feed(self, piece: bytes) -> list[tuple[str, str]]:
        *whole, self.rest = (self.rest + piece).split(b"\n")
        return [one for line in whole if (one := _split(line)) is not None]


def lines(text: str, rank: int | None = None) -> Iterator[Line]:
    """One line of a pod's output as lines: with the rank of its prefix, split at carriage returns."""
    for part in text.removesuffix("\r").split("\r"):
        found = _RANK.match(part)
        if found:
            rank = int(found[1])
            yield Line(rank, part[found.end() :])
        else:
            yield Line(rank, part)


def shown(batch: Iterable[Line], rank: int | None, node: int, nodes: int) -> str:
    """The lines of a pod as shown: those of ``rank``, or those of all ranks with a prefix (None).

    Lines of the entry itself belong to the first rank, as there is one entry per node.
    """
    if rank is not None:
        return "".join(f"{line.text}\n" for line in batch if line.rank == rank or (line.rank is None and rank == 0))
    own = "" if nodes == 1 else f"[node {node}] "
    return "".join(f"{own if line.rank is None else f'[rank {line.rank}] '}{line.text}\n" for line in batch)


def pod_log(
    cluster: Cluster, namespace: str, pod: str, container: str, has_ended: Callable[[], bool], position: Position | None = None
) -> Iterator[list[Line]]:
    """The log of a pod's ``container`` from ``position``, or its beginning, to the container's end, in batches; some are empty.

    ``has_ended``: whether the container has ended. Raises ApiError if the pod is deleted (404) or its log refused, ClusterError
    if the server cannot be reached: a call with the same ``position`` continues.
    """
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    position, looks = Position() if position is None else position, 0
    while True:
        ended = has_ended()  # before the read: the last read then sees all of it
        is_new, cut, began = position.attach(), Cut(), time.monotonic()
        asked: dict[str, Any] = {"container": container, "timestamps": "true", "sinceTime": position.since}
        try:
            for piece in cluster.stream(path, follow=str(not ended).lower(), **asked):
                yield [line for stamp, text in cut.feed(piece) if is_new(stamp) for line in lines(text)]
            looks += ended
            if ended and (looks >= _LOOKS or (not cut.rest and _is_end(cluster, path, container, position))):
                yield [line for stamp, text in cut.feed(b"\n") for line in lines(text)]
                return
        except ApiError as error:
            # 400: its container has not started. The pod may also have ended without a container.
            if error.status != 400 or ended:
                raise
        yield []
        if not ended and time.monotonic() - began < _PAUSE:
            time.sleep(_PAUSE)


def _is_end(cluster: Cluster, path: str, container: str, position: Position) -> bool:
    """Whether a log was read to its end. An answer that was cut off looks complete: request the last line, and as many lines
    before it as may have its stamp and were not seen."""
    text = b"".join(cluster.stream(path, container=container, timestamps="true", tailLines=position.most + 1))
    *whole, unended = text.split(b"\n")
    if unended:
        return False
    stamps = [found[0] for line in whole if (found := _split(line)) is not None]
    # No line at all: the answer may have been cut off at its start.
    return bool(stamps) and stamps.count(stamps[-1]) <= position.seen(stamps[-1])


def _split(line: bytes) -> tuple[str, str] | None:
    """Stamp and text of a line; None for lines of the kubelet itself, which have no stamp."""
    text = line.decode("utf-8", "replace")
    stamp, _, rest = text.partition(" ")
    if not _STAMP.fullmatch(stamp):
        return None
    return stamp, _joined(rest) if len(rest) > _LONGEST else rest


def _joined(text: str) -> str:
    """A line that the runtime split in pieces: the kubelet stamps each piece, and ends only the last one."""
    raw, parts = text.encode("utf-8"), list[bytes]()
    while len(raw) > _LONGEST:
        part, raw = raw[:_LONGEST], raw[_LONGEST:]
        parts.append(part)
        head = raw[:40].decode("ascii", "replace").partition(" ")[0]
        if not _STAMP.fullmatch(head):
            break  # another runtime with another length: leave it
        raw = raw[len(head) + 1 :]
    return b"".join([*parts, raw]).decode("utf-8", "replace")
