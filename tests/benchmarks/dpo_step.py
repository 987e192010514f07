"""The DPO step against plain TRL: the same model, pairs, order and batch; a process a variant, their steps in turn (on a GPU,
which holds one of them at a time, one after another).

python -m tests.benchmarks.dpo_step                   CPU seconds: a small Qwen3 in fp32, a thread a variant, about 15 minutes
python -m tests.benchmarks.dpo_step --device cuda     seconds of the device: a randomly initialised Qwen3-0.6B, bf16

A table to stdout, JSON into build/bench/dpo_step_<device>.json. A first run counts the reference's pass over one epoch too, whose
parts are taken in turn as well.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .models import QWEN3_06B, SMALL, Sizes, config
from .pairs import SHAPES, make_pairs
from .trainers import VARIANTS, Training, make_trainer

REPOSITORY = Path(__file__).parents[2]
MARK: Final = "measured "  # begins the lines that a worker means for its parent


@dataclass(frozen=True)
class Machine:
    """What is measured on a device: the scale of the shapes, the model and the batch."""

    scale: int
    accumulation: int
    model: Sizes


HEAD: Final = """
**{}**

| | pairs/s | first run | tokens/s | peak MiB | losses |
|---|---|---|---|---|---|"""
MACHINES: Final = {"cpu": Machine(1, 1, SMALL), "cuda": Machine(4, 4, QWEN3_06B)}
BLOCKS: Final = 8  # parts of the reference's pass that the variants compute in turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=MACHINES, default="cpu")
    parser.add_argument("--steps", type=int, default=3, help="steps that count, after one that does not")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="only this one; may be repeated")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shapes = options.shape or list(SHAPES)
    if options.worker:
        work(options.worker, options.device, shapes[0], options.steps)
        return
    report: dict[str, Any] = {"device": options.device, "cores": os.cpu_count(), "steps": options.steps, "shapes": {}}
    for shape in shapes:
        print(HEAD.format(shape), flush=True)
        report["shapes"][shape] = found = compare(options.device, shape, options.steps)
        print(ratios(found), flush=True)
    file = REPOSITORY / "build" / "bench" / f"dpo_step_{options.device}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
    print(file.relative_to(REPOSITORY))


def compare(device: str, shape: str, steps: int) -> dict[str, dict[str, Any]]:
    """Figures by variant. On shared cores all stand ready before the first step, and take their steps in turn, so that noise
    meets all of them; a GPU is one variant's alone, and has not the memory for all."""
    variants = VARIANTS[device]
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        workers = {variant: Worker(variant, device, shape, steps, Path(folder)) for variant in variants}
        for together in [[variant] for variant in variants] if device == "cuda" else [variants]:
            rows = measured({variant: workers[variant] for variant in together}, steps)
            for variant, row in rows.items():
                print(line(variant, row), flush=True)
            found |= rows
    return found


def measured(workers: Mapping[str, Worker], steps: int) -> dict[str, dict[str, Any]]:
    """Figures of the variants that take their steps in turn, and before them the parts of the reference's pass."""
    found = {variant: worker.told("begin") for variant, worker in workers.items()}
    for block in range(1, 1 + BLOCKS):
        for variant, worker in workers.items():
            while "done" in found[variant] and found[variant]["done"] < block / BLOCKS:
                found[variant] = worker.told("score")
    seconds: dict[str, list[float]] = {variant: [] for variant in workers}
    for _ in range(1 + steps):
        for variant, worker in workers.items():
            seconds[variant].append(worker.told("step")["seconds"])
    for variant, worker in workers.items():
        found[variant] |= worker.heard()
        worker.process.wait()
    return {variant: figures(found[variant], seconds[variant][1:]) for variant in workers}


class Worker:
    """The process of one variant, which imports what it needs and then waits to be told to begin."""

    def __init__(self, variant: str, device: str, shape: str, steps: int, folder: Path):
        self.variant, self.log = variant, folder / f"{variant}.log"
        command = [sys.executable, "-m", "tests.benchmarks.dpo_step", "--worker", variant, "--device", device]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--shape", shape, "--steps", str(steps)],
                cwd=REPOSITORY,
                # A thread each, whose CPU seconds can be compared; TRL's own cache of the reference is empty.
                env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def told(self, word: str) -> dict[str, Any]:
        """What it measured after ``word``."""
        assert self.process.stdin is not None, "it was asked for"
        with suppress(BrokenPipeError):  # it has ended, and its log says why
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()
        return self.heard()

    def heard(self) -> dict[str, Any]:
        """Its next figures; raises RuntimeError, with the end of its log, if it ends instead."""
        assert self.process.stdout is not None, "it was asked for"
        for line in self.process.stdout:
            if line.startswith(MARK):
                return dict(json.loads(line.removeprefix(MARK)))
        code = self.process.wait()
        raise RuntimeError(f"{self.variant} ended with {code} before it had measured:\n{self.log.read_text()[-2000:]}")


