"""A process that works with weights, in a real container of the real image: launcher chat of a whole model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def test_a_container_answers_as_this_machine_does_and_is_gone_afterwards(
    engine: Any, cpu_image: str, build_settings: Mapping[str, str], demo_model: Path, tmp_path: Path, caller: Mapping[str, str]
) -> None:
    env = {**os.environ, **build_settings, "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    if caller.get("DOCKER_HOST"):
        env["DOCKER_HOST"] = caller["DOCKER_HOST"]

    def answers(backend: str) -> Any:
        asked = ["chat", str(demo_model), "--prompt", "Why?", "--prompt", "How?", "--max-tokens", "8", "--json"]
        argv = [sys.executable, "-m", "launcher", *asked, "--backend", backend]
        done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["turns"]

    here = answers("host")
    assert [turn["prompt"] for turn in here] == ["Why?", "How?"]
    assert here[0]["answers"]["model"]["text"]
    assert answers("docker") == here
    assert engine.containers.list(all=True, filters={"label": "app.kubernetes.io/name=dpo-launcher-work"}) == []
