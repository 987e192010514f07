"""The demo's data, which a generator wrote."""

from __future__ import annotations

from pathlib import Path

from trainer.inputs.demo.data import FILES, rows, write
from trainer.inputs.demo.subjects import SUBJECTS

DATA = Path(__file__).parents[4] / "configs" / "demo" / "everyday"


def test_the_files_are_those_that_the_generator_writes(tmp_path: Path) -> None:
    write(tmp_path)
    for name in FILES:
        assert (DATA / name).read_bytes() == (tmp_path / name).read_bytes(), "python -m trainer.inputs.demo.data FOLDER"


def test_no_validation_answer_is_in_training_and_each_of_its_details_is() -> None:
    training, validation = rows()
    assert (len(training), len(validation)) == (420, 84)
    answers = {concrete for _, _, concrete, _ in training}
    assert not answers & {concrete for _, _, concrete, _ in validation}
    details = [known for subject in SUBJECTS for known in (*subject.first.values(), *subject.second.values())]
    counts = {known: sum(known in answer for answer in answers) for known in details}
    assert min(counts.values()) >= 5, counts
