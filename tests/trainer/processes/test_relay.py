"""Ranks' logs copied to the entry's output: every line once, with its rank, however the writing was cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.runs.run_dir import RunDir
from trainer.processes.relay import LINE, Relay


class Copied:
    """The logs of two ranks, and what a relay has made of them in a file."""

    def __init__(self, folder: Path):
        self.run = RunDir(folder)
        self.run.logs.mkdir()
        self.output = folder / "stdout"
        self.handle = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.relay = Relay(self.run, (2, 3), self.handle)

    def write(self, text: bytes, rank: int = 2) -> None:
        with self.run.rank_log(rank).open("ab") as log:
            log.write(text)

    def lines(self) -> list[bytes]:
        return self.output.read_bytes().splitlines(keepends=True)


@pytest.fixture
def copied(tmp_path: Path) -> Copied:
    return Copied(tmp_path)


def test_lines_have_their_rank_and_wait_for_their_end(copied: Copied) -> None:
    copied.relay.copy()  # no rank has begun yet
    copied.write(b"one\ntw")
    copied.write(b"from the other\n", rank=3)
    copied.relay.copy()
    assert copied.lines() == [b"[rank 2] one\n", b"[rank 3] from the other\n"]
    copied.write(b"o\n\n")
    copied.relay.copy()
    assert copied.lines()[2:] == [b"[rank 2] two\n", b"[rank 2] \n"]


def test_what_an_earlier_attempt_said_is_not_said_again(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.logs.mkdir()
    run.rank_log(2).write_bytes(b"before\n")
    copied = tmp_path / "stdout"
    relay = Relay(run, (2,), os.open(copied, os.O_WRONLY | os.O_CREAT))
    with run.rank_log(2).open("ab") as log:
        log.write(b"after\n")
    relay.finish()
    assert copied.read_bytes() == b"[rank 2] after\n"


def test_the_last_line_needs_no_end(copied: Copied) -> None:
    copied.write(b"Killed")
    copied.relay.copy()
    assert copied.lines() == []
    copied.relay.finish()
    assert copied.lines() == [b"[rank 2] Killed\n"]


def test_a_progress_bar_is_a_line_for_each_state(copied: Copied) -> None:
    copied.write(b"\r 10%\r 20%")
    copied.relay.copy()
    assert copied.lines() == [b"[rank 2]  10%\n"]
    copied.write(b"\r100%\r\nloaded\r")
    copied.relay.copy()
    copied.relay.finish()
    assert copied.lines()[1:] == [b"[rank 2]  20%\n", b"[rank 2] 100%\n", b"[rank 2] loaded\n"]


def test_no_line_is_longer_than_a_container_runtime_takes(copied: Copied) -> None:
    text = ("ä" * LINE).encode()
    copied.write(text[: LINE + 1])
    copied.relay.copy()
    copied.write(text[LINE + 1 :] + b"\nshort\n")
    copied.relay.finish()
    *long, short = copied.lines()
    assert max(map(len, long)) <= LINE
    pieces = [line.removeprefix(b"[rank 2] ").removesuffix(b"\n") for line in long]
    assert all(piece.decode() for piece in pieces)
    assert (b"".join(pieces), short) == (text, b"[rank 2] short\n")


def test_a_reader_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.logs.mkdir()
    reader, writer = os.pipe()
    relay = Relay(run, (0,), writer)
    os.close(reader)
    run.rank_log(0).write_bytes(b"line\n")
    relay.copy()
    relay.finish()


@given(st.lists(st.binary(max_size=20), max_size=20), st.lists(st.booleans(), min_size=20, max_size=20))
def test_every_line_comes_once_however_it_is_cut(pieces: list[bytes], looks: list[bool]) -> None:
    import tempfile

    pieces = [piece.replace(b"\r", b"") for piece in pieces]
    with tempfile.TemporaryDirectory() as folder:
        copied = Copied(Path(folder))
        for piece, look in zip(pieces, looks, strict=False):
            copied.write(piece)
            if look:
                copied.relay.copy()
        copied.relay.finish()
        text = b"".join(pieces)
        expected = [b"[rank 2] " + line for line in text.split(b"\n")[: -1 if text.endswith(b"\n") or not text else None]]
        assert copied.output.read_bytes().split(b"\n")[:-1] == expected
        os.close(copied.handle)
