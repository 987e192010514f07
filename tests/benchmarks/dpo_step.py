"""The DPO step against plain TRL: the same model, pairs, order and batch; a process a variant, their steps in turn (on a GPU,
which holds one of them at a time, one after another).

python -m tests.benchmarks.dpo_step                   CPU seconds: a small Qwen3 in fp32, a thread a variant, about 15 minutes
python -m tests.benchmarks.dpo_step --device cuda     seconds of the device: a randomly initialised Qwen3-0.6B, bf16

A table to stdout, JSON into build/bench/dpo_step_<device>.json. A first run counts the reference's pass over one epoch too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

REPOSITORY = Path(__file__).parents[2]
MARK: Final = "measured "  # begins the lines that a worker means for its parent


@dataclass(frozen=True)
class Shape:
    """Tokens of prompts and answers, from and to; ``skewed``: as many between 10 and 20 as between 200 and 400."""

    prompt: tuple[int, int]
    answer: tuple[int, int]
    skewed: bool = False
    per_device: int = 8  # pairs of a batch; TRL's default

    def length(self, rng: random.Random, limits: tuple[int, int]) -> int:
        low, high = limits
        return round(low * (high / low) ** rng.random()) if self.skewed else rng.randint(low, high)


@dataclass(frozen=True)
class Machine:
    """What is measured on a device: the scale of the shapes, the model and the batch."""

    scale: int
    accumulation: int
    model: dict[str, Any]


SHAPES: Final = {
    "short prompt": Shape((30, 90), (120, 260)),
    "long prompt": Shape((400, 560), (30, 80)),
    "uneven": Shape((15, 400), (15, 400), skewed=True),
    "2k prompt": Shape((1900, 2100), (60, 120), per_device=2),
}
VARIANTS: Final = {"cpu": ("trl", "trl tuned", "ours"), "cuda": ("trl", "trl tuned", "ours", "ours checkpointing")}
HEAD: Final = """
**{}**

