"""The optimizer's state of a run that resumes under another sharding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch


@pytest.mark.parametrize(("fused", "device"), [(True, "meta"), (None, "cpu")])
def test_a_fused_optimizer_counts_its_steps_where_its_weights_are(fused: bool | None, device: str) -> None:
    """As on a GPU; torch's fused kernel refuses a count that lies on the CPU."""
    from trainer.checkpoints.reshard import MOMENTS, _set

    weight = torch.nn.Parameter(torch.empty(2, 3, device="meta"))
    optimizer: Any = SimpleNamespace(param_groups=[{"params": [weight], "fused": fused}], state={})
    trainer = SimpleNamespace(accelerator=SimpleNamespace(state=SimpleNamespace()), optimizer=optimizer)
    _set(trainer, weight, {"step": 7.0, "fp32": torch.ones(6), **{name: torch.ones(6) for name in MOMENTS}})
    found = optimizer.state[weight]
    assert found["step"].device.type == device
    assert [found[name].shape for name in MOMENTS] == [weight.shape] * len(MOMENTS)
