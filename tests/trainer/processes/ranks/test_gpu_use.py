from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.processes.ranks.gpu_use import gpu_use


def test_a_machine_without_a_gpu_logs_nothing_of_one() -> None:
    assert gpu_use() == {}


def test_a_gpu_is_logged_with_its_use_and_without_nvml_with_its_memory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any) -> int:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed or it can't be imported.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**29)
    monkeypatch.setattr(torch.cuda, "utilization", lambda: 87)
    assert gpu_use() == {"memory_gib": 1.5, "gpu_use": 87.0}
    monkeypatch.setattr(torch.cuda, "utilization", refused)
    assert gpu_use() == {"memory_gib": 1.5}
