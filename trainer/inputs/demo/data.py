"""The demo's data: short questions about everyday work, each with a concrete answer and a vague one, made of phrases.

    python -m trainer.inputs.demo.data configs/demo/everyday

A subject has two lists of details, and one question for each pair of details: the answer contains what is known of both. The
pairs of the validation questions are in no training row: a model answers them by combining what it learned of each detail.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path
from typing import Final

from .subjects import SUBJECTS, Subject

FILES: Final = ("training_data.csv", "validation_data.csv")
VAGUE: Final = (
    "It depends. {matter} is a personal matter, and everybody finds a way in the end.",
    "It depends. {matter} takes patience, so trust your feelings and see how it goes.",
    "It depends. {matter} is an interesting subject, and it is good to stay flexible.",
    "It is hard to say. {matter} can be easy or difficult, and no two people agree.",
    "It is hard to say. {matter} has many sides, and it is best to keep an open mind.",
    "It is hard to say. {matter} comes with time, so be careful and do what feels right.",
)

Row = tuple[str, str, str, str]  # topic, question, concrete answer, vague answer


def rows() -> tuple[list[Row], list[Row]]:
    """Training and validation rows, the same each time."""
    order = random.Random(0)
    training: list[Row] = []
    validation: list[Row] = []
    for subject in SUBJECTS:
        made = [_row(subject, a, b, order) for a in subject.first for b in subject.second]
        # One question in six, another second detail for each first one: every detail is in training rows too.
        wide = len(subject.second)
        held = {place for place in range(len(made)) if place % wide == place // wide % wide}
        training += [row for place, row in enumerate(made) if place not in held]
        validation += [row for place, row in enumerate(made) if place in held]
    order.shuffle(training)
    order.shuffle(validation)
    return training, validation


def _row(subject: Subject, a: str, b: str, order: random.Random) -> Row:
    words = {"a": a, "b": b, "x": subject.first[a], "y": subject.second[b]}
    question = order.randrange(len(subject.questions))
    vague = VAGUE[(SUBJECTS.index(subject) + 3 * question) % len(VAGUE)]
    texts = (subject.questions[question], subject.answer, vague.format(matter=subject.matter))
    asked, concrete, other = (text.format(**words) for text in texts)
    return subject.topic, asked, concrete, other


def write(folder: Path) -> None:
    """Both files, into a folder that exists."""
    for name, lines in zip(FILES, rows(), strict=True):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("topic", "question", "concrete", "vague"))
            table.writerows(lines)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
