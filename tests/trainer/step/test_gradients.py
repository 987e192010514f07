"""The one reduction of a step, between two real processes."""

from __future__ import annotations

from pathlib import Path

import torch

from trainer.step import gradients


def work(rank: int, store: str, out: str) -> None:
    gradients.BUCKET = 40  # bytes: three buckets of these four tensors
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    parameters = [
        torch.nn.Parameter(torch.zeros(n, dtype=t)) for n, t in [(3, torch.float32), (5, torch.float32), (2, torch.float64)]
    ]
    parameters.append(torch.nn.Parameter(torch.zeros(4), requires_grad=False))
    for number, parameter in enumerate(parameters[:3]):
        if (rank, number) != (1, 1):  # this rank's pairs left the second weight out
            parameter.grad = torch.full_like(parameter, 10 * number + rank + 1)
    gradients.sum_gradients(parameters)
    torch.save([p.grad for p in parameters], f"{out}-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_gradients_become_sums_over_the_ranks_and_what_a_rank_left_out_counts_as_zero(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path / "store"), str(tmp_path / "out")), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"out-{rank}.pt")
        assert found[3] is None, "what is not trained has no gradient"
        assert [g.tolist() for g in found[:3]] == [[3.0] * 3, [11.0] * 5, [43.0] * 2]
        assert [g.dtype for g in found[:3]] == [torch.float32, torch.float32, torch.float64]
