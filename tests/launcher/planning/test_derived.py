from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from launcher.data.pairs import Pairs, Source
from launcher.data.text.pair import Pair
from launcher.experiment.schema import Experiment
from launcher.job.job import plan
from launcher.planning.derived import Derived, derived
from launcher.runs.run_dir import RunDir

PAIRS = Pairs(
    train=tuple(Pair(None, "Why?", "Because.", "No.", line) for line in (2, 3, 4)),
    validation=(),
    sources=(Source("train", "data/training_data.csv", "0" * 64, 3),),
    notices=(),
)


def of(hyperparameters: dict[str, object] | None = None, **launch: object) -> Derived:
    fields = {"model_name": "org/model", "datasets_path": "data", "launch": launch}
    if hyperparameters is not None:
        fields |= {"validation_filename": "v.csv", "hyperparameters": hyperparameters}
    job = plan(Experiment.parse(fields), run="first", key="demo", origin="configs/a.yml", gpus_there=2)
    pairs = PAIRS if hyperparameters is None else replace(PAIRS, validation=PAIRS.train[:2])
    return derived(job, pairs, RunDir(Path("runs/first")))


def test_facts_of_a_run_on_one_device() -> None:
    assert of(gpus=0).facts == {
        "run": "first",
        "experiment": "demo (configs/a.yml)",
        "model": "org/model",
        "data": "3 training, 0 validation pairs (rows: 3 train)",
        "tokens": "≤ 441 per epoch (upper bound: one token per byte, sequences cut at 1024)",
        "devices": "the CPU",
        "a step": "8 pairs = 2 per device × 4 accumulation × 1 device",
        "steps": "1 (1 epoch)",
        "output": "runs/first",
    }


def test_a_run_on_several_devices_tells_what_stays_the_same_and_what_differs() -> None:
    facts = of(gpus=2).facts
    assert facts["devices"] == "2 GPUs, ddp"
    assert facts["same"].startswith("the pairs of every step and their order")
    assert facts["differs"].startswith("rounding")


def test_a_run_with_validation_pairs_tells_when_they_are_evaluated() -> None:
    facts = of({"max_steps": 40, "save_steps": 15}, gpus=0).facts
    assert facts["evaluations"] == "4, 2 validation pairs each: before the first step, every 15 steps and at the end"
    each_epoch = of({"save_strategy": "epoch", "num_train_epochs": 3}, gpus=0).facts["evaluations"]
    assert each_epoch.startswith("4, 2 validation pairs each: ")
    assert "evaluations" not in of({"eval_strategy": "no"}, gpus=0).facts


def test_the_value_is_json() -> None:
    value = json.loads(json.dumps(of(gpus=2).json()))
    assert (value["run"], value["training_pairs"], value["global_batch"], value["steps"]) == ("first", 3, 8, 1)
    assert value["tokens_at_most"] == 441
