"""A pod's log is read line by line, whatever happens to the connection."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.backends.kubernetes.follow.logs import Cut, Line, Position, lines, pod_log, shown
from launcher.backends.kubernetes.follow.ranklog import RankLog

SECOND = 1_000_000_000


def stamp(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


class Kubelet:
    """A server's side of a log: what it answers is cut into pieces, and breaks off, as ``cuts`` says (bytes of each answer)."""

    def __init__(
        self, printed: list[tuple[int, str]], cuts: list[int | None], piece: int, *, is_ended: bool, unended: bool = False
    ):
        self.printed, self.cuts, self.piece = printed, cuts, piece
        self.is_ended, self.unended = is_ended, unended
        self.known = len(printed) if is_ended else 0

    def stream(self, path: str, **query: Any) -> Iterator[bytes]:
        since = datetime.fromisoformat(query["sinceTime"]).timestamp() * SECOND if query.get("sinceTime") else 0
        self.known = max(self.known, min(len(self.printed), self.known + 3))
        there = list(enumerate(self.printed[: self.known]))
        ends = {number: "" if self.unended and number == len(self.printed) - 1 else "\n" for number, _ in there}
        answer = [f"{stamp(at)} {text}{ends[number]}" for number, (at, text) in there if at >= since]
        if query.get("tailLines"):
            answer = answer[-query["tailLines"] :]
        data = "".join(answer).encode()
        data = data[: self.cuts.pop(0)] if self.cuts else data
        for begin in range(0, len(data), self.piece):
            yield data[begin : begin + self.piece]

    def has_ended(self) -> bool:
        return self.known == len(self.printed)


def read(kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch | None = None) -> list[str]:
    found = pod_log(kubelet, "ns", "pod", "trainer", kubelet.has_ended)  # type: ignore[arg-type]
    return [line.text for batch in found for line in batch]


@st.composite
def printed_lines(draw: st.DrawFn) -> list[tuple[int, str]]:
    """Stamps mostly grow, often are equal, and sometimes are a little out of order, as those of two streams are."""
    count = draw(st.integers(0, 12))
    steps = draw(st.lists(st.sampled_from([0, 0, 1, 400_000_000, SECOND, 7 * SECOND]), min_size=count, max_size=count))
    back = draw(st.lists(st.sampled_from([0, 0, 0, 3, 900_000_000]), min_size=count, max_size=count))
    texts = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=6)
    at, found = 1_700_000_000 * SECOND, []
    for step, late in zip(steps, back, strict=True):
        at += step
        found.append((at - late, draw(texts)))
    return found


@pytest.fixture(autouse=True, scope="module")
def _no_pause() -> Iterator[None]:
    import launcher.backends.kubernetes.follow.logs as logs

    before, logs._PAUSE = logs._PAUSE, 0
    yield
    logs._PAUSE = before


@given(
    printed_lines(),
    st.lists(st.one_of(st.none(), st.integers(0, 200)), max_size=20),
    st.integers(1, 60),
    st.booleans(),
    st.booleans(),
)
@example([(0, "a"), (0, "b"), (0, "b"), (1, "")], [40, 0, 70, None, 3], 1, True, True)
@example([(0, "")], [0, 0], 1, True, False)
@example([(0, ""), (0, "")], [32], 1, True, False)
@example([(0, "")], [1, 1], 1, True, False)
@example([(0, "a")], [7] * 20, 1, True, False)
def test_however_a_log_is_cut_and_attached_to_again_it_is_exactly_its_lines(printed, cuts, piece, is_ended, unended):
    kubelet = Kubelet(printed, cuts, piece, is_ended=is_ended, unended=unended)
    assert read(kubelet) == [text for _, text in printed]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("[rank 3] loading", [Line(3, "loading")]),
        ("attempt 1", [Line(None, "attempt 1")]),
        ("[rank 0] 10%\r20%\r30%\r", [Line(0, "10%"), Line(0, "20%"), Line(0, "30%")]),
        ("[rank 1] ", [Line(1, "")]),
        ("[rank 1] [rank 2] quoted", [Line(1, "[rank 2] quoted")]),
        ("", [Line(None, "")]),
    ],
)
def test_a_line_says_whose_it_is_and_ends_at_carriage_returns_too(said, expected):
    assert list(lines(said)) == expected


def test_what_the_kubelet_says_itself_is_no_line_of_the_log():
    at = stamp(SECOND)
    cut = Cut()
    assert cut.feed(f"unable to retrieve container logs for containerd://abc\n{at} one\n{at} tw".encode()) == [(at, "one")]
    assert cut.rest == f"{at} tw".encode()


def test_a_line_that_the_runtime_cut_in_pieces_is_whole_again():
    at = stamp(SECOND)
    long = "é" * 20_000
    raw = long.encode()
    pieces = [raw[begin : begin + 16384] for begin in range(0, len(raw), 16384)]
    data = b"".join(f"{at} ".encode() + piece for piece in pieces) + b"\n"
    assert Cut().feed(data) == [(at, long)]


def test_stamps_of_a_node_in_another_time_zone_are_asked_for_in_utc():
    position = Position()
    assert position.attach()("2026-11-24T20:43:31.123456789+02:00")
    assert position.since == "2026-11-24T18:43:30Z"


def test_only_the_last_seconds_are_remembered():
    position = Position()
    is_new = position.attach()
    for second in range(10_000):
        assert is_new(stamp(second * SECOND))
    assert len(position._seconds) == 2


@pytest.mark.parametrize(
    ("rank", "nodes", "text"),
    [
        (0, 1, "entry\nzero\n"),
        (1, 2, "one\n"),
        (None, 1, "entry\n[rank 0] zero\n[rank 1] one\n"),
        (None, 2, "[node 1] entry\n[rank 0] zero\n[rank 1] one\n"),
    ],
)
def test_one_rank_is_shown_plainly_and_all_of_them_with_a_prefix(rank, nodes, text):
    assert shown([Line(None, "entry"), Line(0, "zero"), Line(1, "one")], rank, 1, nodes) == text


def test_a_ranks_file_goes_on_after_the_last_line_that_was_heard():
    log = RankLog(0, ["three", "again"])
    assert [line.text for line in log.feed(b"one\nthree\nagain\ntwo\nthree\n\nagain\nfour\rfi")] == ["four"]
    assert log.offset == 40
    assert [line.text for line in log.feed(b"ve\nsix")] == ["five"]
    assert [line.text for line in log.close()] == ["six"]


def test_a_ranks_file_that_has_nothing_of_what_was_heard_is_not_said_again():
    assert RankLog(0, ["unknown"]).feed(b"one\ntwo\n") == []
    assert [line.text for line in RankLog(0).feed(b"one\ntwo\n")] == ["one", "two"]
