"""DeepSpeed configurations by name, from ``configs/deepspeed`` in the working directory or from this package."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import ExperimentError, Mistake, nearest
from ..experiment.other_tools.other_values import meant_value
from .topology import DDP, Parallelism

FOLDER: Final = Path("configs", "deepspeed")
# Taken from the experiment, so that the mathematics is the same everywhere; the trainer fills them in.
_DECIDED: Final = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
)
_REFUSED: Final = ("optimizer", "scheduler")
_EXTENSIONS: Final = ("zero_quantized_weights", "zero_quantized_gradients", "zero_quantized_nontrainable_weights", "zenflow")


def folders(root: Path) -> list[Path]:
    """Folders with configurations: below ``root``, then in this package (checkout or installation)."""
    here = Path(__file__).parents[1]
    return [folder for folder in (root / FOLDER, here.parent / FOLDER, here / "deepspeed") if folder.is_dir()]


def names(root: Path) -> list[str]:
    return sorted({path.stem for folder in folders(root) for path in folder.glob("*.json")})


def read_parallelism(name: str, root: Path, why: str | None = None) -> Parallelism:
    """``ddp``, or the configuration ``name``. Raises ExperimentError if it does not exist or cannot train."""
    if name == "ddp":
        return Parallelism(DDP.name, None, why)
    file = next((path for folder in folders(root) if (path := folder / f"{name}.json").is_file()), None)
    if file is None:
        known = ["auto", "ddp", *names(root)]
        raise ExperimentError(
            Mistake(
                "launch.parallelism",
                f"configs/deepspeed/{name}.json not found",
                f"one of {', '.join(known)}",
                hint=meant_value("parallelism", name) or nearest(name, known),
            )
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExperimentError(Mistake(str(file), f"not valid JSON: {error}")) from error
    mistakes = _mistakes(config, str(file))
    if mistakes:
        raise ExperimentError(mistakes)
    return Parallelism(name, config, why)


def _mistakes(config: Any, file: str) -> list[Mistake]:
    if not isinstance(config, dict):
        return [Mistake(file, "not a DeepSpeed configuration", "a JSON object", type(config).__name__)]
    zero = config.get("zero_optimization")
    stage = zero.get("stage") if isinstance(zero, dict) else None
    found = []
    if stage not in (1, 2, 3):
        found.append(Mistake(f"{file}: zero_optimization.stage", "must be 1, 2 or 3", found=str(stage)))
    if stage == 3 and isinstance(zero, dict) and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        what = "must be true, or no whole adapter or model can be saved"
        found.append(Mistake(f"{file}: zero_optimization.stage3_gather_16bit_weights_on_model_save", what))
    for name in _DECIDED:
        if config.get(name, "auto") != "auto":
            what = "is set by the experiment (per_device_train_batch_size, launch.global_batch_size, max_grad_norm)"
            found.append(Mistake(f"{file}: {name}", what, '"auto"', str(config[name])))
    for name in _REFUSED:
        if name in config:
            found.append(Mistake(f"{file}: {name}", "is set by the experiment (optim, lr_scheduler_type); remove it"))
    return [*found, *_compiled(config, zero if isinstance(zero, dict) else {}, file)]


def _compiled(config: Mapping[str, Any], zero: Mapping[str, Any], file: str) -> Iterator[Mistake]:
    """Mistakes for features that DeepSpeed compiles when a run starts: the images have no nvcc and no C++ compiler."""
    why = "DeepSpeed would compile {} when the run starts, and images have no compiler for it"
    devices = {name: (zero.get(name) or {}).get("device", "none") for name in ("offload_optimizer", "offload_param")}
    if devices["offload_optimizer"] != "none" and config.get("zero_force_ds_cpu_optimizer", True):
        what = f"must be false with offload_optimizer: {why.format('its own optimizer')}"
        yield Mistake(f"{file}: zero_force_ds_cpu_optimizer", what, hint="torch's optimizer is used then, as in zero2_offload")
    for name, device in devices.items():
        if device not in ("none", "cpu"):
            yield Mistake(
                f"{file}: zero_optimization.{name}.device", why.format("its file access"), "cpu or none", found=str(device)
            )
    for name in _EXTENSIONS:
        if zero.get(name):
            yield Mistake(f"{file}: zero_optimization.{name}", f"{why.format('an extension')}; remove it")
