"""How fast an adapter of 1 GiB goes up, with all that makes it safe, beside boto3's own transfer of the same file.

python -m tests.benchmarks.upload [--size MIB] [--rounds N]    JSON into build/bench/upload.json, a table to stdout

Both send to the same server in a process of its own, which takes all and hashes nothing; in turns, the median of three. boto3 is
bare: ``upload_file`` with its default TransferConfig (parts of 8 MiB, ten threads). Ours lists the bucket, hashes the file and
its parts, looks at the object and writes the manifest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3

from launcher.experiment.schema import StorageConfig
from launcher.storage import upload_folder

REPOSITORY = Path(__file__).parents[2]
LEAST = 0.80  # of boto3's speed
KEYS = {"AWS_ACCESS_KEY": "benchmark", "AWS_SECRET_KEY": "benchmark", "AWS_REGION": "us-east-1"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1024, metavar="MIB")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.s3.sink"], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "adapter_model.safetensors"
        with file.open("wb") as out:
            for _ in range(chosen.size):
                out.write(os.urandom(1 << 20))
        ways = {"boto3, bare": lambda: bare(file, url), "launcher": lambda: ours(Path(folder), url)}
        for send in ways.values():  # not counted: imports, and the file comes into memory
            send()
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(chosen.rounds):
            for way, send in ways.items():
                began = time.perf_counter()
                send()
                seconds[way].append(time.perf_counter() - began)
    server.kill()
    report(chosen.size, seconds)


def bare(file: Path, url: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="benchmark", aws_secret_access_key="benchmark", region_name="us-east-1"
    )
    client.upload_file(str(file), "models", "bare/adapter_model.safetensors")


def ours(folder: Path, url: str) -> None:
    upload_folder(folder, storage=StorageConfig(bucket_name="models", endpoint_url=url), prefix_parts=("ours",), env=KEYS)


def report(size: int, seconds: dict[str, list[float]]) -> None:
    speeds = {way: size / statistics.median(taken) for way, taken in seconds.items()}
    share = speeds["launcher"] / speeds["boto3, bare"]
    result = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "mib": size,
        "seconds": seconds,
        "mib_per_second": speeds,
        "share": share,
        "least": LEAST,
    }
    out = REPOSITORY / "build" / "bench" / "upload.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"| {size} MiB | median of {len(seconds['launcher'])} | fastest | slowest | speed |\n|---|---|---|---|---|")
    for way, taken in seconds.items():
        spread = f"{min(taken):.2f} s | {max(taken):.2f} s"
        print(f"| {way} | {statistics.median(taken):.2f} s | {spread} | {speeds[way]:.0f} MiB/s |")
    print(f"\n{share:.0%} of boto3's speed, at least {LEAST:.0%} wanted; {out.relative_to(REPOSITORY)}")
    sys.exit(share < LEAST)


if __name__ == "__main__":
    main()
