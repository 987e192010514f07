"""Fifty SIGKILLs in random steps and writes over the ways to share a model: fifty adapters like that of an uninterrupted run.

    python -m tests.benchmarks.soak [--times N]      # kills for each of ten modes, 5 by default

Each mode is one ``launcher drill`` of the demo's experiment on this machine's CPU. JSON goes to build/bench/soak.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODES = {"one": ("ddp", 1), "ddp": ("ddp", 2), "zero1": ("zero1", 2), "zero2": ("zero2", 2), "zero3": ("zero3", 2)}
KINDS = {"lora": [], "full": ["hyperparameters.full_finetuning=true", "hyperparameters.learning_rate=1e-4"]}


def drilled(mode: str, kind: str, times: int) -> dict[str, Any]:
    parallelism, processes = MODES[mode]
    settings = [
        f"launch.parallelism={parallelism}",
        f"launch.processes={processes}",
        "hyperparameters.per_device_train_batch_size=4",
        "hyperparameters.gradient_accumulation_steps=4",
        f"hyperparameters.model_output_dir=build/soak/{mode}-{kind}",
        *KINDS[kind],
    ]
    argv = [sys.executable, "-m", "launcher", "drill", "demo", "--backend", "host", "--times", str(times), "--json"]
    done = subprocess.run([*argv, *(f"--set={setting}" for setting in settings)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mode} {kind}: the drill itself failed (exit {done.returncode})")
    return dict(json.loads(done.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    found, began = {}, time.monotonic()
    print("| mode | SIGKILLs: same adapter | SIGTERM: same adapter | killed during |\n|---|---|---|---|")
    for kind in KINDS:
        for mode in MODES:
            trials = drilled(mode, kind, times)["trials"]
            found[f"{mode} {kind}"] = trials
            killed = [trial for trial in trials if trial["how"] == "SIGKILL"]
            stopped = [trial for trial in trials if trial["how"] == "SIGTERM"]
            cells = [f"{sum(t['is_same'] and t['counts'] for t in some)} of {len(some)}" for some in (killed, stopped)]
            print(f"| {mode} {kind} | {' | '.join(cells)} | {', '.join(t['under_way'] for t in killed)} |", flush=True)
    every = [trial for trials in found.values() for trial in trials]
    print(f"\n{sum(t['is_same'] and t['counts'] for t in every)} of {len(every)} in {(time.monotonic() - began) / 60:.0f} min")
    out = Path("build", "bench", "soak.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if all(trial["is_same"] and trial["counts"] for trial in every) else 1


if __name__ == "__main__":
    sys.exit(main())
