"""The planner's memory estimate against real peaks: the real trainer, a few shapes, a fresh process each.

python -m tests.benchmarks.memory                   CPU: a small Qwen3 in fp32, and in bf16; bytes of tensors that live at once
python -m tests.benchmarks.memory --device cuda     Qwen3-0.6B with random weights in bf16; torch.cuda.max_memory_allocated

A table to stdout, JSON into build/bench/memory_<device>.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .models import QWEN3_06B, SMALL, config, tokenizer
from .pairs import Shape as Lengths
from .pairs import make_pairs, work_of

REPOSITORY = Path(__file__).parents[2]
MARK: Final = "measured "  # begins the line that a worker means for its parent
STEPS: Final = 3
PER_DEVICE: Final = 4
ACCUMULATION: Final = 2


@dataclass(frozen=True)
class Shape:
    """``prompt`` and ``answer``: the most tokens; the fewest are half of that."""

    full: bool
    recompute: bool
    prompt: int
    answer: int
    plain: bool = False
    half: bool = False


SHAPES: Final = {
    "LoRA, short": Shape(False, False, 40, 60),
    "LoRA, short, checkpointing": Shape(False, True, 40, 60),
    "LoRA, long": Shape(False, False, 300, 150),
    "LoRA, long, checkpointing": Shape(False, True, 300, 150),
    "LoRA, long, plain path": Shape(False, False, 300, 150, plain=True),
    "LoRA, short, bf16": Shape(False, False, 20, 30, half=True),  # few tokens: a CPU is slow at it
    "full, short": Shape(True, False, 40, 60),
    "full, short, checkpointing": Shape(True, True, 40, 60),
    "full, long": Shape(True, False, 300, 150),
    "full, long, checkpointing": Shape(True, True, 300, 150),
}
SIZES: Final = {"cpu": SMALL, "cuda": QWEN3_06B}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=SIZES, default="cpu")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="only this one; may be repeated")
    parser.add_argument("--worker", choices=SHAPES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(MARK + json.dumps(work(options.device, SHAPES[options.worker])), flush=True)
        return
    shapes = options.shape or [name for name, shape in SHAPES.items() if options.device == "cpu" or not shape.half]
    print(f"\n**memory, {options.device}**\n\n| | peak MiB | estimate MiB | error |\n|---|---|---|---|", flush=True)
    rows, errors = {}, []
    for name in shapes:
        rows[name] = row = measured(options.device, name)
        error = row["estimate"] / row["peak"] - 1
        errors.append(abs(error))
        print(f"| {name} | {row['peak'] / 2**20:.0f} | {row['estimate'] / 2**20:.0f} | {error:+.1%} |", flush=True)
    print(f"| median, worst | | | {statistics.median(errors):.1%}, {max(errors):.1%} |", flush=True)
    file = REPOSITORY / "build" / "bench" / f"memory_{options.device}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    figures = {"median_error": statistics.median(errors), "worst_error": max(errors), "shapes": rows}
    file.write_text(json.dumps(figures, indent=2) + "\n")
    print(file.relative_to(REPOSITORY))


def measured(device: str, name: str) -> dict[str, Any]:
    """The worker's figures; raises RuntimeError where it ends without any."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", "--device", device, "--worker", name]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            return dict(json.loads(line.removeprefix(MARK)))
    raise RuntimeError(f"{name} ended with {done.returncode} before it had measured:\n{done.stderr[-2000:]}")