| | pairs/s | first run | tokens/s | peak MiB | losses |
|---|---|---|---|---|---|"""
MACHINES: Final = {
    "cpu": Machine(
        scale=1,
        accumulation=1,
        model={
            "vocab_size": 8192,
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 48,
        },
    ),
    "cuda": Machine(
        scale=4,
        accumulation=4,
        model={  # Qwen3-0.6B
            "vocab_size": 151936,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
    ),
}


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
    """Figures of the variants that take their steps in turn."""
    found = {variant: worker.told("begin") for variant, worker in workers.items()}
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
    """Rates over the seconds that the device computed: other processes on the machine do not count."""
    step = statistics.median(seconds)
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
    lines, ours = [], found["ours"]
    for variant in ("trl", "trl tuned"):
        step = ours["pairs_per_second"] / found[variant]["pairs_per_second"]
        first = ours["first_run_pairs_per_second"] / found[variant]["first_run_pairs_per_second"]
        lines.append(f"\n{step:.2f} times {variant}; on a first run of one epoch {first:.2f} times")
    return "\n".join(lines) + "\n"


def work(variant: str, device: str, shape: str, steps: int) -> None:
    """One variant: makes its trainer at the first line of stdin, then takes a step for every further one."""
    import torch
    import trl  # noqa: F401 - this takes longer than some variants' steps
    from transformers import TrainerCallback

    wait_for_word()
    torch.manual_seed(0)
    machine = MACHINES[device]
    batch = SHAPES[shape].per_device * machine.accumulation
    pairs = make_pairs(SHAPES[shape], (1 + steps) * batch, machine)
    clock = clock_of(device)

    class InTurn(TrainerCallback):
        began = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            wait_for_word()
            self.began = clock()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            say({"seconds": clock() - self.began})

    with tempfile.TemporaryDirectory() as folder:
        trainer, reference_seconds = make_trainer(variant, device, pairs, SHAPES[shape], steps, Path(folder))
        trainer.add_callback(InTurn())
        answers = sum(len(p.chosen) + len(p.rejected) for p in pairs) / (1 + steps)
        tokens = answers + sum(len(p.prompt) for p in pairs) / (1 + steps)
        say(
            {
                "reference_seconds": reference_seconds,
                "pairs": len(pairs),
                "batch": batch,
                "tokens": tokens,
            }
        )
        trainer.train()
    say({"losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], "peak_mib": peak_mib(device)})


def wait_for_word() -> None:
    if not sys.stdin.readline():
        sys.exit("the benchmark that this worker belongs to is gone")


def say(figures: dict[str, Any]) -> None:
    print(MARK + json.dumps(figures), flush=True)


def make_pairs(shape: Shape, count: int, machine: Machine) -> list[Any]:
    """Pairs of random ids."""
    from trainer.inputs.tokens import TokenPair

    rng = random.Random(1)
    last = machine.model["vocab_size"] - 1

    def ids(limits: tuple[int, int]) -> list[int]:
        return [rng.randint(2, last) for _ in range(machine.scale * shape.length(rng, limits))]

    return [TokenPair(ids(shape.prompt), ids(shape.answer), ids(shape.answer), line) for line in range(count)]


def make_trainer(variant: str, device: str, pairs: list[Any], shape: Shape, steps: int, folder: Path) -> tuple[Any, float]:
    """(the trainer, seconds of the reference's pass over all pairs; 0 where the reference runs in every step)."""
    import torch
    import trl
    from peft import LoraConfig
    from transformers import PrinterCallback, Qwen3Config, Qwen3ForCausalLM

    from launcher.experiment.hyperparameters import Hyperparameters
    from trainer.inputs.adapter import seed_adapter, skip_input_casts
    from trainer.inputs.model import choose_precision
    from trainer.inputs.tokens import Tokens
    from trainer.step.choice import choose_path, take_path
    from trainer.step.dpo import DPOTrainer

    class Plain(trl.DPOTrainer):
        """TRL's own, but for the text that it would tokenise."""

        precomputing = 0.0

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
            began = clock()
            dataset = super()._precompute_ref_logps(*args, **kwargs)
            self.precomputing = clock() - began
            return dataset

    is_ours, cuda = variant.startswith("ours"), device == "cuda"
    machine, clock = MACHINES[device], clock_of(device)
    precision = choose_precision(Hyperparameters(), cuda=cuda, bf16=cuda)
    config = Qwen3Config(**machine.model, tie_word_embeddings=True, bos_token_id=1, eos_token_id=1, pad_token_id=0)
    with torch.device(device):
        model = Qwen3ForCausalLM(config)
    if variant != "trl":  # TRL loads in float32
        model.to(precision.weights)
    tokens = Tokens(pairs, 0)
    trainer = (DPOTrainer if is_ours else Plain)(
        model=model,
        args=trl.DPOConfig(
            output_dir=str(folder),
            max_length=None,
            use_cpu=not cuda,
            bf16=cuda,
            per_device_train_batch_size=shape.per_device,
            gradient_accumulation_steps=machine.accumulation,
            gradient_checkpointing=variant in ("trl", "ours checkpointing"),
            precompute_ref_log_probs=variant == "trl tuned",
            learning_rate=1e-3,
            max_steps=1 + steps,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=tokens.dataset(),
        processing_class=tokenizer(),
        peft_config=LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.remove_callback(PrinterCallback)
    if is_ours and cuda:
        skip_input_casts(trainer.model)
    seed_adapter(trainer.model, 0, trainer.args.seed)  # whose second seed gives the order of the pairs
    if not is_ours:
        return trainer, trainer.precomputing
    choice = choose_path(trainer, "fast", tokens, None)
    began = clock()
    take_path(trainer, choice, precision, lambda: "benchmark", [("pairs", tokens)], folder)
    seconds = clock() - began
    if cuda:
        torch.cuda.empty_cache()
    return trainer, seconds


def tokenizer() -> Any:
    """TRL wants one; the pairs are ids already."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>")


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
