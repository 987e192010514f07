"""Swapped labels found again: of 5 % of the demo's training pairs with swapped answers, how many are among the lowest tenth.

    python -m tests.benchmarks.suspects [--draws N]      # 5 by default; after `make demo`, which makes the model

Each draw is the demo's training with other pairs swapped; the ranking is the one that every run leaves in
evaluation/suspects.jsonl. JSON goes to build/bench/suspects.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from trainer import DPOTrainer, YamlConfigLoader

SHARE = 0.05


def swapped(source: Path, target: Path, seed: int) -> set[int]:
    """Copies the demo's data to ``target`` with swapped answers in some training rows; returns those rows' lines."""
    shutil.copytree(source, target)
    with (source / "training_data.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = set(random.Random(seed).sample(range(len(rows)), round(SHARE * len(rows))))
    with (target / "training_data.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for place, row in enumerate(rows):
            other = {"concrete": row["vague"], "vague": row["concrete"]} if place in chosen else {}
            writer.writerow({**row, **other})
    return {place + 2 for place in chosen}  # no cell of the demo holds a line break


def draw(seed: int, folder: Path) -> dict[str, Any]:
    """One training: how many pairs were swapped, found among the lowest tenth, and counted as suspects."""
    config = YamlConfigLoader(base_dir="configs").load("demo.yml", "demo")
    wrong = swapped(Path(config["datasets_path"]), folder / f"data-{seed}", seed)
    h = config["hyperparameters"].model_copy(update={"model_output_dir": str(folder / "runs")})
    settings = {**config, "datasets_path": str(folder / f"data-{seed}"), "hyperparameters": h, "samples": 0}
    trained = DPOTrainer(**settings).train(progress="none")
    learned = json.loads((trained.folder / "run.json").read_text(encoding="utf-8"))["result"]["learned"]
    lines = (trained.folder / "evaluation" / "suspects.jsonl").read_text(encoding="utf-8").splitlines()
    lowest = {json.loads(line)["row"] for line in lines[: round(learned["looked_at"] / 10)]}
    return {"seed": seed, "swapped": len(wrong), "in_lowest_tenth": len(wrong & lowest), "suspects": learned["suspects"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=5)
    found = []
    print("| draw | swapped | in the lowest tenth | suspects |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(parser.parse_args().draws):
            one = draw(seed, Path(folder))
            found.append(one)
            print(f"| {' | '.join(map(str, one.values()))} |", flush=True)
    mean = statistics.fmean(one["in_lowest_tenth"] / one["swapped"] for one in found)
    print(f"\n{mean:.0%} of the swapped pairs are in the lowest tenth")
    out = Path("build", "bench", "suspects.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"mean": mean, "draws": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
