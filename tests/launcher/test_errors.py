from __future__ import annotations

from launcher.errors import DataError, Mistake


def empty(line: int, column: str = "chosen") -> Mistake:
    return Mistake(f"a.csv:{line}", f"column {column!r} is empty", "text")


def test_a_mistake_of_many_rows_is_printed_once_with_a_count_and_its_first_three_places() -> None:
    error = DataError([empty(line) for line in range(2, 22)])
    assert str(error) == (
        "a.csv:2: column 'chosen' is empty\n    expected: text\n    also at:  a.csv:3, a.csv:4 … (20 times in all)"
    )
    assert len(error.mistakes) == 20


def test_two_or_three_places_are_all_named() -> None:
    assert str(DataError([empty(2), empty(3)])).endswith("    also at:  a.csv:3")
    assert str(DataError([empty(2), empty(3), empty(4)])).endswith("    also at:  a.csv:3, a.csv:4")


def test_other_mistakes_between_repeated_ones_keep_their_order_and_are_all_printed() -> None:
    lines = str(DataError([empty(2), empty(3, "prompt"), empty(4)])).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "a.csv:2: column 'chosen' is empty",
        "a.csv:3: column 'prompt' is empty",
    ]


def test_after_twenty_kinds_of_mistakes_the_rest_is_counted() -> None:
    many = [empty(line, f"c{column}") for column in range(23) for line in (2, 3)]
    assert str(DataError(many)).splitlines()[-1] == "… and 6 more"
