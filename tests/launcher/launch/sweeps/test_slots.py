from __future__ import annotations

import pytest

from launcher.errors import UsageError
from launcher.launch.sweeps.slots import Slots


@pytest.mark.parametrize(
    ("wanted", "each", "there", "expected"),
    [
        (None, None, 0, ((),)),
        (3, None, 0, ((), (), ())),
        (None, 0, 4, ((),)),
        (None, None, 4, (("0",), ("1",), ("2",), ("3",))),
        (2, None, 4, (("0", "1"), ("2", "3"))),
        (None, 2, 5, (("0", "1"), ("2", "3"))),
        (1, 2, 4, (("0", "1"),)),
    ],
)
def test_slots_share_the_gpus(wanted: int | None, each: int | None, there: int, expected: tuple[tuple[str, ...], ...]) -> None:
    assert Slots.of(wanted, each, [str(number) for number in range(there)]).gpus == expected


def test_more_points_than_the_gpus_allow_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--parallel 3: must be at most 2 \(4 GPUs, 2 a point\)"):
        Slots.of(3, 2, ["0", "1", "2", "3"])
