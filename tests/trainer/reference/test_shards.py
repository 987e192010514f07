from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.reference import shards as room
from trainer.reference.shards import Shards


def key(number: int) -> bytes:
    return number.to_bytes(32, "little")  # most of them end in zeros, which some arrays of bytes drop


def numbers(*of: int) -> dict[bytes, float]:
    return {key(n): -n / 7 for n in of}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def shards(tmp_path: Path, said: list[str]) -> Shards:
    return Shards(tmp_path / "store", said.append)


def files(shards: Shards) -> list[Path]:
    return sorted(shards.folder.iterdir())


def test_what_was_added_is_read_and_nothing_else(shards: Shards) -> None:
    assert np.isnan(shards.read([key(1)])).all(), "the folder does not exist yet"
    shards.add(numbers(1, 256, 65536))
    shards.add(numbers(2))
    found = shards.read([key(2), key(65536), key(3), key(1), key(1), key(256)])
    np.testing.assert_array_equal(found, [-2 / 7, -65536 / 7, np.nan, -1 / 7, -1 / 7, -256 / 7])
    assert shards.read([]).shape == (0,)


def test_of_two_numbers_for_one_key_the_first_holds_before_and_after_a_merge(shards: Shards) -> None:
    for number in (-2.0, -1.0, -3.0):
        shards.add({key(1): number})
    assert shards.read([key(1)]).tolist() == [-2.0]
    _fill(shards)
    shards.compact()
    assert len(files(shards)) == 1
    assert shards.read([key(1)]).tolist() == [-2.0]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_in_a_shard_is_noticed_said_and_removed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    said: list[str] = []
    shards = Shards(tmp_path_factory.mktemp("store"), said.append)
    shards.add(numbers(1, 2, 3))
    (shard,) = files(shards)
    whole = shard.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    shard.write_bytes(whole[:place] if cut else whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
    assert np.isnan(shards.read([key(1), key(2), key(3)])).all()
    assert said == [f"notice: {shard} of the reference cache is damaged: its pairs are recomputed"]
    assert files(shards) == []


def test_a_merge_keeps_every_number_and_removes_only_what_it_read(shards: Shards) -> None:
    _fill(shards)
    shards.compact()
    assert len(files(shards)) == 1
    np.testing.assert_array_equal(shards.read([key(n) for n in range(100, 140)]), [-n / 7 for n in range(100, 140)])


def test_a_few_shards_are_left_as_they_are(shards: Shards) -> None:
    shards.add(numbers(1))
    shards.add(numbers(2))
    before = files(shards)
    shards.compact()
    assert files(shards) == before


def test_a_merge_beside_a_reader_takes_nothing_from_it(shards: Shards, tmp_path: Path) -> None:
    _fill(shards)

    class Merging(type(shards.folder)):  # between the reader's listing and its first read, another process merges everything
        def read_bytes(self) -> bytes:
            Shards(shards.folder, print).compact()
            return super().read_bytes()

    reader = Shards(Merging(shards.folder), print)
    np.testing.assert_array_equal(reader.read([key(n) for n in range(100, 140)]), [-n / 7 for n in range(100, 140)])


def test_what_a_dead_process_left_is_removed_after_a_day(shards: Shards) -> None:
    shards.add(numbers(1))
    old, new = shards.folder / ".a.part", shards.folder / ".b.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - room.ABANDONED - 60,) * 2)
    shards.compact()
    assert not old.exists()
    assert new.exists(), "a process may still be writing it"
    assert shards.read([key(1)]).tolist() == [-1 / 7]


def test_a_folder_that_cannot_be_written_is_said_and_the_training_goes_on(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    shards = Shards(tmp_path / "store", said.append)
    assert shards.save(numbers(1)) is False
    assert said == [
        f"notice: cannot write the reference cache {tmp_path / 'store'}: file exists; a later run recomputes these pairs"
    ]


def test_a_full_disk_leaves_no_part_of_a_shard(shards: Shards, said: list[str]) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # bytes; the shard has more
    try:
        assert shards.save(numbers(*range(100))) is False
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert "file too large" in said[0]
    assert files(shards) == []


def _fill(shards: Shards) -> None:
    """More shards than are left apart; keys 100 to 139."""
    for number in range(100, 140):
        shards.add(numbers(number))
