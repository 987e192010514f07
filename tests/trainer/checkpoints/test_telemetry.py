"""A run sends nothing to Hugging Face about itself, unless it is asked to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server in the place of Hugging Face's: what it was asked."""
    import huggingface_hub

    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_GET = do_POST = do_HEAD

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", False)  # imported before our packages
    monkeypatch.delenv("CI", raising=False)  # where TRL sends nothing
    yield asked
    server.shutdown()


@pytest.mark.slow
def test_a_trainer_sends_no_request_unless_asked_to(
    tmp_path: Path,
    make_experiment: Callable[..., Experiment],
    make_trainer: Callable[..., Any],
    hub: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub.utils._telemetry import _TELEMETRY_QUEUE

    trainer, _, _ = make_trainer(tmp_path / "silent", make_experiment(max_steps=1), pairs=4)
    trainer.train()
    _TELEMETRY_QUEUE.join()
    assert hub == []

    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    make_trainer(tmp_path / "asked", make_experiment(max_steps=1), pairs=4)
    _TELEMETRY_QUEUE.join()
    assert "/api/telemetry/trl/other" in hub


@pytest.mark.parametrize(("said", "wanted"), [(None, "1"), ("0", "0")])
def test_the_client_of_hugging_face_is_told_before_it_is_imported(said: str | None, wanted: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    env |= {} if said is None else {"HF_HUB_DISABLE_TELEMETRY": said}
    script = "import sys, os, trainer; print(os.environ['HF_HUB_DISABLE_TELEMETRY'], 'huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [wanted, "False"]
