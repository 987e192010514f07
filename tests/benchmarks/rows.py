"""Large tables: CPU time and memory of `launcher check`, with every text check, for CSV, JSONL and Parquet of rows of 1 kB.

    python -m tests.benchmarks.rows [--rows 200000] [--large 2000000]

``--rows``: of each format; ``--large``: of one more Parquet file, which is larger than the memory that may be used; 0: none.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SECONDS, GIB = 30, 2  # at most, of CPU time for ``--rows`` and of memory for all
HEADER = ("prompt", "chosen", "rejected")
GROUP = 20_000  # rows of a row group


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--large", type=int, default=2_000_000)
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "configs").mkdir()
        (home / "data").mkdir()
        asked = [*((name, given.rows) for name in ("train.csv", "train.jsonl", "train.parquet")), ("large.parquet", given.large)]
        for name, count in asked:
            if count:
                found.append({"file": name, "rows": count, **checked(home, write(home / "data" / name, count))})
                (home / "data" / name).unlink()
    file = REPOSITORY / "build" / "bench" / "rows.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=2) + "\n")
    print("| file | rows | MB | `launcher check`: CPU seconds | peak GiB |\n|---|---|---|---|---|")
    for one in found:
        print(f"| {one['file']} | {one['rows']:,} | {one['size'] / 1e6:.0f} | {one['seconds']:.1f} | {one['gib']:.2f} |")
    print(f"\n{file.relative_to(REPOSITORY)}")
    is_slow = any(one["seconds"] > SECONDS for one in found if one["rows"] <= given.rows)
    sys.exit(is_slow or any(one["gib"] > GIB for one in found))


def rows(count: int) -> Iterator[tuple[str, str, str]]:
    """Rows of about 1 kB: words, some of them with letters that are not ASCII."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)]
    words += ["schön", "größe", "naïve", "(see", "<b>", "&", "“quoted”"]
    for _ in range(count):
        yield tuple(" ".join(rng.choices(words, k=size)) for size in (40, 60, 60))


def write(path: Path, count: int) -> Path:
    made = rows(count)
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER])
            csv.writer(file).writerows(made)
    elif path.suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(dict(zip(HEADER, row, strict=True)), ensure_ascii=False) + "\n" for row in made)
    else:
        import pyarrow as pa
        from pyarrow import parquet

        schema = pa.schema([(name, pa.string()) for name in HEADER])
        with parquet.ParquetWriter(path, schema) as file:
            for start in range(0, count, GROUP):
                some = [next(made) for _ in range(min(GROUP, count - start))]
                file.write_table(pa.table([list(column) for column in zip(*some, strict=True)], schema=schema))
    return path


def checked(home: Path, path: Path) -> dict[str, float]:
    """{"size": bytes, "seconds" of CPU time, "gib"} of a process that checks ``path``."""
    experiment = {"experiment_id": 1, "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data", "train_filename": path.name}
    (home / "configs" / "bench.yml").write_text(json.dumps({"bench": experiment}))
    process = subprocess.Popen(
        [sys.executable, "-m", "launcher", "check", "bench"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"launcher check failed for {path.name}"
    return {"size": path.stat().st_size, "seconds": used.ru_utime + used.ru_stime, "gib": used.ru_maxrss / 2**20}


if __name__ == "__main__":
    main()
