"""What the entry of a pod notes of its memory, which is all that is left of it when the kernel kills the whole pod."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.runs.run_dir import RunDir
from trainer.processes import kills
from trainer.processes.pods.memory_note import MemoryNote, silent

GIB = 2**30


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "r")
    made.attempt(3).mkdir(parents=True)
    return made


def use(group: Path, anon: float, cached: float = 0.0, shmem: float = 0.0) -> None:
    lines = {"anon": anon, "file": cached, "shmem": shmem}
    (group / "memory.stat").write_text("".join(f"{name} {int(size * GIB)}\n" for name, size in lines.items()))


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control group of this process, with a limit of 4 GiB."""
    monkeypatch.setattr(kills, "_CGROUPS", tmp_path / "cgroup")
    own = next(line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0:"))
    folder = tmp_path / "cgroup" / own.lstrip("/")
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{4 * GIB}\n")
    use(folder, 1.0)
    return folder


def test_the_use_is_noted_once_little_is_left_and_again_when_it_has_grown(run: RunDir, group: Path) -> None:
    memory, note = MemoryNote(run, 3), run.memory_note(3)
    use(group, 1.0, cached=2.9)  # the kernel drops cached files first
    memory.look()
    assert not note.exists()
    use(group, 3.0, shmem=0.5)
    memory.look()
    assert json.loads(note.read_text()) == {"used": int(3.5 * GIB), "limit": 4 * GIB}
    note.unlink()
    use(group, 3.52)
    memory.look()
    assert not note.exists()
    use(group, 3.9)
    memory.look()
    assert json.loads(note.read_text())["used"] == int(3.9 * GIB)


def test_a_pod_without_a_limit_notes_nothing(run: RunDir, group: Path) -> None:
    (group / "memory.max").write_text("max\n")
    use(group, 400.0)
    MemoryNote(run, 3).look()
    assert not run.memory_note(3).exists()


def test_an_attempt_that_was_killed_in_its_pod_without_a_word_says_what_is_known_of_it(run: RunDir) -> None:
    attempt = {"number": 3, "started": "x", "ended": "y", "exit_code": None, "pod": "r-0-abcde", "host": "gpu-1"}
    told = {"exit_code": 137, "state": "failed"}
    sentence = "r-0-abcde on gpu-1 was killed without a message (SIGKILL), or lost with its node"
    assert silent(run, attempt) == {**attempt, **told, "sentence": sentence}
    run.memory_note(3).write_text(json.dumps({"used": int(3.9 * GIB), "limit": 4 * GIB}))
    assert silent(run, attempt)["sentence"] == (
        "r-0-abcde on gpu-1 was killed without a message when it used 3.9 of 4.0 GiB: "
        "it probably exceeded its memory limit (launch.memory)"
    )


def test_the_others_stay_as_they_are(run: RunDir) -> None:
    for attempt in ({"number": 1, "exit_code": 1, "pod": "r-0-abcde"}, {"number": 1, "exit_code": None}):
        assert silent(run, attempt) == attempt
