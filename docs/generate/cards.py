"""Writes README's table of which card trains which model, by the planner's estimates: ``python -m docs.generate.cards``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from launcher.experiment.schema import Experiment
from launcher.planning.estimate import estimate, fits
from launcher.planning.machines.gpus import find_gpu
from launcher.planning.recipes import CARDS
from launcher.planning.sizes.machine import Machine
from launcher.planning.sizes.model_config import ModelConfig
from launcher.planning.tokens.work import Work

from .pages import README, ROOT, write_part

MODELS: Final = ("0.6B", "1.7B", "4B", "8B", "14B", "32B")
# The most demanding first.
WAYS: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("full", {"full_finetuning": True}),
    ("LoRA", {}),
    ("QLoRA", {"load_in_4bit": True}),
)
PAIRS: Final = 1000
PROMPT: Final = 512  # tokens, and as many in each answer


def table() -> str:
    """A row a model, a column a size of memory; a cell names the most demanding training that fits."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield f"| Qwen3 | {' | '.join(f'{size} GB' for size in CARDS)} |"
    yield f"|{'---|' * (len(CARDS) + 1)}"
    for model in MODELS:
        yield f"| {model} | {' | '.join(_most(model, card) for card in CARDS.values())} |"


def _most(model: str, card: str) -> str:
    gpu = find_gpu(card)
    config = ModelConfig.parse(json.loads((ROOT / f"configs/models/Qwen/Qwen3-{model}/config.json").read_text()))
    # A prompt once and both answers, each pair as long as max_seq_length allows.
    longest = PROMPT * 2
    work = Work(PAIRS, 2 * longest * PAIRS, 3 * PROMPT * PAIRS, longest, 3 * PROMPT, exact=True)
    for name, settings in WAYS:
        experiment = _experiment(model, settings)
        found = estimate(experiment, config, work, Machine(gpu=gpu))
        if fits(found, gpu.memory, experiment.hyperparameters.gpu_memory_utilization):
            return name
    return "–"


def _experiment(model: str, settings: Mapping[str, Any]) -> Experiment:
    hyperparameters = {"max_seq_length": PROMPT * 2, **settings}
    return Experiment.parse(
        {"model_name": f"Qwen/Qwen3-{model}", "datasets_path": "data", "hyperparameters": hyperparameters, "launch": {"gpus": 1}}
    )


def main(page: Path = README) -> None:
    write_part(page, "cards", table())


if __name__ == "__main__":
    main()
