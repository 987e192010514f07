"""What the ranks know of each other, over a real store of torch's; two ranks are two threads of this process."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from torch.distributed import HashStore

from launcher.runs.processes import Process
from tests.waiting import wait_for
from trainer.processes.ranks import peers as module
from trainer.processes.ranks.peers import Peers


class Clock:
    """The time that ranks see, which passes when a test says so."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now

    def passes(self, seconds: float, store: Any, *ranks: int) -> None:
        """Time in which the threads of ``ranks`` have looked at each other every 0.1 s, however busy this machine is."""
        for _ in range(round(seconds / 0.1)):
            self.now += 0.1
            before = [beats(store, rank) for rank in ranks]
            wait_for(lambda before=before: all(beats(store, rank) >= seen + 2 for rank, seen in zip(ranks, before, strict=True)))


def beats(store: Any, rank: int) -> int:
    """How often a rank has told that it lives; when it does so again, it has looked at the others."""
    return int(json.loads(store.get(f"peer/{rank}"))["beat"])


STARTED: list[Peers] = []


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    monkeypatch.setattr(module, "BEAT", 0.02)
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setattr(module, "SILENT", 0.5)
    monkeypatch.setattr(module, "time", clock := Clock())
    yield clock
    while STARTED:
        STARTED.pop().close(0)


def watching(store: Any, rank: int, timeout: float = 60) -> tuple[Peers, list[str]]:
    """A rank that has looked at the others once, at the time when the test begins."""
    said: list[str] = []
    peers = Peers(store, rank, 2, timeout=timeout, end=said.append)
    peers.start()
    STARTED.append(peers)
    wait_for(lambda: store.check([f"peer/{rank}"]) and beats(store, rank) >= 2)
    return peers, said


def test_ranks_that_live_and_end_well_are_left_alone(clock: Clock) -> None:
    store = HashStore()
    (one, of_one), (two, of_two) = watching(store, 0), watching(store, 1)
    for step in range(5):
        one.at(step, "computing")
        two.at(step, "computing")
        clock.passes(0.2, store, 0, 1)
    two.close(0)
    clock.passes(0.8, store, 0)
    one.close(0)
    assert (of_one, of_two) == ([], []), "a rank that is done is not missed"


def test_a_rank_whose_process_was_killed_is_named() -> None:
    store = HashStore()
    process = subprocess.Popen(["sleep", "60"])
    note = {"beat": 1, "step": 3, "what": "computing", "idle": 0.0, "process": Process.of(process.pid).record()}
    store.set("peer/1", json.dumps(note))
    _, said = watching(store, 0)
    process.kill()
    process.wait()
    wait_for(lambda: said)
    assert said == [f"rank 1 is gone: its process {process.pid} was killed or has crashed"]


def test_a_rank_of_another_machine_that_falls_silent_is_named(clock: Clock) -> None:
    store = HashStore()
    elsewhere = {"pid": 1, "start_time": 1, "boot_id": "x", "host": "elsewhere"}
    store.set("peer/1", json.dumps({"beat": 1, "step": 3, "what": "computing", "idle": 0.0, "process": elsewhere}))
    _, said = watching(store, 0)
    clock.passes(0.4, store, 0)
    assert said == []
    clock.now += 0.2
    wait_for(lambda: said)
    assert said[0].startswith("rank 1 is gone: no heartbeat for")


def test_a_rank_that_ended_with_an_error_ends_the_others() -> None:
    store = HashStore()
    (_, said), (two, _) = watching(store, 0), watching(store, 1)
    two.close(43)
    wait_for(lambda: said)
    assert said == ["rank 1 has ended with exit code 43"]


def test_a_rank_that_hangs_is_named_by_all_and_the_one_that_waits_for_it_is_not(clock: Clock) -> None:
    store = HashStore()
    (one, of_one), (two, of_two) = watching(store, 0, timeout=0.6), watching(store, 1, timeout=0.6)
    one.at(8, "computing")
    two.at(7, "computing")
    clock.passes(0.5, store, 0, 1)
    assert (of_one, of_two) == ([], [])
    clock.now += 0.2
    wait_for(lambda: of_one and of_two)
    assert of_one == of_two == ["no progress for 1 s, waiting for rank 1 (computing step 7): its stack trace is in its log"]


def test_as_long_as_one_rank_moves_nobody_hangs(clock: Clock) -> None:
    store = HashStore()
    (one, of_one), (two, of_two) = watching(store, 0, timeout=0.4), watching(store, 1, timeout=0.4)
    one.at(1, "computing")
    for step in range(15):
        two.at(step, "computing")
        clock.passes(0.1, store, 0, 1)
    assert (of_one, of_two) == ([], [])


def test_the_last_rank_may_upload_as_long_as_it_takes(clock: Clock) -> None:
    store = HashStore()
    (one, of_one), (two, _) = watching(store, 0, timeout=0.3), watching(store, 1, timeout=0.3)
    one.at(8, "done")
    two.at(8, "done")
    two.close(0)
    clock.passes(1.2, store, 0)
    one.close(0)
    assert of_one == []


def test_nobody_hangs_before_the_training_has_begun(clock: Clock) -> None:
    store = HashStore()
    (_, of_one), (two, of_two) = watching(store, 0, timeout=0.3), watching(store, 1, timeout=0.3)
    two.at(1, "computing")
    clock.passes(1.2, store, 0, 1)
    assert (of_one, of_two) == ([], []), "a download, or the reference's pass, takes as long as it takes"


def test_the_last_note_of_a_rank_is_its_end_though_a_look_of_its_own_comes_late(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others take a rank that is done for one that was killed."""
    store, looks, goes_on = HashStore(), threading.Event(), threading.Event()
    peers = Peers(store, 0, 2, timeout=60, end=lambda _: None)

    def late() -> float:
        if threading.current_thread() is not threading.main_thread():
            looks.set()
            assert goes_on.wait(120)
        return clock.now

    monkeypatch.setattr(clock, "monotonic", late)
    peers.start()
    assert looks.wait(120)
    peers.close(0)
    goes_on.set()
    wait_for(lambda: not any(thread.name == "peers" for thread in threading.enumerate()))
    assert json.loads(store.get("peer/0")) == {"ended": 0}
