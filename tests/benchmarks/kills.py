"""Uploads that are killed at a random moment, and finished by another process: is anything half visible, lost or sent twice?

python -m tests.benchmarks.kills [--times N] [--seed N]    JSON into build/bench/kills.json, a table to stdout

moto in a process of its own stands behind the proxy of the tests, which counts what arrives. Each adapter has one file of 24
parts and a bit, and some small ones; every second one is uploaded where other contents lie already. The moment is drawn evenly
from the first request that reaches the server to the end of an upload that nobody kills. A reader looks for the
manifest from the first moment to the last: where it sees one, every object that it names must be whole. What the server had taken
when the second process began must not be sent again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from launcher.experiment.schema import StorageConfig
from launcher.storage import Effort, upload_folder
from tests.s3.proxy import FaultProxy, Request
from tests.s3.server import MotoServer

REPOSITORY = Path(__file__).parents[2]
KEYS = {"AWS_ACCESS_KEY": "benchmark", "AWS_SECRET_KEY": "benchmark", "AWS_REGION": "us-east-1"}
PART = 64 * 1024
EFFORT = Effort(part=PART, threads=4)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    context = multiprocessing.get_context("forkserver")  # a process without threads, which has imported all
    context.set_forkserver_preload(["boto3", "launcher.storage"])
    with MotoServer() as moto, FaultProxy(moto.url) as proxy, tempfile.TemporaryDirectory() as folder:
        known = {"aws_access_key_id": "reader", "aws_secret_access_key": "reader", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=moto.url, **known)
        client.create_bucket(Bucket="models")
        adapter = Path(folder) / "adapter"
        took = [_whole_upload(context, proxy, adapter, f"warm-{n}", rng) for n in range(3)]
        trials = []
        for number in range(chosen.times):
            trial = _trial(context, proxy, client, adapter, f"run-{number}", rng, statistics.median(took), number % 2 == 1)
            trials.append(trial)
            if sys.stdout.isatty():
                print(f"\r{number + 1} of {chosen.times}", end="", flush=True)
    report(trials, statistics.median(took), chosen.seed)


def _trial(
    context: Any, proxy: FaultProxy, client: Any, adapter: Path, run: str, rng: random.Random, longest: float, replaces: bool
) -> dict[str, Any]:
    if replaces:
        _write(adapter, rng)
        _run(context, proxy, adapter, run)
    _write(adapter, rng)
    proxy.requests.clear()
    with Reader(client, run) as reader:
        process = _start(context, proxy, adapter, run)
        proxy.reached.wait(60)
        moment = rng.uniform(0, longest)
        time.sleep(moment)
        process.kill()
        process.join()
        before = list(proxy.requests)
        code = _run(context, proxy, adapter, run)
    after = proxy.requests[len(before) :]
    taken = {what for request in before if (what := _what(request)) is not None}
    again = [request for request in after if _what(request) in taken]
    return {
        "moment": moment,
        "replaces": replaces,
        "was_over": any(request.path.endswith("/manifest.json") and request.method == "PUT" for request in before),
        "taken": len(taken),
        "bytes_before": sum(request.size for request in before if _what(request)),
        "bytes_after": sum(request.size for request in after if _what(request)),
        "resent": sum(request.size for request in again),
        "half_visible": reader.wrong,
        "looks": reader.looks,
        "lost": code != 0 or _is_lost(client, adapter, run),
        "left_over": len(client.list_multipart_uploads(Bucket="models").get("Uploads", [])),
    }


class Reader(threading.Thread):
    """Looks at a run's place until it is left: ``wrong`` counts manifests that named what was not whole."""

    def __init__(self, client: Any, run: str):
        super().__init__(daemon=True)
        self._client, self._prefix = client, f"exp_1/m/{run}"
        self._done = threading.Event()
        self.looks = self.wrong = 0

    def __enter__(self) -> Reader:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()
        self._look()

    def run(self) -> None:
        while not self._done.wait(0.005):
            self._look()

    def _look(self) -> None:
        manifest = read(self._client, f"{self._prefix}/manifest.json")
        self.looks += 1
        if manifest is None:
            return
        whole = all(self._is_whole(entry) for entry in json.loads(manifest)["files"])
        # One that was deleted while its objects were looked at was no longer visible.
        if not whole and read(self._client, f"{self._prefix}/manifest.json") == manifest:
            self.wrong += 1

    def _is_whole(self, entry: dict[str, Any]) -> bool:
        body = read(self._client, f"{self._prefix}/{entry['name']}")
        return body is not None and len(body) == entry["size"] and hashlib.sha256(body).hexdigest() == entry["sha256"]


