"""What the entry uploads at the end of a run, over a place that is played here."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.errors import UploadError
from launcher.runs.run_dir import RunDir
from trainer.processes import bucket
from trainer.processes.bucket import Bucket


@pytest.fixture
def let() -> Iterator[threading.Event]:
    let = threading.Event()
    yield let
    let.set()


@pytest.mark.parametrize("is_brief", [True, False])
def test_an_adapter_that_is_not_uploaded_when_the_time_to_stop_is_over_is_an_error(
    tmp_path: Path, let: threading.Event, monkeypatch: pytest.MonkeyPatch, is_brief: bool
) -> None:
    monkeypatch.setattr(bucket, "_BRIEF", 0.3)
    run = RunDir(tmp_path / "r")
    run.create({run.experiment: "{}"}, {"run": "r"})
    run.adapter.mkdir()
    place: Any = SimpleNamespace(uri="s3://b/r", keep=lambda *_: let.wait(20))
    stops = iter([False, True]) if not is_brief else iter([])
    began = time.monotonic()
    with pytest.raises(UploadError, match="s3://b/r: the upload did not end within 0 s after the request to stop"):
        Bucket(run, place, 0, lambda: next(stops, True)).keep(is_done=True, is_brief=is_brief)
    assert time.monotonic() - began < 10
