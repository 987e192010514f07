"""One experiment on one process and on two, by DDP and by the stages of ZeRO: losses, speed, and what a checkpoint costs.

    python -m tests.benchmarks.parallel [--steps 20]

The demo's model on this machine's CPU, one thread a process, one global batch. JSON goes to build/bench/parallel.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from launcher.runs.finding import choose, newest_first

OUTPUT = Path("build", "parallel")
MODES = {"one": ("ddp", 1), "ddp": ("ddp", 2), "zero1": ("zero1", 2), "zero2": ("zero2", 2), "zero3": ("zero3", 2)}
BATCH = 32


def trained(mode: str, steps: int) -> dict[str, Any]:
    parallelism, processes = MODES[mode]
    settings = [
        f"launch.parallelism={parallelism}",
        f"launch.processes={processes}",
        f"launch.cpus={processes}",
        "hyperparameters.per_device_train_batch_size=8",
        f"launch.global_batch_size={BATCH}",
        f"hyperparameters.max_steps={steps}",
        f"hyperparameters.save_steps={max(1, steps // 4)}",
        "hyperparameters.eval_strategy=no",
        "hyperparameters.load_best_model_at_end=false",
        f"hyperparameters.model_output_dir={OUTPUT}",
    ]
    argv = [sys.executable, "-m", "launcher", "run", "demo", "--backend", "host"]
    subprocess.run([*argv, *(f"--set={setting}" for setting in settings)], stdout=subprocess.DEVNULL, check=True)
    run = choose("latest", newest_first([OUTPUT]))
    events = [json.loads(line) for line in run.steps.read_text(encoding="utf-8").splitlines()]
    train = [event for event in events if event["type"] == "train"]
    seconds = [b["seconds"] - a["seconds"] for a, b in itertools.pairwise(train)][1:]
    checkpoint = run.checkpoints()[-1]
    return {
        "losses": [event["loss"] for event in train],
        "pairs_per_second": BATCH / statistics.median(seconds),
        "checkpoint_seconds": run.read_record()["result"]["checkpoint_seconds"],
        "checkpoint_bytes": sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    found = {mode: trained(mode, steps) for mode in MODES}
    one = found["one"]
    print(f"| {steps} steps of {BATCH} pairs | losses differ by at most | pairs/s | × one | checkpoint s | MiB |")
    print("|---|---|---|---|---|---|")
    for mode, now in found.items():
        worst = max(abs(a - b) / b for a, b in zip(now["losses"], one["losses"], strict=True))
        ratio = now["pairs_per_second"] / one["pairs_per_second"]
        print(
            f"| {mode} | {worst:.1e} | {now['pairs_per_second']:.1f} | {ratio:.2f} | "
            f"{now['checkpoint_seconds']:.2f} | {now['checkpoint_bytes'] / 2**20:.1f} |"
        )
    out = Path("build", "bench", "parallel.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
