from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from launcher.errors import UsageError
from launcher.runs.names import check_run_name, new_run_name


def test_a_run_is_named_by_experiment_utc_time_and_four_hex_digits() -> None:
    name = new_run_name("exp_1", datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC))
    assert re.fullmatch(r"exp_1-20260304-050607-[0-9a-f]{4}", name)


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b", "ü", "a" * 101])
def test_a_name_that_cannot_be_a_folder_and_a_label_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        check_run_name(name)
