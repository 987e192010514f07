"""Whether a change leaves training as it was: the demo's first steps by this tree and by another commit, bit for bit.

    python -m tests.benchmarks.loss_compare REV [--steps 8]

REV is checked out into a temporary worktree. Both train this tree's demo on the fast and on the plain path, with one thread
and a cache of their own. All figures of every step but times are compared (losses, gradient norms, rewards …), and the adapters.
The exit code is 0 if all are the same doubles and bytes, 1 at the first difference, 2 if a revision does not train.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open

from launcher.launch.demo import make_model, write_files
from launcher.runs.finding import choose, newest_first
from launcher.runs.processes import kill
from launcher.runs.run_dir import RunDir

REPOSITORY = Path(__file__).parents[2]
PATHS: Final = ("fast", "plain")
_NOT_COMPARED: Final = ("type", "step", "total_steps", "seconds")


class NotTrained(Exception):
    """A revision that is unknown, or that does not train the demo; with its last lines."""


def first_difference(one: RunDir, other: RunDir) -> str | None:
    """The first difference between two runs that ended, in a sentence; None if figures and adapters are the same."""
    return _of_steps(_events(one), _events(other)) or _of_adapters(one.adapter, other.adapter)


def _events(run: RunDir) -> dict[tuple[int, str], Mapping[str, Any]]:
    """(step, train or eval) -> the line of the log; the run's summary is about times."""
    lines = map(json.loads, run.steps.read_text(encoding="utf-8").splitlines())
    return {(line["step"], line["type"]): line for line in lines if line["type"] in ("train", "eval")}


def _of_steps(one: Mapping[tuple[int, str], Mapping[str, Any]], other: Mapping[tuple[int, str], Mapping[str, Any]]) -> str | None:
    if not any(kind == "train" for _, kind in one):
        return "no training step to compare"
    for step, kind in sorted(one.keys() | other.keys()):
        before, after = one.get((step, kind)), other.get((step, kind))
        if before is None or after is None:
            return f"step {step}: only {'the first' if after is None else 'the second'} has a line of {kind}"
        if kind == "train" and ("loss" in before) != ("loss" in after):  # other figures may be new, or go
            return f"step {step}, train: only {'the first' if 'loss' in before else 'the second'} has loss"
        for name in [name for name in before if name in after and name not in _NOT_COMPARED]:
            if before[name] != after[name]:
                return f"step {step}, {kind}: {name} is {before[name]!r} and {after[name]!r}"
    return None


def _of_adapters(one: Path, other: Path) -> str | None:
    before, after = _tensors(one), _tensors(other)
    if alone := sorted(before.keys() ^ after.keys()):
        return f"adapter: only {'the first' if alone[0] in before else 'the second'} has {alone[0]}"
    different = [name for name in sorted(before) if not _same(before[name], after[name])]
    if not different:
        return None
    first = different[0]
    most = (
        (before[first].double() - after[first].double()).abs().max().item()
        if before[first].shape == after[first].shape
        else "all"
    )
    return f"adapter: {len(different)} of {len(before)} tensors differ, first {first} (at most by {most})"


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """The same type, shape and bytes."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A worktree of ``revision``, removed afterwards. Raises NotTrained if git does not know it."""
    with tempfile.TemporaryDirectory(prefix="loss-compare-") as folder:
        tree = Path(folder, "tree")
        added = _git("worktree", "add", "--quiet", "--detach", str(tree), revision)
        if added.returncode:
            raise NotTrained(added.stderr.strip())
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def trained(tree: Path, home: Path, name: str, path: str, steps: int) -> RunDir:
    """The demo of ``home``, trained for ``steps`` steps by the code of ``tree``. Raises NotTrained with its last lines."""
    settings = {
        "dpo_path": path,
        "max_steps": steps,
        "save_steps": steps,
        "logging_steps": 1,
        "eval_strategy": "no",
        "load_best_model_at_end": "false",
        "model_output_dir": f"runs/{name}",
    }
    command = [sys.executable, "-m", "launcher", "run", "demo", "--backend", "host", "--name", name]
    command += [f"--set=hyperparameters.{key}={value}" for key, value in settings.items()]
    wanted = _git("rev-parse", "HEAD", cwd=tree).stdout.strip()
    env = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "DPO_CACHE_ROOT": str(home / "caches" / name)}
    output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    try:
        done = subprocess.run(command, cwd=home, env=env, check=False, **output)
    except KeyboardInterrupt:  # a run outlives its launcher
        kill(str(RunDir.of(home, f"runs/{name}", "demo", "qwen3-tiny", name).path))
        raise
    if done.returncode:
        raise NotTrained(f"{name} ended with exit code {done.returncode}:\n" + "\n".join(done.stdout.splitlines()[-15:]))
    run = choose("latest", newest_first([home / "runs" / name]))
    revision = (run.read_record().get("code") or {}).get("revision")
    if revision != wanted:
        raise NotTrained(f"{name} was trained by the code of {revision}, not by that of {tree}")
    return run


def compare(revision: str, steps: int) -> int:
    """Prints what is the same, and the first difference; returns the exit code."""
    code = 0
    with tempfile.TemporaryDirectory(prefix="loss-compare-") as folder, checked_out(revision) as tree:
        home = Path(folder)
        write_files(home)
        _take_model(home)
        title = _git("log", "-1", "--format=%h %s", cwd=tree).stdout.strip()
        print(f"this tree against {title}: {steps} steps of the demo on each path")
        for path in PATHS:
            before, after = (
                trained(root, home, f"{which}-{path}", path, steps) for which, root in (("there", tree), ("here", REPOSITORY))
            )
            difference = first_difference(before, after)
            print(f"{path:<6}{'the same, bit for bit' if difference is None else f'different (there and here): {difference}'}")
            code = code if difference is None else 1
    return code


def _take_model(home: Path) -> None:
    """The demo's model: this tree's, if `make demo` has made it, else a new one."""
    model = Path("data", "demo", "qwen3-tiny")
    if (REPOSITORY / model / "config.json").is_file():
        shutil.copytree(REPOSITORY / model, home / model)
    make_model(home, os.environ, print)


def _git(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("revision", metavar="REV")
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the worktree is removed
    try:
        sys.exit(compare(options.revision, options.steps))
    except NotTrained as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
