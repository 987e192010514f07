"""The data side of a step: CPU milliseconds to plan it and to pack its rows, and the memory of 200,000 pairs.

    python -m tests.benchmarks.pack [--pairs 32]

Milliseconds are CPU time of one thread, the least of several epochs: another process can only add to it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from .pairs import SHAPES, make_pairs

REPOSITORY = Path(__file__).parents[2]
EPOCHS, PAIRS, MANY = 5, 1024, 200_000
ROW = 20_000  # tokens


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=32, help="of a step")
    together = parser.parse_args().pairs
    found = {shape: step_of(make_pairs(SHAPES[shape], PAIRS, 150_000), together) for shape in SHAPES}
    for shape, figures in found.items():
        print(f"{shape}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    stored = memory_of(MANY, 440)
    print(f"{MANY:,} pairs of 440 tokens: {stored / 2**30:.2f} GiB")
    file = REPOSITORY / "build" / "bench" / "pack.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"pairs": together, "shapes": found, "bytes": stored}, indent=2) + "\n")


def step_of(pairs: Any, together: int) -> dict[str, float]:
    """CPU milliseconds a step: to plan it and find its rows, and to pack them for a CPU and for a GPU; rows; share of padding."""
    from trainer.step.batches.buckets import Buckets
    from trainer.step.batches.packing import pack_row, packed_lengths, rows_of
    from trainer.step.batches.steps import Steps

    buckets = Buckets.of(packed_lengths(pairs), together, ROW)
    steps = Steps(pairs, batch=together, seed=1, rank=0, world=1, budget=None)
    ways: list[dict[str, Any]] = [{}, {"block_sparse": True, "padded": buckets.padded}]
    times, padding = np.empty((EPOCHS, 3)), 0.0
    for epoch in range(EPOCHS):
        began = time.process_time()
        rows = [places for share in steps for places in rows_of(pairs, buckets.budget, share.pairs)]
        times[epoch, 0] = time.process_time() - began
        for number, way in enumerate(ways, start=1):
            began = time.process_time()
            for places in rows:
                row = pack_row(pairs, places, **way)
                padding += row.padding / row.length
            times[epoch, number] = time.process_time() - began
    plan, plain, padded = (1e3 * times / len(steps)).min(axis=0).tolist()
    each = len(rows) / len(steps)
    return {"plan": plan, "pack": plain, "pack for a GPU": padded, "rows": each, "padding": padding / EPOCHS / len(rows)}


def memory_of(count: int, tokens: int) -> int:
    """Bytes of ``count`` pairs of ``tokens`` tokens, a seventh of them the prompt's."""
    from trainer.inputs.tokens.token_pairs import TokenPairs

    prompts, chosen = tokens // 7, 3 * tokens // 7
    sizes = np.tile(np.array([prompts, chosen, tokens - prompts - chosen]), (count, 1))
    first, second, third = (np.zeros(int(total), np.int32) for total in sizes.sum(axis=0))
    return TokenPairs.joined((first, second, third), sizes, np.arange(count)).nbytes


if __name__ == "__main__":
    main()
