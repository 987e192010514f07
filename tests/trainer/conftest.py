"""One small model, made once: the trainer's tests share it, because importing and training are what takes the time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir

REPOSITORY = Path(__file__).parents[2]
DEMO = REPOSITORY / "configs" / "demo"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 of two layers with random weights, and a byte-level tokenizer of the demo's text."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from trainer.inputs.demo.model import train_tokenizer

    folder = tmp_path_factory.mktemp("model") / "tiny-qwen3"
    tokenizer = train_tokenizer([(DEMO / "training_data.csv").read_text(encoding="utf-8")])
    torch.manual_seed(1)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts runs as forks of one process that has imported torch (tests.trainer.forks.Forks)."""
    from tests.trainer.forks import Forks

    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    with Forks(tmp_path_factory.mktemp("forks"), env) as found:
        yield found


@pytest.fixture(scope="session")
def few_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the demo's, with 12 training and 4 validation pairs."""
    folder = tmp_path_factory.mktemp("few")
    for name, count in (("training_data.csv", 12), ("validation_data.csv", 4), ("prompt_data.csv", 99)):
        lines = (DEMO / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(lines[: count + 1]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def make_experiment(tiny_model: Path) -> Callable[..., Experiment]:
    """An experiment on the demo's data and the tiny model; keyword arguments change its hyperparameters."""

    def make(*, experiment: dict[str, Any] | None = None, **hyper: Any) -> Experiment:
        return Experiment.parse(
            {
                "experiment_id": "tiny",
                "model_name": str(tiny_model),
                "datasets_path": str(DEMO),
                "validation_filename": "validation_data.csv",
                "dpo_column_mapping_config": {
                    "input_columns": {"question": "question"},
                    "chosen": "concrete",
                    "rejected": "vague",
                },
                "hyperparameters": {
                    "per_device_train_batch_size": 4,
                    "gradient_accumulation_steps": 1,
                    "learning_rate": 1e-3,
                    "max_steps": 4,
                    "save_strategy": "no",
                    "eval_strategy": "no",
                    **hyper,
                },
                "launch": {"gpus": 0},
                "samples": False,  # generating them would take longer than most of these trainings
                **(experiment or {}),
            }
        )

    return make


@pytest.fixture(scope="session")
def new_run() -> Callable[[Path, Experiment, str], RunDir]:
    """Makes a run's folder as the launcher does."""
    return run_of


def run_of(root: Path, experiment: Experiment, name: str) -> RunDir:
    run = RunDir.of(root, "out", experiment.experiment_id, experiment.model_folder, name)
    run.create({run.experiment: experiment.model_dump_json()}, {"run": name})
    return run


@pytest.fixture(scope="session")
def make_trainer() -> Callable[..., Any]:
    """Makes the trainer of an experiment as train.py does, up to the choice of its path: (trainer, tokens, precision)."""
    return trainer_of


def trainer_of(
    root: Path,
    experiment: Experiment,
    precision: Any = None,
    pairs: int | None = None,
    kind: Any = None,
    rank: int = 0,
    world: int = 1,
) -> Any:
    from launcher.data.pairs import read_pairs
    from launcher.data.tables.reading import Reading
    from trainer.inputs.arguments import arguments
    from trainer.inputs.models.adapter import lora_config, seed_adapter
    from trainer.inputs.models.model import choose_precision, load_model, load_tokenizer
    from trainer.inputs.tokens.tokens import tokenize
    from trainer.processes.ranks.machine import Device
    from trainer.step.dpo import DPOTrainer

    hyper = experiment.hyperparameters
    tokenizer = load_tokenizer(experiment, experiment.model_name)
    texts = read_pairs(experiment, Reading(root)).train[:pairs]
    tokens = tokenize(texts, tokenizer, hyper, source="train.csv", cache=root / "cache")
    device = Device(cuda=False, bf16=False, rank=rank, world=world)
    precision = precision or choose_precision(hyper, cuda=False, bf16=False)
    trainer = (kind or DPOTrainer)(
        model=load_model(experiment, experiment.model_name, precision, cuda=False),
        args=arguments(experiment, run_of(root, experiment, "step"), precision, device),
        train_dataset=tokens.dataset(),
        processing_class=tokenizer,
        peft_config=lora_config(hyper),
    )
    if not hyper.full_finetuning:
        seed_adapter(trainer.model, hyper.random_state, hyper.seed)
    return trainer, tokens, precision
