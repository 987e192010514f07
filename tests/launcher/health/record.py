"""Records the metrics of real runs of the demo, healthy ones and ones with a planted fault, for the tests of the rules.

``python -m tests.launcher.health.record MODEL [NAME …]`` trains each on this machine (about a minute of one core) and writes
``streams/NAME.jsonl``: first the facts of the run, then its log. MODEL is the demo's, which `make demo` makes.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch

REPOSITORY: Final = Path(__file__).parents[3]
STREAMS: Final = Path(__file__).parent / "streams"

Rows = list[dict[str, str]]


def flipped(rows: Rows) -> Rows:
    """Labels flipped in 10 % of the rows."""
    wrong = set(random.Random(0).sample(range(len(rows)), len(rows) // 10))
    return [_turned(row) if number in wrong else row for number, row in enumerate(rows)]


def swapped(rows: Rows) -> Rows:
    return [_turned(row) for row in rows]


def giant(rows: Rows) -> Rows:
    """One answer of forty times its length."""
    return [{**row, "vague": " ".join([row["vague"]] * 40)} if number == 7 else row for number, row in enumerate(rows)]


def doubled(rows: Rows) -> Rows:
    """Every tenth row is there twice."""
    return rows + rows[::10]


def _turned(row: dict[str, str]) -> dict[str, str]:
    return {**row, "concrete": row["vague"], "vague": row["concrete"]}


def frozen() -> AbstractContextManager[Any]:
    """An optimizer that changes no weight."""
    return patch("torch.optim.AdamW.step", lambda self, closure=None: None)


Fault = tuple[dict[str, Any], Callable[[Rows], Rows], Callable[[], AbstractContextManager[Any]]]
RUNS: Final[dict[str, Fault]] = {
    **{f"healthy-{seed}": ({"seed": seed, "random_state": seed}, list, nullcontext) for seed in range(1, 6)},
    "flipped-labels": ({}, flipped, nullcontext),
    "learning-rate-x100": ({"learning_rate": 0.1}, list, nullcontext),
    "swapped-columns": ({}, swapped, nullcontext),
    "frozen-adapter": ({}, list, frozen),
}


def changed_data(folder: Path, change: Callable[[Rows], Rows]) -> None:
    """Puts the demo's data into ``folder``, its training rows changed."""
    shutil.copytree(REPOSITORY / "configs" / "demo" / "everyday", folder, dirs_exist_ok=True)
    with (folder / "training_data.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "training_data.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(change(rows))


def experiment_of(name: str, model: Path, data: Path) -> Any:
    """The demo's experiment as the run ``name`` has it, with its data in ``data``."""
    import yaml

    from launcher.experiment.schema import Experiment

    hyper, change, _ = RUNS[name]
    demo = yaml.safe_load((REPOSITORY / "configs" / "demo.yml").read_text(encoding="utf-8"))["demo"]
    changed_data(data, change)
    settings = {**demo, "samples": False, "model_name": str(model), "datasets_path": str(data)}
    return Experiment.parse({**settings, "hyperparameters": {**demo["hyperparameters"], **hyper}})


def record(name: str, model: Path, root: Path) -> list[str]:
    """Trains the run ``name`` below ``root``; the lines of its stream."""
    from launcher.runs.run_dir import RunDir
    from trainer.processes.stop import StopRequest
    from trainer.train import Roots, train

    experiment = experiment_of(name, model, root / f"data-{name}")
    run = RunDir.of(root, "out", "demo", "qwen3-tiny", name)
    run.create({run.experiment: experiment.model_dump_json()}, {"run": name, "experiment": experiment.model_dump(mode="json")})
    with RUNS[name][2]():
        train(run, experiment, Roots(root, root, root / "cache"), StopRequest(), attempt=1)
    lines = [json.loads(line) for line in run.steps.read_text(encoding="utf-8").splitlines()]
    saved = run.read_record()
    kept = {
        "hyperparameters": ("per_device_train_batch_size", "gradient_accumulation_steps", "beta", "loss_type", "max_seq_length")
    }
    kept |= {"launch": ("global_batch_size",), "dpo_column_mapping_config": ("chosen", "rejected")}
    facts: dict[str, Any] = {
        "experiment": {part: {key: saved["experiment"][part][key] for key in keys} for part, keys in kept.items()}
    }
    facts["work"] = saved["work"]
    return [json.dumps(_short(line)) for line in (facts, *(line for line in lines if line["type"] != "summary"))]


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main(model: str, *names: str) -> None:
    STREAMS.mkdir(exist_ok=True)
    with TemporaryDirectory() as root:
        for name in names or RUNS:
            lines = record(name, Path(model).absolute(), Path(root))
            (STREAMS / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