def work(device: str, shape: Shape) -> dict[str, Any]:
    """``peak``: bytes of tensors at the highest point of the steps after the first; ``estimate``: what was said, by ``parts``."""
    from transformers import TrainerCallback

    pairs = pairs_of(shape, device)
    peaks: list[int] = []

    class Measure(TrainerCallback):
        """The first step makes the optimizer's state."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step:
                self.peak = Peak(device)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step > 1:
                peaks.append(self.peak.read())

    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(device, shape, pairs, Path(folder))
        found = estimated(device, shape, pairs, trainer)
        trainer.add_callback(Measure())
        trainer.train()
    return {"peak": max(peaks), "estimate": found.tensors, "parts": [asdict(part) for part in found.parts]}


class Peak:
    """Bytes of tensors that live at once, from now on: torch's own count on a GPU; on the CPU the profiler's events of the
    allocator on top of the tensors that are there already.
    """

    def __init__(self, device: str):
        import torch

        self._cuda = device == "cuda"
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        gc.collect()
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in gc.get_objects()
            if issubclass(type(tensor), torch.Tensor) and tensor.device.type == "cpu"
        }
        self._before = sum(storages.values())
        self._profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
        self._profile.__enter__()

    def read(self) -> int:
        import torch

        if self._cuda:
            return torch.cuda.max_memory_allocated()
        self._profile.__exit__(None, None, None)
        events = [event for event in self._profile.profiler.kineto_results.events() if event.name() == "[memory]"]
        now = highest = self._before
        for event in sorted(events, key=lambda event: event.start_ns()):
            now += event.nbytes()
            highest = max(highest, now)
        return highest


def pairs_of(shape: Shape, device: str) -> Any:
    """Pairs of random ids, three steps of them."""
    lengths = Lengths((shape.prompt // 2, shape.prompt), (shape.answer // 2, shape.answer))
    count = STEPS * PER_DEVICE * ACCUMULATION
    return make_pairs(lengths, count, SIZES[device]["vocab_size"], 4 if device == "cuda" else 1)


def settings(shape: Shape) -> dict[str, Any]:
    return {
        "full_finetuning": shape.full,
        "use_gradient_checkpointing": shape.recompute,
        "dpo_path": "plain" if shape.plain else "fast",
        "per_device_train_batch_size": PER_DEVICE,
        "gradient_accumulation_steps": ACCUMULATION,
        **({"load_in_16bit": True} if shape.half else {}),
    }


def estimated(device: str, shape: Shape, pairs: Any, trainer: Any) -> Any:
    """What the planner says where the tokens are known."""
    import torch

    from launcher.planning.estimate import estimate
    from launcher.planning.machines.gpus import Gpu
    from launcher.planning.sizes.machine import Machine
    from launcher.planning.sizes.model_config import ModelConfig

    cuda, wanted = device == "cuda", experiment(shape)
    gpu = Gpu("here", torch.cuda.mem_get_info()[1], None) if cuda else None
    sizes = ModelConfig.parse(trainer.model.config.to_dict())
    return estimate(wanted, sizes, work_of(pairs, wanted.global_batch), Machine(cuda=cuda, gpu=gpu))


def experiment(shape: Shape) -> Any:
    from launcher.experiment.schema import Experiment

    return Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": settings(shape)})


def make_trainer(device: str, shape: Shape, pairs: Any, folder: Path) -> Any:
    """The project's trainer on the path that the shape asks for, before its first step."""
    import torch
    import trl
    from peft import LoraConfig
    from transformers import PrinterCallback, Qwen3ForCausalLM

    from launcher.experiment.sections.hyperparameters import Hyperparameters
    from trainer.inputs.models.adapter import skip_input_casts, widen_adapter
    from trainer.inputs.models.model import choose_precision
    from trainer.inputs.tokens.tokens import Tokens
    from trainer.step.choosing.choice import choose_path, take_path
    from trainer.step.dpo import DPOTrainer
    from trainer.step.memory import counted, plan_rows

    torch.manual_seed(0)
    torch.set_num_threads(1)  # the peak is the same, and threads that wait for each other on a busy machine take minutes
    cuda = device == "cuda"
    precision = choose_precision(Hyperparameters(**settings(shape)), cuda=cuda, bf16=cuda)
    tokens = Tokens(pairs, 0)
    trainer = DPOTrainer(
        model=Qwen3ForCausalLM(config(SIZES[device])).to(precision.weights),
        args=trl.DPOConfig(
            output_dir=str(folder),
            max_length=None,
            use_cpu=not cuda,
            bf16=precision.bf16,
            per_device_train_batch_size=PER_DEVICE,
            gradient_accumulation_steps=ACCUMULATION,
            gradient_checkpointing=shape.recompute,
            precompute_ref_log_probs=shape.full,
            max_steps=STEPS,
            optim="adamw_torch_fused" if cuda else "adamw_torch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=tokens.dataset(),
        processing_class=tokenizer(),
        peft_config=None if shape.full else LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.remove_callback(PrinterCallback)
    if not shape.full:
        widen_adapter(trainer.model)
        if precision.bf16:
            skip_input_casts(trainer.model)
    wanted, rows = experiment(shape), None
    if cuda:
        counts = counted(tokens, wanted.global_batch)
        rows = plan_rows(wanted, trainer.model, counts, trainer.args, packed=not shape.plain)
    choice = choose_path(trainer, "plain" if shape.plain else "fast", tokens, None, rows=rows)
    take_path(trainer, choice, precision, "benchmark", [("pairs", tokens)], folder)
    return trainer


if __name__ == "__main__":
    main()
