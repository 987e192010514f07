from __future__ import annotations

from typing import Any

import pytest

from launcher.runs.made_of import Change, NotRepeatable, code_changes, data_changes, differences, package_changes, unnamed

THEN = {"revision": "a" * 40, "dirty": False, "content": "one"}


@pytest.mark.parametrize(
    ("recorded", "found"),
    [
        (THEN, {**THEN, "revision": "b" * 40, "dirty": True}),  # an experiment was committed, another is being written
        ({**THEN, "dirty": True}, THEN),  # the uncommitted changes were not ours
        ({"revision": "a" * 40, "dirty": False}, {"revision": "a" * 40, "dirty": False}),
        ({}, THEN),
    ],
)
def test_code_with_the_same_content_is_the_same_code(recorded: dict[str, Any], found: dict[str, Any]) -> None:
    assert list(code_changes(recorded, found, "/code")) == []


@pytest.mark.parametrize(
    ("recorded", "found", "hint"),
    [
        (THEN, {**THEN, "revision": "b" * 40, "content": "two"}, "git -C /code checkout aaaaaaaaaaaa"),
        (THEN, {**THEN, "dirty": True, "content": "two"}, "git -C /code stash"),
        (
            {**THEN, "dirty": True},
            {**THEN, "content": "two"},
            "its uncommitted changes are not recorded: commit before a run that you want to repeat",
        ),
        ({"version": "1.2", "content": "one"}, {**THEN, "content": "two"}, "pip install dpo-launcher==1.2"),
    ],
)
def test_other_code_is_named_with_what_gets_the_recorded_one(recorded: dict[str, Any], found: dict[str, Any], hint: str) -> None:
    (change,) = code_changes(recorded, found, "/code")
    assert (change.what, change.hint) == ("code", hint)


def test_a_package_of_another_version_and_a_missing_one_are_named() -> None:
    found = package_changes(
        {"python": "3.11.7", "torch": "2.13.0+cpu", "trl": "1.16.0"}, {"python": "3.12.0", "torch": "2.13.0+cpu"}
    )
    assert list(found) == [
        Change("python", "3.11.7", "3.12.0", "use Python 3.11.7"),
        Change("trl", "1.16.0", "not installed", "pip install trl==1.16.0"),
    ]


def source(role: str, sha256: str, name: str = "x.csv") -> dict[str, Any]:
    return {"role": role, "name": name, "sha256": sha256, "rows": 3}


def test_data_are_the_same_by_their_hashes_under_any_name() -> None:
    assert list(data_changes([source("train", "a" * 64)], [source("train", "a" * 64, "elsewhere/y.csv")])) == []


def test_other_missing_and_additional_data_are_named_with_their_hashes() -> None:
    before, now = (
        [source("train", "a" * 64), source("validation", "b" * 64)],
        [source("train", "c" * 64), source("prompts", "d" * 64)],
    )
    assert [str(change) for change in data_changes(before, now)] == [
        "train data\n    recorded: x.csv, 3 rows, SHA-256 aaaaaaaaaaaa\n    found:    x.csv, 3 rows, SHA-256 cccccccccccc\n"
        f"    hint:     restore the file with this SHA-256: {'a' * 64}",
        "validation data\n    recorded: x.csv, 3 rows, SHA-256 bbbbbbbbbbbb\n    found:    none\n"
        f"    hint:     restore the file with this SHA-256: {'b' * 64}",
        "prompts data\n    recorded: none\n    found:    x.csv, 3 rows, SHA-256 dddddddddddd\n    hint:     remove x.csv",
    ]


def test_what_two_records_name_differently_may_explain_other_losses() -> None:
    before = {"code": THEN, "packages": {"torch": "1"}, "hardware": {"threads": 2, "gpus": []}, "dpo_path": {"path": "fast"}}
    after = {"code": THEN, "packages": {"torch": "2"}, "hardware": {"threads": 1, "gpus": []}, "dpo_path": {"path": "plain"}}
    assert differences(before, after) == [
        "torch: recorded 1, found 2",
        "hardware threads: recorded 2, found 1",
        "dpo_path path: recorded fast, found plain",
    ]
    assert differences(before, before) == []


def test_what_a_record_does_not_name_is_a_warning() -> None:
    assert unnamed({"code": THEN}, ("code", "packages", "model")) == ["its record lacks packages, model; not compared"]
    assert unnamed({"code": THEN}, ("code",)) == []


def test_a_refusal_names_every_change_and_how_to_accept_them() -> None:
    assert str(NotRepeatable("demo-a", [Change("torch", "1", "2", "pip install torch==1"), Change("GPUs", "4", "0")])) == (
        "demo-a cannot be repeated from its record:\n"
        "torch\n    recorded: 1\n    found:    2\n    hint:     pip install torch==1\n"
        "GPUs\n    recorded: 4\n    found:    0\n"
        "Repeat it anyway with: launcher again demo-a --anyway"
    )
