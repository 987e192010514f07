"""A large spreadsheet: the requests that `launcher check` makes for it, its time, its memory; beside it, equal CSV files.

    python -m tests.benchmarks.sheets [--rows 50000] [--repeat 3]

The server is the tests' own, on this machine: what Google's takes, and what the line takes, comes on top.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.sheets.google import SPREADSHEET, Cells, Google, new_key, serving

REPOSITORY = Path(__file__).parents[2]
AT_MOST = 5  # requests
HEADER = ["prompt", "chosen", "rejected"]
SETTINGS: dict[str, Any] = {"experiment_id": 1, "model_name": "Qwen/Qwen3-0.6B"}
SHEET = {
    **SETTINGS,
    "spreadsheet_id": SPREADSHEET,
    "train_sheet": "Train",
    "validation_sheet": "Held out",
    "prompt_sheet": "Prompts",
}
FILES = {**SETTINGS, "datasets_path": "data", "train_filename": "Train.csv", "validation_filename": "Held out.csv"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    sheets = {
        "Train": [HEADER, *(row(n) for n in range(given.rows))],
        "Held out": [HEADER, *(row(-n) for n in range(1, 1001))],
        "Prompts": [["name", "system", "user"], ["prompt_default", "You answer questions.", "Question: {prompt}"]],
    }
    size = len(json.dumps(sheets, ensure_ascii=False).encode())
    with tempfile.TemporaryDirectory() as folder, serving(Google(new_key(), sheets={SPREADSHEET: sheets})) as google:
        home = made(Path(folder), sheets)
        by_sheet = [measured(home, "sheet", google.env()) for _ in range(given.repeat)]
        requests = [line.split("/")[-1] for line in google.requests]
        by_file = [measured(home, "files", {}) for _ in range(given.repeat)]
    each = len(requests) / given.repeat
    report = {"rows": given.rows, "bytes": size, "requests": each, "sheet": by_sheet, "files": by_file}
    file = REPOSITORY / "build" / "bench" / "sheets.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{given.rows:,} rows, {size / 1e6:.1f} MB of cells in three worksheets")
    print(f"requests: {each:g} ({', '.join(requests[: int(each)])}); at most {AT_MOST}\n")
    print("| `launcher check`, medians | seconds | peak MiB |\n|---|---|---|")
    for name, runs in (("spreadsheet", by_sheet), ("equal CSV files", by_file)):
        seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"| {name} | {seconds:.2f} | {memory:.0f} |")
    print(f"\n{file.relative_to(REPOSITORY)}")
    sys.exit(each > AT_MOST)


def row(number: int) -> list[str]:
    """A pair of answers of the length that answers have."""
    said = f"{number}: it was measured, written down, and compared with what the others had found before that. "
    return [
        f"What came out in case {number}, and what does it mean?",
        said * 2,
        f"Hard to say {number}. It may be this or that. " * 3,
    ]


def made(home: Path, sheets: Mapping[str, Cells]) -> Path:
    for folder in ("configs", "data"):
        (home / folder).mkdir()
    (home / "configs" / "bench.yml").write_text(json.dumps({"sheet": SHEET, "files": FILES}))
    for title, cells in sheets.items():
        name = "prompt_data" if title == "Prompts" else title
        with (home / "data" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(cells)
    return home


def measured(home: Path, experiment: str, env: Mapping[str, str]) -> tuple[float, float]:
    """(seconds of wall time, peak MiB) of a process that checks ``experiment``."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "launcher", "check", experiment],
        cwd=home,
        env={**os.environ, **env, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"launcher check {experiment} failed"
    return time.perf_counter() - began, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
