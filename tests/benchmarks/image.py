"""The image: its size, a build after a change of source and of YAML, and the time from `launcher run` to the first step in it.

    python -m tests.benchmarks.image [--repeat 3]

Needs an engine and the demo's model (`make demo`); DPO_BASE_IMAGE and DPO_BUILD_… as for `launcher build`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launcher.backends.docker.build import ensure, layers, size
from launcher.backends.docker.engine import connect
from launcher.job.image import image_of

REPOSITORY = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    client = connect(os.environ)
    image = image_of("cpu", os.environ, None, REPOSITORY)
    ensure(client, image, os.environ, lambda line: None)
    unpacked = sum(layer.size for layer in layers(client, image.reference))
    host, docker = first_steps(repeat)
    figures = {
        "unpacked, bytes": unpacked,
        "build after a change of source, s": rebuilds(client, repeat, "trainer/benchmark.py"),
        "build after a change of YAML, s": rebuilds(client, repeat, "configs/benchmark.yml"),
        "first step, host, s": host,
        "first step, warm image, s": docker,
    }
    print(f"CPU image {size(unpacked)} unpacked (at most 2.00 GiB)")
    for name, at_most in (("source", 3.0), ("YAML", 0.1)):
        times = figures[f"build after a change of {name}, s"]
        print(f"build after a change of {name}: median {statistics.median(times):.2f} s of {times} (at most {at_most} s)")
    ratio = statistics.median(docker) / statistics.median(host)
    print(f"`launcher run` to the first step: host {host}, container {docker} s; medians' ratio {ratio:.2f} (at most 1.2)")
    folder = REPOSITORY / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "image.json").write_text(json.dumps(figures, indent=2) + "\n")


def rebuilds(client: object, repeat: int, changed: str) -> list[float]:
    """Seconds of `ensure` after each change of one file, in a copy of the checkout."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("docker", "launcher", "trainer", "configs"):
            shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        ensure(client, image_of("cpu", os.environ, None, root), os.environ, lambda line: None)
        for number in range(repeat):
            (root / changed).write_text(f"# {number} {time.time()}\n")
            begin = time.perf_counter()
            ensure(client, image_of("cpu", os.environ, None, root), os.environ, lambda line: None)
            times.append(round(time.perf_counter() - begin, 2))
    return times


def first_steps(repeat: int) -> tuple[list[float], list[float]]:
    """Seconds from the command to the first metrics, on the host and in a container, in turn; the first two do not count."""
    taken: dict[str, list[float]] = {"host": [], "docker": []}
    for _ in range(repeat + 1):
        for backend, times in taken.items():
            times.append(round(first_step(backend), 1))
    return taken["host"][1:], taken["docker"][1:]


def first_step(backend: str) -> float:
    name = f"benchmark-{backend}-{os.getpid()}-{time.time_ns()}"
    settings = [
        "--set",
        "hyperparameters.max_steps=1",
        "--set",
        "hyperparameters.eval_strategy=no",
        "--set",
        "validation_filename=null",
    ]
    settings += ["--set", "hyperparameters.load_best_model_at_end=false", "--set", "hyperparameters.metric_for_best_model=null"]
    command = [sys.executable, "-m", "launcher", "run", "demo", "--backend", backend, "--name", name, *settings]
    begin = time.perf_counter()
    run = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    steps = REPOSITORY / "data/dpo/model/exp_demo/qwen3-tiny/runs" / name / "logs" / "dpo_train_steps.jsonl"
    wait_for(lambda: steps.is_file() and steps.stat().st_size > 0, run)
    took = time.perf_counter() - begin
    run.communicate()
    shutil.rmtree(steps.parents[1])
    return took


def wait_for(what: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    while not what():
        if run.poll() is not None:
            sys.exit(run.stdout.read() if run.stdout else "the run ended")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
