from __future__ import annotations

import pytest

from trainer.processes.kills import Kills, killed, memory_used

NONE = Kills(None, None)


@pytest.mark.parametrize(
    ("before", "after", "shortage"),
    [
        (Kills(0, 3), Kills(1, 4), True),
        (Kills(0, 3), Kills(0, 4), False),  # another group of this machine
        (Kills(None, 3), Kills(None, 4), True),
        (Kills(None, 3), Kills(None, 3), False),
        (NONE, NONE, None),
    ],
)
def test_the_group_s_own_counter_counts_before_the_machine_s(before: Kills, after: Kills, shortage: bool | None) -> None:
    assert after.since(before) is shortage


def test_a_kill_is_only_called_a_shortage_where_the_kernel_counted_one() -> None:
    used = " (largest process: 3.0 of 4.0 GiB)"
    assert killed("a rank", Kills(0, 0), Kills(1, 1), used) == f"the kernel killed a rank: main memory ran out{used}"
    assert killed("a rank", Kills(0, 0), Kills(0, 0), used) == (
        f"a rank was killed (SIGKILL) by a user or the system; memory had not run out{used}"
    )
    assert killed("a rank", NONE, NONE, used) == (
        f"a rank was killed (SIGKILL): often because main memory ran out{used}; check `dmesg`"
    )


def test_what_this_machine_shows_is_read() -> None:
    assert Kills.now().machine is not None
    assert memory_used() == "" or memory_used().endswith(" GiB)")
