"""The project's own training, as a run has it, on a model of random weights, with a watch on its steps."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from .. import models
from ..pairs import SHAPES, make_pairs
from .parts import Place, Skipped

SIZES: Final = {"small": models.MEDIUM, "0.6B": models.QWEN3_06B, "4B": models.QWEN3_4B}
ROOM: Final = {"small": 2, "0.6B": 8, "4B": 40}  # GiB of GPU memory
WARM: Final = 4  # steps that do not count: buffers are made and kernels compiled


@dataclass(frozen=True)
class Batch:
    """Pairs of a step, and how many steps count."""

    per_device: int
    accumulation: int
    steps: int

    @property
    def pairs(self) -> int:
        return self.per_device * self.accumulation


def batch_of(place: Place) -> Batch:
    return Batch(2, 2, 2) if place.tiny else Batch(8, 2, 6)


def sizes_of(place: Place, model: str) -> models.Sizes:
    return models.TINY if place.tiny else SIZES[model]


def model_of(place: Place, model: str) -> Path:
    """The folder of the model, which is made where it is missing. Raises Skipped where the GPU is too small for it."""
    if place.device == "cuda" and not place.tiny:
        import torch

        there = torch.cuda.get_device_properties(0).total_memory / 2**30
        if there < ROOM[model]:
            raise Skipped(f"a {model} model needs {ROOM[model]} GiB of GPU memory; this GPU has {there:.0f} GiB")
    folder = place.folder / ("tiny" if place.tiny else model)
    models.save(sizes_of(place, model), folder, place.device)
    return folder


def data_of(place: Place, vocabulary: int, shape: str, count: int) -> Path:
    """A folder with ``count`` pairs of the shape as text, which the model's tokenizer turns into the same ids again."""
    folder = place.folder / f"{shape.replace(' ', '-')}-{vocabulary}-{count}"
    if folder.is_dir():
        return folder
    folder.mkdir(parents=True)
    with (folder / "training_data.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["question", "chosen", "rejected"])
        for pair in make_pairs(SHAPES[shape], count, vocabulary):
            table.writerow([" ".join(f"w{id}" for id in ids) for ids in (pair.prompt, pair.chosen, pair.rejected)])
    (folder / "prompt_data.csv").write_text("name,system,user\nprompt_default,,{question}\n", encoding="utf-8")
    return folder


def experiment_of(place: Place, model: str, shape: str, steps: int, **settings: Any) -> Any:
    """The experiment of ``steps`` on as many pairs as they need; raises Skipped where this version has no such setting."""
    from launcher.experiment.schema import Experiment

    batch = batch_of(place)
    hyper = {
        "max_seq_length": 4096,
        "per_device_train_batch_size": batch.per_device,
        "gradient_accumulation_steps": batch.accumulation,
        "learning_rate": 1e-3,
        "random_state": 0,
        "max_steps": steps,
        "save_strategy": "no",
        "eval_strategy": "no",
        "model_output_dir": "out",
        **settings,
    }
    unknown = without_setting(hyper, "compile")
    if unknown is not None:
        raise Skipped(unknown)
    folder = model_of(place, model)
    data = data_of(place, sizes_of(place, model)["vocab_size"], shape, steps * batch.pairs)
    return Experiment.parse(
        {
            "experiment_id": "gpu",
            "model_name": str(folder),
            "datasets_path": str(data),
            "dpo_column_mapping_config": {
                "input_columns": {"question": "question"},
                "chosen": "chosen",
                "rejected": "rejected",
            },
            "hyperparameters": hyper,
            "launch": {"gpus": int(place.device == "cuda")},
        }
    )


def without_setting(hyper: dict[str, Any], name: str) -> str | None:
    """Why ``hyper`` cannot be trained by this version, which may not know the setting ``name`` or its value.

    ``off`` is what a version without the setting does anyway: then it is taken out.
    """
    from pydantic import ValidationError

    from launcher.experiment.sections.hyperparameters import Hyperparameters

    if name not in hyper:
        return None
    if name not in Hyperparameters.model_fields:
        value = hyper.pop(name)
        return None if value == "off" else f"this version has no hyperparameters.{name}"
    try:
        Hyperparameters(**{name: hyper[name]})
    except ValidationError as error:
        return f"this version has no hyperparameters.{name}: {hyper[name]} ({error.errors()[0]['msg']})"
    return None


class Said:
    """The trainer's output: every line is kept, and printed into the part's log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)
        print(text, flush=True)

    def event(self, line: str) -> None:
        print(line, flush=True)

    def about(self, *words: str) -> list[str]:
        """The lines with any of the words."""
        return [line for line in self.lines if any(word in line.lower() for word in words)]


def trained(place: Place, experiment: Any, name: str, *watches: Any) -> tuple[Any, Said]:
    """(the trainer after its last step, what was said): a whole run in this process; the callbacks ``watches`` see its steps."""
    from trainer.output import using
    from trainer.processes.stop import StopRequest
    from trainer.train import Roots, train

    said, run = Said(), run_of(place, experiment, name)
    with using(said), watched(watches) as found:
        train(run, experiment, Roots(place.folder, place.folder, place.folder / "cache"), StopRequest(), attempt=1)
    return found[0], said


def run_of(place: Place, experiment: Any, name: str) -> Any:
    """The run's folder, made where it is missing."""
    from launcher.runs.run_dir import RunDir

    run = RunDir.of(place.folder, "out", experiment.experiment_id, experiment.model_folder, name)
    if not run.path.is_dir():
        run.create({run.experiment: experiment.model_dump_json()}, {"run": name})
    return run


@contextmanager
def watched(watches: tuple[Any, ...]) -> Iterator[list[Any]]:
    """Every trainer that is prepared meanwhile gets the callbacks; the list holds these trainers."""
    import trainer.train

    prepare, found = trainer.train.prepare_trainer, []

    def prepared(*args: Any, **kwargs: Any) -> Any:
        ready = prepare(*args, **kwargs)
        found.append(ready.trainer)
        for watch in watches:
            watch.trainer = ready.trainer
            ready.trainer.add_callback(watch)
        return ready

    with patch.object(trainer.train, "prepare_trainer", prepared):
        yield found
