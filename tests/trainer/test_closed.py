"""A run in a closed network: with local data and a model in the cache nothing beyond this machine is asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
# Loaded by every Python process: notes each host that is looked up or connected to beyond this machine, and denies it.
GUARD = """\
import os, sys

def guard(event, args):
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    if name not in ("localhost", "::1", os.uname().nodename) and not name.startswith("127."):
        with open(os.environ["EGRESS"], "a") as file:
            file.write(f"{name} {sys.argv}\\n")
        raise OSError(f"no network: {name}")

sys.addaudithook(guard)
"""


@pytest.fixture
def closed(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without a way out; what tried is in the file EGRESS."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    (tmp_path / "egress").touch()
    blackhole = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")  # also for what is not Python
    return {
        **os.environ,
        **blackhole,
        "NO_PROXY": "localhost,127.0.0.1",
        "PYTHONPATH": f"{tmp_path / 'guard'}:{REPOSITORY}",
        "EGRESS": str(tmp_path / "egress"),
        "HOME": str(tmp_path),
        "KUBECONFIG": str(tmp_path / "none"),
        "DPO_CACHE_ROOT": str(tmp_path / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
    }


def test_the_guard_sees_who_leaves_this_machine(closed: dict[str, str]) -> None:
    ask = [sys.executable, "-c", "import socket; socket.create_connection(('hub.example.com', 443))"]
    assert "no network: hub.example.com" in subprocess.run(ask, env=closed, capture_output=True, text=True, check=False).stderr
    assert Path(closed["EGRESS"]).read_text().startswith("hub.example.com ")


def test_a_run_with_a_cache_that_was_filled_elsewhere_leaves_this_machine_alone(
    closed: dict[str, str], tmp_path: Path, tiny_model: Path, few_pairs: Path
) -> None:
    commit, hub = "0" * 40, tmp_path / "cache" / "huggingface" / "hub" / "models--someone--tiny"
    shutil.copytree(tiny_model, hub / "snapshots" / commit)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(commit)
    (tmp_path / "configs").mkdir()
    experiment = {
        "experiment_id": 1,
        "model_name": "someone/tiny",
        "datasets_path": str(few_pairs),
        "dpo_column_mapping_config": {"input_columns": {"question": "question"}, "chosen": "concrete", "rejected": "vague"},
        "hyperparameters": {"max_steps": 2, "max_seq_length": 128, "per_device_train_batch_size": 2, "model_output_dir": "out"},
    }
    (tmp_path / "configs" / "demo.yml").write_text(yaml.safe_dump({"demo": experiment}))
    command = [sys.executable, "-m", "launcher", "run", "demo", "--backend", "host", "--name", "closed"]
    done = subprocess.run(command, cwd=tmp_path, env=closed, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = tmp_path.glob("out/exp_1/tiny/runs/closed/run.json")
    assert json.loads(record.read_text())["outcome"]["state"] == "done"
    assert Path(closed["EGRESS"]).read_text() == ""
