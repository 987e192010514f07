"""What is told of an image while an engine builds it; the engine's stream is played."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.backends.docker import build


def test_a_build_that_prints_nothing_for_a_while_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(**_: Any) -> Iterator[dict[str, str]]:
        yield {"stream": "Step 1/2 : RUN pip install torch\n"}
        yield {"stream": "Collecting torch\n"}
        deadline = time.monotonic() + 20
        while len(said) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)

    said: list[str] = []
    monkeypatch.setattr(build, "INTERVAL", 0.5)
    build._build(SimpleNamespace(api=SimpleNamespace(build=stream)), {"Dockerfile": b"FROM x"}, said.append, tag="dpo:1")
    assert said[1] == "Step 1/2 : RUN pip install torch"
    assert said[2].startswith("building dpo:1: ")
    assert said[2].endswith(" s, Collecting torch")
