"""Recipes: experiment files for common models and cards, and what each needs on the card in its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from ..errors import UsageError, nearest
from ..experiment.files import load
from ..experiment.schema import Experiment
from .estimate import step_seconds
from .fit import Fit, fit, gib
from .machines.gpus import Gpu, find_gpu
from .sizes.config_file import find_model_config
from .tokens.assumed import full_work

# GB -> a common card of this size. Plans use the memory that nvidia-smi prints.
CARDS: Final = {
    8: "RTX 4060", 12: "RTX 3060", 16: "RTX 4080", 24: "RTX 4090", 32: "RTX 5090", 48: "RTX A6000", 80: "A100 80GB",
}  # fmt: skip
HEAD: Final = "# plan: "  # prefix of the line in a recipe's file that `make docs` writes
_NAME: Final = re.compile(r".+-(?P<method>lora|qlora|full)-(?:(?:(?P<nodes>\d+)x)?(?P<gpus>\d+)x)?(?P<gigabytes>\d+)gb")
_METHODS: Final = {"lora": "LoRA", "qlora": "QLoRA", "full": "full"}


@dataclass(frozen=True)
class Recipe:
    """The experiment of ``file``, named like the file. ``gpus``: per node, each with ``gigabytes``."""

    file: Path
    experiment: Experiment
    method: str
    nodes: int
    gpus: int
    gigabytes: int

    @classmethod
    def read(cls, file: Path) -> Recipe:
        """Raises ExperimentError for a file without this experiment, and ValueError for a name without a card."""
        named = _NAME.fullmatch(file.stem)
        if named is None:
            raise ValueError(f"{file}: expected the name <model>-<lora|qlora|full>-<card>, such as qwen3-8b-full-8x80gb")
        nodes, gpus = int(named["nodes"] or 1), int(named["gpus"] or 1)
        experiment = load(file.stem, file=file).experiment
        return cls(file, experiment, _METHODS[named["method"]], nodes, gpus, int(named["gigabytes"]))

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def text(self) -> str:
        return self.file.read_text(encoding="utf-8")

    @property
    def gpu(self) -> Gpu:
        """A card of its size."""
        return find_gpu(CARDS[self.gigabytes])

    @property
    def devices(self) -> str:
        """``1``, ``8``, or ``4 × 8`` for several nodes."""
        return str(self.gpus) if self.nodes == 1 else f"{self.nodes} × {self.gpus}"

    def on(self, gpu: Gpu) -> Fit:
        """What it needs on such cards, with pairs of its maximum length."""
        config, _ = find_model_config(self.experiment.model_name, Path(), {}, network=False)
        return fit(self.experiment, config, full_work(self.experiment), gpu, {}, changes=False)

    @cached_property
    def plan(self) -> Fit:
        """What it needs on its own card."""
        return self.on(self.gpu)

    @property
    def seconds(self) -> float:
        """Seconds of a training step on its own card, at most."""
        plan = self.plan
        found = step_seconds(plan.experiment, plan.config, plan.work, plan.machine, recompute=plan.estimate.recompute)
        assert found is not None, "the speed of every card here is known"
        return found

    @property
    def head(self) -> str:
        """The line in its file with what `launcher plan` finds for its own card."""
        memory = f"{gib(self.plan.estimate.total)} of {gib(self.gpu.memory)} GiB"
        each = "" if self.nodes * self.gpus == 1 else " each"
        checkpointing = "gradient checkpointing" if self.plan.estimate.recompute else "no gradient checkpointing"
        step = f"at most {self.seconds:.0f} s per step of {self.experiment.global_batch} pairs"
        return f"{HEAD}{memory}{each} ({self.gpu.name}), {checkpointing}, {step}"

    @property
    def memory(self) -> str:
        """``6.34 of 8.00 GiB`` per GPU, as written in its file."""
        line = next(line for line in self.text.splitlines() if line.startswith(HEAD))
        return line.removeprefix(HEAD).partition(" GiB")[0] + " GiB"


def recipes(names: Sequence[str] | None = None) -> list[Recipe]:
    """The recipes ``names``, or all, sorted by model, method and card."""
    files = _files()
    return [Recipe.read(files[name]) for name in (files if names is None else names)]


def matching(word: str) -> list[str]:
    """The recipe with this exact name, else those with ``word`` in their name. Raises UsageError if there are none."""
    names = list(_files())
    found = [word] if word in names else [name for name in names if word.lower() in name]
    if not found:
        hint = nearest(word, names)
        raise UsageError(f"unknown recipe {word!r}{f' ({hint})' if hint else ''}; list them with: launcher init --recipe")
    return found


def fitting(found: Fit) -> list[str]:
    """Names of recipes of the same model that fit into the GPUs of ``found``."""
    gpu, nodes = found.machine.gpu, found.experiment.launch.nodes
    if gpu is None or found.experiment.is_sft:
        return []
    line = f"\n  model_name: {found.experiment.model_name}\n"
    there = recipes([name for name, file in _files().items() if line in file.read_text(encoding="utf-8")])
    mine = [one for one in there if (one.nodes * one.gpus, one.nodes) == (found.machine.world, nodes)]
    return [one.name for one in mine if one.on(gpu).fits]


def _files() -> dict[str, Path]:
    """Name -> file, in a checkout or an installation. A training image has none."""
    here = Path(__file__).parents[1]
    folders = (here.parent / "configs" / "recipes", here / "recipes")
    files = next((found for folder in folders if (found := list(folder.glob("*.yml")))), [])
    return {file.stem: file for file in sorted(files, key=lambda file: _natural(file.stem))}


def _natural(name: str) -> list[tuple[float, str]]:
    """Sort key with numbers by size: ``qwen3-4b`` before ``qwen3-32b``."""
    return [(float(number or 0), text) for number, text in re.findall(r"(\d+(?:\.\d+)?)|(\D+)", name)]
