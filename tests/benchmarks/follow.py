"""Following 64 pods that print 1,000 lines a second together, in real time, while every connection is dropped again and again.

python -m tests.benchmarks.follow [SECONDS]      JSON into build/bench/follow.json, a table for the README to stdout

The launcher is a process of its own, `launcher logs -f RUN --rank all`, and the API server is the tests' emulator in this one.
The lines are read back from what the launcher has printed: none may be missing, none doubled, and each rank's are in order.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.cluster_api import ClusterApi
from tests.cluster_api.played import Played

REPOSITORY = Path(__file__).parents[2]
PODS = 64
LINES_A_SECOND = 1000
DROPS = 20  # times that the log streams of all pods and the watches are cut, in the middle of lines
MOST = 150  # MiB


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder, ClusterApi(Path(folder)) as api:
        row = measure(api, Path(folder), seconds)
    report = {"cores": os.cpu_count(), "pods": PODS, "lines_a_second": LINES_A_SECOND, **row}
    file = REPOSITORY / "build" / "bench" / "follow.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
    print("| pods | lines | seconds | drops | logs cut | lost | doubled | out of order | peak memory | at most |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    names = ("lines", "seconds", "drops", "cut", "lost", "doubled", "disordered")
    print(f"| {PODS} | {' | '.join(str(row[name]) for name in names)} | {row['peak_mib']:.0f} MiB | {MOST} MiB |")
    print(f"\n{file.relative_to(REPOSITORY)}")
    if row["lost"] or row["doubled"] or row["disordered"] or row["peak_mib"] > MOST:
        sys.exit(1)


def measure(api: ClusterApi, folder: Path, seconds: float) -> dict[str, Any]:
    """One run of ``seconds``, followed from its beginning to its end."""
    played = Played(api, "big", nodes=PODS)
    pods = played.start()
    env = {**os.environ, "KUBECONFIG": str(api.kubeconfig), "PYTHONUNBUFFERED": "1"}
    said = folder / "said"
    with said.open("wb") as out:
        command = [sys.executable, "-m", "launcher", "logs", "-f", "big", "--cluster", "--rank", "all"]
        launcher = subprocess.Popen(command, cwd=folder, env=env | {"PYTHONPATH": str(REPOSITORY)}, stdout=out, stderr=out)
        while api.streams("/log") < PODS:
            time.sleep(0.05)
        cut = write(api, pods, seconds)
        played.complete()
        peak = ended(launcher)
    printed = int(seconds * LINES_A_SECOND)
    return {
        "seconds": seconds,
        "lines": printed,
        "drops": DROPS,
        "cut": cut,
        "peak_mib": peak,
        **compared(said.read_text(), printed),
    }


def write(api: ClusterApi, pods: list[str], seconds: float) -> int:
    """Prints lines in turn, every second one in two pieces; returns how many logs were cut, all of them between pieces."""
    logs = [api.log(pod) for pod in pods]
    total, drop, cut = int(seconds * LINES_A_SECOND), int(seconds * LINES_A_SECOND / (DROPS + 1)), 0
    begin = time.monotonic()
    for number in range(total):
        log, text = logs[number % PODS], f"[rank {number % PODS}] line {number} of this run, as long as lines of logs are\n"
        is_cut = number % drop == drop - 1 and number // drop < DROPS
        half = len(text) // 2 if number % 2 or is_cut else len(text)
        log.write(text[:half])
        if is_cut:
            cut += api.cut("/log")
            api.cut("watch=true")
        log.write(text[half:]) if half < len(text) else None
        late = begin + number / LINES_A_SECOND - time.monotonic()
        if late > 0:
            time.sleep(late)
    return cut


def ended(launcher: subprocess.Popen[bytes]) -> float:
    """Waits for the launcher's end; its peak of resident memory in MiB."""
    _, status, usage = os.wait4(launcher.pid, 0)
    launcher.returncode = os.waitstatus_to_exitcode(status)
    if launcher.returncode:
        sys.exit(f"the launcher ended with {launcher.returncode}")
    return usage.ru_maxrss / 1024


def compared(said: str, printed: int) -> dict[str, int]:
    """How many lines are missing, were said twice, or come after a later one of their rank."""
    found = [
        (int(rank), int(number)) for rank, number in re.findall(r"^\[rank (\d+)\] line (\d+) of this run", said, re.MULTILINE)
    ]
    numbers = [number for _, number in found]
    last: dict[int, int] = {}
    disordered = 0
    for rank, number in found:
        disordered += number < last.get(rank, -1)
        last[rank] = number
    return {"lost": printed - len(set(numbers)), "doubled": len(numbers) - len(set(numbers)), "disordered": disordered}


if __name__ == "__main__":
    main()
