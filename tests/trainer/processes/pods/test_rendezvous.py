"""The nodes of a run in pods meet by a name that DNS knows, or by the address in the run's folder. The lookups are real."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from launcher.job.topology import Node
from launcher.runs.run_dir import RunDir
from trainer.processes.attempts import next_attempt
from trainer.processes.pods import rendezvous
from trainer.processes.pods.rendezvous import marker_of, meet, own_address

UNKNOWN = "demo-0.demo.invalid"  # RFC 6761: a name that nobody has


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setattr(rendezvous, "_LOOK", 0.02)
    monkeypatch.setattr(rendezvous, "_DNS", 0.1)
    return RunDir(tmp_path, 1)


def never() -> bool:
    return False


def test_a_name_that_is_known_is_taken(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_DNS", 60)
    next_attempt(RunDir(run.path), "10.0.0.7")
    assert meet(run, 1, Node(1, "localhost", 29500), never) == Node(1, "localhost", 29500)


def test_where_nothing_knows_the_name_the_first_node_is_met_at_the_address_that_it_has_left(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[Node] = []
    waiting = threading.Thread(target=lambda: found.append(meet(run, 1, Node(1, UNKNOWN, 29500), never)))
    waiting.start()
    time.sleep(0.2)
    assert waiting.is_alive(), "the first node has not come yet"
    assert next_attempt(RunDir(run.path), "10.0.0.7") == 1
    waiting.join(60)
    assert found == [Node(1, "10.0.0.7", 29500)]
    assert capsys.readouterr().out == f"notice: {UNKNOWN} is not in the cluster's DNS: connecting to node 0 at 10.0.0.7\n"


def test_the_address_is_that_of_the_same_attempt(run: RunDir) -> None:
    next_attempt(RunDir(run.path), "10.0.0.7")
    assert next_attempt(RunDir(run.path), "10.0.0.8") == 2
    assert meet(run, 2, Node(1, UNKNOWN), never).address == "10.0.0.8"


def test_the_first_node_needs_no_dns(run: RunDir) -> None:
    assert next_attempt(RunDir(run.path), "10.0.0.7") == 1
    assert meet(RunDir(run.path), 1, Node(0, UNKNOWN), never).address == "10.0.0.7"
    assert next_attempt(RunDir(run.path), "") == 2
    assert meet(RunDir(run.path), 2, Node(0, UNKNOWN), never).address == UNKNOWN


def test_a_stop_or_the_end_of_patience_ends_the_wait(run: RunDir) -> None:
    assert meet(run, 1, Node(1, UNKNOWN), lambda: True) == Node(1, UNKNOWN)
    assert meet(run, 1, Node(1, UNKNOWN), never, patience=0.1) == Node(1, UNKNOWN)


def test_an_address_that_others_cannot_reach_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, own in (("127.0.1.1", ""), ("10.0.0.7", "10.0.0.7"), ("::1", ""), ("fe80::1", ""), ("fd00::7", "fd00::7")):
        monkeypatch.setattr("socket.gethostname", lambda a=address: a)
        assert own_address() == own
    monkeypatch.setattr("socket.gethostname", lambda: UNKNOWN)
    assert own_address() == ""


def test_a_mark_is_there_whole(run: RunDir) -> None:
    next_attempt(run, "10.0.0.9")
    assert marker_of(run, 1, 1).read_text() == "10.0.0.9"
    assert [path.name for path in run.attempt(1).iterdir()] == ["node-1"]
