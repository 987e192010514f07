from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.backends.choose import AnyBackend
from launcher.experiment.schema import Experiment
from launcher.job.resume import Recorded
from launcher.job.topology import DDP
from launcher.launch.repeats.inputs import gpus_as_recorded, image_of_run

ID, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
RECORD = {"image": "dpo-launcher:cpu-0123", "container": {"image": ID}, "code": {"revision": "c" * 40}}


@dataclass(frozen=True)
class Engine:
    """What an engine has: name or id -> id."""

    images: dict[str, str] = field(default_factory=dict)

    def has(self, image: str) -> str | None:
        return self.images.get(image)


def test_an_image_that_the_engine_still_has_is_taken_by_its_id() -> None:
    assert image_of_run(RECORD, cast(AnyBackend, Engine({ID: ID}))) == (ID, [])


def test_an_image_of_a_registry_is_pulled_by_its_digest() -> None:
    named = f"registry.example.com/team/dpo@{ID}"
    assert image_of_run({**RECORD, "image": named}, cast(AnyBackend, Engine())) == (named, [])


@pytest.mark.parametrize(
    ("there", "found"), [({}, "not on this engine"), ({"dpo-launcher:cpu-0123": OTHER}, "sha256:bbbbbbbbbbbb under this name")]
)
def test_an_image_that_is_gone_or_another_one_under_its_name_is_named(there: dict[str, str], found: str) -> None:
    taken, (change,) = image_of_run(RECORD, cast(AnyBackend, Engine(there)))
    assert taken is None
    assert str(change) == (
        f"image\n    recorded: dpo-launcher:cpu-0123 (sha256:aaaaaaaaaaaa)\n    found:    {found}\n"
        "    hint:     build it from revision cccccccccccc, or load it: docker load"
    )


@pytest.mark.parametrize(
    ("gpus", "hardware", "there", "expected"),
    [
        ("auto", {"gpus": ["H200"] * 8, "ranks": 4}, 8, 4),  # the four that it was given then
        ("auto", {"gpus": [], "ranks": 1}, 8, 0),
        ("auto", {"gpus": ["H200"] * 8, "ranks": 8}, 2, 2),  # named as a change, and accepted with --anyway
        (2, {"gpus": ["H200"] * 2, "ranks": 2}, 8, 8),
        ("auto", None, 8, 8),
    ],
)
def test_auto_means_as_many_gpus_as_the_run_had(gpus: Any, hardware: Any, there: int, expected: int, tmp_path: Path) -> None:
    experiment = Experiment.parse(
        {"experiment_id": "1", "model_name": "m", "datasets_path": "data", "launch": {"gpus": gpus}}, needs_data=False
    )
    assert gpus_as_recorded(Recorded("first", experiment, DDP, {"hardware": hardware}), there) == expected
