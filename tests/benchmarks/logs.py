"""What a step's line costs: the health rules, JSONL and TensorBoard, in CPU seconds, against the whole step.

    python -m tests.benchmarks.logs [--steps N]      # 12 by default; after `make demo`, which makes the model

One thread, a line for every step: the demo as it is (0.4 million parameters, 16 short pairs, fp32), and the same with a model
of 0.1 billion. The first two steps do not count. JSON goes to build/bench/logs.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: threads that wait would count

from trainer import DPOTrainer, YamlConfigLoader
from trainer.health import HealthCallback
from trainer.logs import LogCallback

from .models import HUNDRED, resized

DEMO: Final = Path("data", "demo", "qwen3-tiny")
PAIRS: Final = 32
SKIPPED: Final = 2  # steps that import and compile


class Clock:
    """CPU seconds of the process, its threads' too, in each call of what is measured."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(list)
        self.ends: list[float] = []  # of steps with their lines

    def measure(self, owner: type, method: str, name: str) -> None:
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return inner(*args, **kwargs)
            finally:
                now = time.process_time()
                self.spent[name].append(now - began)
                if name == "all":
                    self.ends.append(now)

        setattr(owner, method, timed)

    def taken(self, steps: int) -> dict[str, float]:
        """Means of a step, in milliseconds; ``share``: of all that a line costs in its step."""
        spent = {name: 1e3 * statistics.fmean(times[SKIPPED:steps]) for name, times in self.spent.items()}
        step = 1e3 * (self.ends[steps - 1] - self.ends[SKIPPED - 1]) / (steps - SKIPPED)
        self.spent.clear()
        self.ends.clear()
        return {"step": step, **spent, "share": spent["all"] / step}


def beginning(folder: Path) -> Path:
    """``folder`` with the demo's first training rows: the reference of all takes a large model minutes."""
    folder.mkdir()
    source = Path("configs", "demo", "everyday", "training_data.csv").read_text(encoding="utf-8")
    (folder / "training_data.csv").write_text("".join(source.splitlines(keepends=True)[: PAIRS + 1]), encoding="utf-8")
    return folder


def train(model: Path, data: Path, steps: int, folder: Path) -> None:
    config = YamlConfigLoader(base_dir="configs").load("demo.yml", "demo")
    about = {"model_output_dir": str(folder / "runs"), "max_steps": steps, "eval_strategy": "no", "save_strategy": "no"}
    about |= {"load_best_model_at_end": False}
    h = config["hyperparameters"].model_copy(update=about)
    settings = {
        **config,
        "model_name": str(model),
        "datasets_path": str(data),
        "hyperparameters": h,
        "samples": 0,
        "validation_filename": None,
    }
    DPOTrainer(**settings).train(progress="none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    steps = parser.parse_args().steps
    from trainer.step.dpo import DPOTrainer as Own

    clock = Clock()
    clock.measure(Own, "log", "all")
    clock.measure(LogCallback, "on_log", "jsonl, tensorboard")
    clock.measure(HealthCallback, "on_log", "health")
    found: dict[str, dict[str, float]] = {}
    print("| model | a step, ms | its line | of this JSONL, TensorBoard | health rules | share |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data = beginning(Path(folder, "data"))
        for name, model in (("demo", DEMO), ("0.1B", resized(DEMO, HUNDRED, Path(folder, "model")))):
            train(model, data, steps, Path(folder, name))
            found[name] = one = clock.taken(steps)
            parts = (one["step"], one["all"], one["jsonl, tensorboard"], one["health"])
            print(f"| {name} | {' | '.join(f'{part:.2f}' for part in parts)} | {one['share']:.2%} |", flush=True)
    out = Path("build", "bench", "logs.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"steps": steps, "models": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
