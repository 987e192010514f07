from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.runs.writable import unwritable


def test_a_folder_that_can_be_made_or_written_is_fine_and_nothing_is_left(tmp_path: Path) -> None:
    assert unwritable(tmp_path / "a" / "b") is None
    assert unwritable(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_a_folder_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert unwritable(tmp_path / "out" / "exp_1" / "runs") == f"{tmp_path / 'out'} is a file, not a folder"


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/no/such/disk")
    assert unwritable(tmp_path / "out" / "runs") == f"{tmp_path / 'out'} is a link to /no/such/disk, which does not exist"


def test_a_place_where_nobody_makes_folders_is_named() -> None:
    found = unwritable(Path("/proc/out"))
    assert found is not None
    assert found.startswith("/proc")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_named_with_its_owner() -> None:
    found = unwritable(Path("/usr/out"))
    assert found is not None
    assert found.startswith("/usr: permission denied (it belongs to 0:0 with mode 755; you are ")
