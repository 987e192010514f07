"""Trainings in this process, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.processes.stop import StopRequest


def train_in(root: Path, run: RunDir, experiment: Experiment, *, attempt: int = 1, stop: StopRequest | None = None) -> None:
    """Trains as a rank does, with everything below ``root``."""
    from trainer.train import Roots, train

    train(run, experiment, Roots(root, root, root / "cache"), stop or StopRequest(), attempt=attempt)


def events(run: RunDir, kind: str | None = None) -> list[dict[str, Any]]:
    """The lines of the run's log, all or those of one kind."""
    lines = [json.loads(line) for line in run.steps.read_text().splitlines()]
    return [line for line in lines if kind is None or line["type"] == kind]


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def same_bits(one: Path, other: Path) -> bool:
    """Whether two adapters are the same."""
    import torch

    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def weights(trainer: Any) -> dict[str, Any]:
    """A copy of what is trained."""
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def with_margins(model: Any, std: float = 0.3) -> None:
    """A fresh adapter has margin zero, where the loss knows nothing of the data: gives it one."""
    import torch

    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=std)
