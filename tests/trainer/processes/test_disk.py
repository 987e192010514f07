"""Writes that fail for want of room, in a process of its own: by a limit of file sizes, and on a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import HealthError
from trainer.processes.disk import make_room, reserve, why_unwritable, writing
from trainer.processes.ending import how_it_failed

REPOSITORY = Path(__file__).parents[3]
SAVE = """
import resource, sys, torch
from pathlib import Path
from trainer.processes.disk import writing
from trainer.processes.ending import how_it_failed
folder = Path(sys.argv[1])
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with writing(folder):
        torch.save({"weights": torch.zeros(1 << 20)}, folder / "optimizer.pt")
except Exception as error:
    print(type(error.__cause__).__name__, how_it_failed(error))
"""


def save(*argv: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [*before, sys.executable, "-c", SAVE, *argv]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_reason_that_torch_save_hides_is_found(tmp_path: Path) -> None:
    done = save(str(tmp_path), str(64 << 10))
    why = "file too large for this file system or for the limit of this process (ulimit -f)"
    assert done.stdout == f"RuntimeError (1, 'cannot write: {tmp_path}: {why}')\n", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["optimizer.pt"]


def test_a_disk_that_is_full_is_named_where_torch_save_hides_it(tmp_path: Path) -> None:
    mounts = (
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"',
        str(tmp_path),
    )
    if subprocess.run([*mounts, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mounts without privileges here")
    done = save(str(tmp_path), before=mounts)
    said = f"the disk is full: {tmp_path}; make room, then resume"
    assert done.stdout == f"RuntimeError (1, '{said}')\n", done.stderr


def test_an_error_with_another_cause_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), writing(tmp_path):
        raise RuntimeError("shapes differ")
    with pytest.raises(HealthError), writing(tmp_path / "missing"):
        raise HealthError("NaN")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert str(why_unwritable(gone)) == f"[Errno 2] No such file or directory: '{gone}'"
    with pytest.raises(FileNotFoundError) as caught, writing(gone):
        raise RuntimeError("unexpected pos 272640 vs 272528")
    assert how_it_failed(caught.value) == (1, f"FileNotFoundError: [Errno 2] No such file or directory: '{gone}'")


def test_room_for_the_last_words_is_taken_and_given_back(tmp_path: Path) -> None:
    reserve(tmp_path)
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 256 * 1024
    make_room(tmp_path)
    assert list(tmp_path.iterdir()) == []
    reserve(tmp_path / "no folder")
    make_room(tmp_path / "no folder")
