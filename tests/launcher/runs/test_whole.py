from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.runs.whole import as_new, write_whole


def test_a_write_that_fails_leaves_the_old_text_and_no_litter(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_whole(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "new \ud800")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_weights_that_their_owner_alone_may_read_get_the_permissions_of_a_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        (tmp_path / "new").touch()
        (tmp_path / "model.safetensors").touch(mode=0o600)
        as_new(tmp_path)
        assert os.umask(0o027) == 0o027, "it is as before"
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "new").stat().st_mode
