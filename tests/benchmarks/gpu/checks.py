"""Checks that end in yes or no: resume bit for bit, a shortage of memory, and the tests that need a GPU."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from .parts import Place, Skipped, part_of
from .running import command_of
from .speed import losses
from .training import experiment_of, run_of, trained
from .watch import Watch

REPOSITORY = Path(__file__).parents[3]
WHOLE: Final = 6  # steps, with a checkpoint after every third
SHARE: Final = 0.6  # of what a step's rows took, that is left to the next ones
APART: Final = 0.05  # that losses of the same pairs may be, after steps in bf16 in other rows
FP16: Final = "fp16 and its scaler"
WAYS: Final[dict[str, dict[str, Any]]] = {
    "all weights": {"full_finetuning": True, "compile": "off"},
    "recomputed, compiled": {"use_gradient_checkpointing": True, "compile": "layers"},
    FP16: {"compile": "off"},
    "4 bits": {"load_in_4bit": True, "compile": "off"},
    "all weights, compiled": {"full_finetuning": True, "compile": "layers"},
    "4 bits, compiled": {"load_in_4bit": True, "compile": "layers"},
}
Figures = dict[str, Any]


def resume(place: Place, model: str) -> Iterator[Figures]:
    """Trains to the end, and once more from the checkpoint in the middle, in another process: the adapters must be equal."""
    experiment = determined(place, model)
    trainer, _ = trained(place, experiment, "whole")
    whole = run_of(place, experiment, "whole")
    yield {"whole": digest(whole.adapter), "losses": losses(trainer), "sentence": "trained to the end; not resumed yet"}
    resumed_run = run_of(place, experiment, "resumed")
    name = f"checkpoint-{WHOLE // 2}"
    shutil.copytree(whole.path / name, resumed_run.path / name)
    done = subprocess.run(command_of(part_of("resumed"), place), cwd=REPOSITORY, stdout=sys.stderr, check=False)
    if done.returncode:
        raise RuntimeError(f"the resumed training ended with {done.returncode}")
    same = digest(whole.adapter) == digest(resumed_run.adapter)
    verdict = "the same adapter, byte for byte" if same else "another adapter"
    yield {
        "resumed": digest(resumed_run.adapter),
        "status": "done" if same else "failed",
        "sentence": f"resumed from step {WHOLE // 2} of {WHOLE}: {verdict}",
    }


def resumed(place: Place, model: str) -> Iterator[Figures]:
    """The second half of ``resume``: the run's folder has the checkpoint."""
    _, said = trained(place, determined(place, model), "resumed")
    if not said.about("resumes from checkpoint"):
        raise RuntimeError("it did not resume")
    yield {"sentence": "resumed"}


def determined(place: Place, model: str) -> Any:
    saving = {"save_strategy": "steps", "save_steps": WHOLE // 2, "save_total_limit": None}
    return experiment_of(place, model, "short prompt", WHOLE, full_determinism=True, **saving)


def digest(adapter: Path) -> str:
    return hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()[:12]


def shortage(place: Place, model: str) -> Iterator[Figures]:
    """Trains with memory enough, and once more with too little of it from the second step on: the losses must agree."""
    experiment = experiment_of(place, model, "uneven", 4)
    trainer, _ = trained(place, experiment, "room")
    enough = losses(trainer)
    yield {"losses": enough, "row_tokens": budget(trainer), "sentence": "trained with memory enough"}
    del trainer  # and its weights
    trainer, said = trained(place, experiment, "shortage", Scarce(place.device))
    warnings = said.about("out of memory")
    found, less = losses(trainer), budget(trainer)
    apart = max(abs(a - b) for a, b in zip(enough, found, strict=True))
    is_well = bool(warnings) and len(found) == 4 and all(map(math.isfinite, found)) and apart < APART
    why = "" if place.device == "cuda" else " (thrown: a CPU has no such limit)"
    yield {
        "warnings": warnings,
        "row_tokens_then": less,
        "losses_then": found,
        "status": "done" if is_well else "failed",
        "sentence": f"{len(warnings)} shortages{why}, then rows of {less} tokens; losses apart by {apart:.1e} at most",
    }


def budget(trainer: Any) -> int | None:
    return trainer.fast.budget if trainer.path == "fast" else None


class Scarce(Watch):
    """Before the second step takes away memory: what a step's rows need, but for ``SHARE`` of it."""

    def __init__(self, device: str):
        super().__init__(device, 0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._cuda and state.global_step == 0:
            import torch

            torch.cuda.reset_peak_memory_stats()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            (self._limit if self._cuda else self._throw)()

    def _limit(self) -> None:
        import gc

        import torch

        peak, now = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + SHARE * (peak - now)) / total)

    def _throw(self) -> None:
        import torch

        losses_of = self.trainer._losses

        def short(*args: Any, **kwargs: Any) -> Any:
            del self.trainer._losses
            raise torch.OutOfMemoryError("thrown by the check")

        assert callable(losses_of), "rows are computed by it"
        self.trainer._losses = short


def ways(place: Place, model: str) -> Iterator[Figures]:
    """Two steps of each way to train: which path it takes and whether its layers are compiled, and why not."""
    import torch

    found: Figures = {}
    for name, settings in WAYS.items():
        if settings.get("load_in_4bit") and (place.device == "cpu" or importlib.util.find_spec("bitsandbytes") is None):
            continue
        if place.device == "cpu":
            settings = {**settings, "compile": "off"}
        torch._dynamo.reset()  # a run has a process of its own: graphs of the way before are not counted
        # A card without bf16 is played.
        with patch("torch.cuda.is_bf16_supported", lambda *args, **kwargs: False) if name == FP16 else nullcontext():
            trainer, said = trained(place, experiment_of(place, model, "uneven", 2, **settings), f"way-{len(found)}")
        is_well = trainer.path == "fast" and all(map(math.isfinite, losses(trainer)))
        about = said.about("path", "layers", "warning")
        found[name] = {"path": trainer.path, "losses": losses(trainer), "said": about, "is_well": is_well}
        del trainer  # and its weights
        poor = [f"{name}: {' '.join(one['said'][:1])}" for name, one in found.items() if not one["is_well"]]
        yield {
            **found,
            "status": "failed" if poor else "done",
            "sentence": "; ".join([f"{len(found) - len(poor)} of {len(found)} ways on the fast path", *poor]),
        }


def marked_files() -> list[str]:
    """The files with tests that need a GPU: to collect all others takes longer than these tests."""
    files = (REPOSITORY / "tests" / "trainer").rglob("test_*.py")
    return sorted(str(file.relative_to(REPOSITORY)) for file in files if "pytest.mark.gpu" in file.read_text(encoding="utf-8"))


def marked_tests(place: Place, model: str) -> Iterator[Figures]:
    """The tests that CI cannot run."""
    if importlib.util.find_spec("pytest") is None:
        raise Skipped("pytest is not installed")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *marked_files()]
    if place.tiny:
        command.append("--collect-only")
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout, flush=True)
    said = [line for line in done.stdout.splitlines() if line.strip()]
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    yield {
        "code": done.returncode,
        "failed_tests": failed,
        "status": "done" if done.returncode == 0 else "failed",
        "sentence": said[-1].strip("= ") if said else "pytest printed nothing",
    }
