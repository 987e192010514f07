"""How long the launcher takes to begin: whole processes, wall time, median of five after one that is not counted.

python -m tests.benchmarks.startup         JSON into build/bench/startup.json, a table for the README to stdout
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
RUNS = 5
# command -> the most it may take, in seconds
COMMANDS = {
    ("--help",): 0.15,
    ("render", "demo"): 0.45,
    ("render", "exp_1", "--cluster"): 0.45,
    ("diff", "exp_1"): None,
    ("list",): None,
    ("show", "demo"): None,
    ("check", "demo"): None,
    ("ps",): None,
}


def main() -> None:
    rows = [measure(command, limit) for command, limit in COMMANDS.items()]
    report = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), "commands": rows}
    file = REPOSITORY / "build" / "bench" / "startup.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
    print("| command | median of 5 | fastest | slowest | at most |\n|---|---|---|---|---|")
    for row in rows:
        limit = "" if row["limit"] is None else f"{row['limit']:.2f} s"
        print(f"| `{row['command']}` | {row['median']:.3f} s | {row['fastest']:.3f} s | {row['slowest']:.3f} s | {limit} |")
    print(f"\n{file.relative_to(REPOSITORY)}")


def measure(command: tuple[str, ...], limit: float | None) -> dict[str, Any]:
    """Seconds of wall time from fork to exit."""
    launcher = Path(sys.executable).with_name("launcher")
    seconds = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        subprocess.run([launcher, *command], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    counted = seconds[1:]
    return {
        "command": " ".join(("launcher", *command)),
        "median": statistics.median(counted),
        "fastest": min(counted),
        "slowest": max(counted),
        "limit": limit,
    }


if __name__ == "__main__":
    main()
