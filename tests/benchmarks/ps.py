"""How long `launcher ps --cluster --all` takes to list 1,000 runs: whole processes, wall time, median of five after a first one.

python -m tests.benchmarks.ps         JSON into build/bench/ps.json, a table for the README to stdout

The API server is the tests' emulator, in a process of its own, so that both have a core.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TIMES = 5
RUNS = 1000
RUNNING = 100  # of them, with a pod each, and as many that have failed
MOST = 2.0  # seconds


def main() -> None:
    here, there = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(Path(folder), there), daemon=True)
        server.start()
        kubeconfig = here.recv()
        seconds = [listed(kubeconfig, Path(folder)) for _ in range(TIMES + 1)][1:]
        here.send("end")
        requests = here.recv()
        server.join()
    row = {"median": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds), "requests": requests}
    report = {"cores": os.cpu_count(), "runs": RUNS, "running": RUNNING, "at_most": MOST, **row}
    file = REPOSITORY / "build" / "bench" / "ps.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
    print("| runs | requests | median of 5 | fastest | slowest | at most |\n|---|---|---|---|---|---|")
    print(f"| {RUNS} | {requests} | {row['median']:.2f} s | {row['fastest']:.2f} s | {row['slowest']:.2f} s | {MOST:.1f} s |")
    print(f"\n{file.relative_to(REPOSITORY)}")
    if row["median"] > MOST:
        sys.exit(1)


def listed(kubeconfig: str, folder: Path) -> float:
    """Seconds from fork to exit."""
    command = [str(Path(sys.executable).with_name("launcher")), "ps", "--cluster", "--all"]
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "KUBECONFIG": kubeconfig}, check=True, capture_output=True, text=True
    )
    took = time.perf_counter() - began
    states = [line.split()[1] for line in done.stdout.splitlines()[1:]]
    expected = ["done"] * (RUNS - 2 * RUNNING) + ["failed"] * RUNNING + ["running"] * RUNNING
    assert sorted(states) == expected, done.stdout[:2000]
    return took


def serve(folder: Path, other: Connection) -> None:
    """The emulator with its runs, until it is told to end; answers with the number of requests of one listing."""
    from tests.cluster_api import ClusterApi
    from tests.cluster_api.played import Played

    def made(name: str, end: Callable[[Played], None] | None) -> None:
        played = Played(api, name)
        played.start()
        if end is not None:
            end(played)

    with ClusterApi(folder) as api:
        for number in range(RUNS):
            ends = (Played.complete, None, lambda played: played.fail(42, "the learning rate is no number"))
            made(f"demo-20261124-{number:06d}-ab12", ends[1 if number < RUNNING else 2 if number < 2 * RUNNING else 0])
        # What a real list has beside this, and a reader must take in: managedFields of three managers.
        for obj in api.objects.list("jobs") + api.objects.list("pods"):
            obj["metadata"]["managedFields"] = [{"manager": m, "fieldsV1": {"f:spec": {"f:x": {}}}} for m in ("a", "b", "c")]
            api.objects.put(obj)
        other.send(str(api.kubeconfig))
        other.recv()
        other.send(len(api.asked("GET")) // (TIMES + 1))


if __name__ == "__main__":
    main()
