"""A process that is killed while it compiles an extension leaves torch's lock file. Locks, kills and the compiler are real."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils import cpp_extension
from torch.utils.file_baton import FileBaton

from trainer.processes.ranks import extensions
from trainer.processes.ranks.extensions import Baton, outlive_builders

HOLD = """
import sys, time
from torch.utils.file_baton import FileBaton
from trainer.processes.ranks.extensions import Baton
assert {"torch": FileBaton, "ours": Baton}[sys.argv[1]](sys.argv[2]).try_acquire()
print("has it", flush=True)
time.sleep(600)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def builder(whose: str, lock: Path) -> subprocess.Popen[str]:
    """A process that compiles until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, whose, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "has it\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


Waiting = Callable[[FileBaton], tuple[threading.Thread, list[bool]]]


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    """Asks for a lock in a thread of its own, which has seen that another process has it."""
    has_looked, look = threading.Event(), extensions._locked

    def watched(handle: int) -> bool:
        found = look(handle)
        has_looked.set()
        return found

    def start(baton: FileBaton) -> tuple[threading.Thread, list[bool]]:
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(bool(baton.try_acquire())), daemon=True)
        monkeypatch.setattr(extensions, "_locked", watched)
        thread.start()
        assert has_looked.wait(120)
        thread.join(0.5)
        assert not answers, "another process compiles"
        return thread, answers

    return start


@pytest.mark.skipif(not (shutil.which("ninja") and shutil.which("c++")), reason="needs ninja and a C++ compiler")
def test_an_extension_is_compiled_although_a_process_was_killed_while_it_did(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpp_extension, "FileBaton", FileBaton)
    kill(builder("torch", lock))
    assert lock.exists()
    source = tmp_path / "seven.cpp"
    source.write_text('extern "C" int seven() { return 7; }')
    arguments = {"name": "seven", "sources": [str(source)], "build_directory": str(tmp_path), "is_python_module": False}
    outlive_builders()
    load = threading.Thread(target=cpp_extension.load, kwargs=arguments, daemon=True)
    load.start()
    load.join(300)
    assert not load.is_alive()
    assert (tmp_path / "seven.so").exists()
    assert not lock.exists()


def test_who_waits_for_a_process_that_is_killed_compiles_in_its_place(lock: Path, waiting: Waiting) -> None:
    process = builder("ours", lock)
    thread, answers = waiting(mine := Baton(str(lock)))
    kill(process)
    thread.join(120)
    assert answers == [True]
    mine.release()
    assert not lock.exists()


def test_who_waits_for_a_process_that_compiles_loads_what_it_made(lock: Path, waiting: Waiting) -> None:
    first = Baton(str(lock))
    assert first.try_acquire()
    thread, answers = waiting(second := Baton(str(lock)))
    first.release()
    thread.join(120)
    assert answers == [False]
    second.wait()  # returns at once
    assert Baton(str(lock)).try_acquire(), "nobody holds it"


def test_a_program_without_our_lock_that_still_compiles_is_waited_for(lock: Path, waiting: Waiting) -> None:
    process = builder("torch", lock)
    thread, answers = waiting(Baton(str(lock)))
    assert lock.exists()
    kill(process)
    thread.join(120)
    assert answers == [True]


def test_a_folder_of_another_user_has_torchs_lock_alone(lock: Path) -> None:
    Path(f"{lock}.held").mkdir()  # nobody may open it for writing
    baton = Baton(str(lock))
    assert baton.try_acquire()
    assert not Baton(str(lock)).try_acquire()
    baton.release()
    assert not lock.exists()
