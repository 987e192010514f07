"""Measures on one CUDA GPU what only a GPU can show: the most informative part first, each with a time limit of its own.

python -m tests.benchmarks.gpu                           all parts, in eight minutes at most
python -m tests.benchmarks.gpu --part launches --part ours
python -m tests.benchmarks.gpu --device cpu --tiny       the same code with tiny models on a CPU: what it prints measures nothing

Each part prints its result and writes build/bench/gpu/<part>.json as it goes; a table ends it. Needs the installed packages and
no network. Exits 0 also where there is no CUDA GPU (which it says), 1 where a part failed or was cut.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .parts import PARTS, Place, names
from .running import Clock, perform, summary

REPOSITORY = Path(__file__).parents[3]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=names(), action="append", help="only this one; may be repeated")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together (default: 8)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models, which show that the check itself works")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "bench" / "gpu", help="folder of the JSON files")
    parser.add_argument("--worker", choices=names(hidden=True), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        from .worker import work

        return work(options.worker, Place(options.folder, options.device, options.tiny))
    if options.device == "cuda" and not has_gpu():
        print("no CUDA GPU: nothing measured")
        return 0
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        place = Place(options.folder or Path(folder), options.device, options.tiny)
        wanted = [part for part in PARTS if part.name in (options.part or names())]
        results = perform(wanted, place, options.out, Clock(60 * options.minutes))
    print(summary(results))
    return int(any(result.status in ("failed", "cut") for result in results))


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