def figures(found: dict[str, Any], seconds: Sequence[float]) -> dict[str, Any]:
    """Rates over the seconds that the device computed in all steps: each holds other pairs, and a variant that pads takes twice
    as long for some as for others, so that the fastest step of one is not that of another.
    """
    step = sum(seconds) / len(seconds)
    epoch = found["reference_seconds"] / found["pairs"] + step / found["batch"]  # seconds a pair
    return {
        "pairs_per_second": found["batch"] / step,
        "first_run_pairs_per_second": 1 / epoch,
        "tokens_per_second": found["tokens"] / step,
        "peak_mib": found["peak_mib"],
        "losses": found["losses"],
        "step_seconds": list(seconds),
        "reference_seconds": found["reference_seconds"],
    }


def line(variant: str, row: dict[str, Any]) -> str:
    """A variant's figures under ``HEAD``."""
    losses = " ".join(f"{loss:.6f}" for loss in row["losses"])
    return (
        f"| {variant} | {row['pairs_per_second']:.2f} | {row['first_run_pairs_per_second']:.2f} | "
        f"{row['tokens_per_second']:.0f} | {row['peak_mib']:.0f} | {losses} |"
    )


def ratios(found: dict[str, dict[str, Any]]) -> str:
    """Ours beside TRL's; the seconds that compiling takes are in none of them."""
    lines = []
    for name in ("ours", "ours compiled"):
        for variant in ("trl", "trl tuned") if name in found else ():
            step, first = (
                found[name][rate] / found[variant][rate] for rate in ("pairs_per_second", "first_run_pairs_per_second")
            )
            lines.append(f"\n{name}: {step:.2f} times {variant}; on a first run of one epoch {first:.2f} times")
    return "\n".join(lines) + "\n"


def work(variant: str, device: str, shape: str, steps: int) -> None:
    """One variant: makes its trainer at the first line of stdin, then takes a step for every further one."""
    import torch
    import trl  # noqa: F401 - this takes longer than some variants' steps
    from transformers import Qwen3ForCausalLM, TrainerCallback

    wait_for_word()
    torch.manual_seed(0)
    machine, clock = MACHINES[device], clock_of(device)
    per_device = SHAPES[shape].per_device
    batch = per_device * machine.accumulation
    pairs = make_pairs(SHAPES[shape], (1 + steps) * batch, machine.model["vocab_size"], machine.scale)

    class InTurn(TrainerCallback):
        began = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            wait_for_word()
            self.began = clock()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            say({"seconds": clock() - self.began})

    def turn(done: float) -> None:
        say({"done": min(done, 0.999)})  # all of them are done when the pass has ended
        wait_for_word()

    with torch.device(device):
        model = Qwen3ForCausalLM(config(machine.model))
    if device == "cuda" and variant != "trl":  # TRL loads in float32
        model.to(torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(device, pairs, per_device, machine.accumulation, 1 + steps, Path(folder))
        trainer, reference_seconds = make_trainer(variant, training, model, clock, turn)
        trainer.add_callback(InTurn())
        tokens = int(pairs.lengths.sum()) / (1 + steps)
        say({"reference_seconds": reference_seconds, "pairs": len(pairs), "batch": batch, "tokens": tokens})
        trainer.train()
    say({"losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], "peak_mib": peak_mib(device)})


def wait_for_word() -> None:
    if not sys.stdin.readline():
        sys.exit("the benchmark that this worker belongs to is gone")


def say(figures: dict[str, Any]) -> None:
    print(MARK + json.dumps(figures), flush=True)


def clock_of(device: str) -> Callable[[], float]:
    """Seconds of work until now: of this process's CPU time, or of the device's stream, which is brought to an end first."""
    if device == "cpu":
        return time.process_time
    import torch

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def peak_mib(device: str) -> float:
    """Of this process: of the GPU's memory that torch held for tensors, or of main memory."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