def read(client: Any, key: str) -> bytes | None:
    try:
        return bytes(client.get_object(Bucket="models", Key=key)["Body"].read())
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return None


def _what(request: Request) -> tuple[str, int] | None:
    """The part or the object, but the manifest, that the server has taken by a request."""
    if request.method != "PUT" or request.status != 200 or request.path.endswith("/manifest.json"):
        return None
    return request.path, int(request.query.get("partNumber", 0))


def _is_lost(client: Any, adapter: Path, run: str) -> bool:
    """Whether the bucket has another adapter than the folder."""
    files = {path.name: path.read_bytes() for path in adapter.iterdir()}
    manifest = read(client, f"exp_1/m/{run}/manifest.json")
    named = {entry["name"] for entry in json.loads(manifest)["files"]} if manifest else set()
    return named != files.keys() or any(read(client, f"exp_1/m/{run}/{name}") != body for name, body in files.items())


def _write(adapter: Path, rng: random.Random) -> None:
    shutil.rmtree(adapter, ignore_errors=True)
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(rng.randbytes(24 * PART + 17))
    for name in ("adapter_config.json", "tokenizer.json", "tokenizer_config.json"):
        (adapter / name).write_bytes(rng.randbytes(rng.randrange(PART)))


def _whole_upload(context: Any, proxy: FaultProxy, adapter: Path, run: str, rng: random.Random) -> float:
    """Seconds from its first request to its end."""
    _write(adapter, rng)
    process = _start(context, proxy, adapter, run)
    proxy.reached.wait(60)
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


def _run(context: Any, proxy: FaultProxy, adapter: Path, run: str) -> int:
    process = _start(context, proxy, adapter, run)
    process.join()
    return int(process.exitcode)


def _start(context: Any, proxy: FaultProxy, adapter: Path, run: str) -> Any:
    proxy.reached.clear()
    process = context.Process(target=_upload, args=(proxy.url, adapter, run))
    process.start()
    return process


def _upload(url: str, adapter: Path, run: str) -> None:
    storage = StorageConfig(bucket_name="models", endpoint_url=url)
    upload_folder(adapter, storage=storage, prefix_parts=("exp_1", "m", run), env=KEYS, effort=EFFORT)


def report(trials: list[dict[str, Any]], took: float, seed: int) -> None:
    totals = {name: sum(trial[name] for trial in trials) for name in ("half_visible", "lost", "resent", "left_over")}
    result = {"cores": os.cpu_count(), "seed": seed, "seconds": took, "part": PART, **totals, "trials": trials}
    out = REPOSITORY / "build" / "bench" / "kills.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    amid = [trial for trial in trials if trial["taken"] > 0 and not trial["was_over"]]
    print(f"\r| {len(trials)} uploads, each killed within {took:.2f} s of its first request and then finished | |\n|---|---|")
    print(f"| killed amid its parts / before them / when all was there | {len(amid)} / ", end="")
    print(f"{sum(trial['taken'] == 0 for trial in trials)} / {sum(trial['was_over'] for trial in trials)} |")
    print(f"| half visible, in {sum(trial['looks'] for trial in trials)} looks | {totals['half_visible']} |")
    print(f"| lost | {totals['lost']} |")
    print(f"| bytes sent again of parts that the server had taken | {totals['resent']} |")
    print(f"| uploads left over in the bucket | {totals['left_over']} |")
    print(f"\n{out.relative_to(REPOSITORY)}")
    sys.exit(any(totals.values()))


if __name__ == "__main__":
    main()
