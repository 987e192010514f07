"""The launcher as a person types it, in processes of its own, with one experiment; torchrun is played by ``tests/fakes``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.runs.processes import kill
from launcher.runs.run_dir import RunDir
from tests.waiting import finished

FAKES = Path(__file__).parents[2] / "fakes"
LAUNCHER = (sys.executable, "-m", "launcher")
CONFIG = """\
demo:
  experiment_id: 1
  model_name: ./model
  datasets_path: data
  validation_filename: validation.csv
  hyperparameters: {num_train_epochs: 3, model_output_dir: out}
"""


@contextmanager
def with_demo(home: Path) -> Iterator[Path]:
    """``home`` with the experiment ``demo``, its data and its model; nothing that was started in it lives on."""
    for name in ("configs", "data", "model"):
        (home / name).mkdir()
    (home / "configs" / "demo.yml").write_text(CONFIG)
    (home / "model" / "config.json").write_text("{}")
    for name in ("model.safetensors", "tokenizer.json"):
        (home / "model" / name).touch()
    (home / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\nHow?,So.,What?\n")
    (home / "data" / "validation.csv").write_text("prompt,chosen,rejected\nWho?,Me.,Nobody.\n")
    yield home
    for record in home.rglob("run.json"):
        kill(str(record.parent))


def environment(**env: str) -> dict[str, str]:
    """A machine without an engine and without a GPU."""
    return {
        **os.environ,
        "PYTHONPATH": str(FAKES),
        "COLUMNS": "100",
        "CUDA_VISIBLE_DEVICES": "",
        "DOCKER_HOST": "unix:///no/such/engine",
        **env,
    }


def launcher(home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return finished(
        [*LAUNCHER, *args], cwd=home, env=environment(**env), capture_output=True, text=True, timeout=300, check=False
    )


def begin(home: Path, *args: str, **env: str) -> subprocess.Popen[str]:
    """The launcher while it runs, with what it says in one stream."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*LAUNCHER, *args], cwd=home, env=environment(**env), **pipes)


def run_dir(home: Path, name: str) -> RunDir:
    return RunDir(home / "out" / "exp_1" / "model" / "runs" / name)


def has_stepped(run: RunDir) -> bool:
    return run.steps.is_file() and run.steps.stat().st_size > 0
