"""Checks that merged weights give the same log-probabilities as base plus adapter, up to rounding."""

from __future__ import annotations

import gc
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from torch import Tensor

from launcher.data.text.pair import Pair
from launcher.errors import LauncherError
from launcher.experiment.schema import Experiment

from ..inputs.models.model import Precision, load_model
from .weight_files import WeightFiles

PAIRS: Final = 4
GPU_TOKENS: Final = 4096  # of all sequences together; each is cut to its share
CPU_WORK: Final = 1e11  # weights x tokens: seconds on two cores
LEAST: Final = 48  # tokens of a sequence: rather fewer sequences than shorter ones
TIMES: Final = 4.0  # in units of a second rounding: a correct merge gives about 1; 4 was never seen
FLOOR: Final = 1e-4  # nats per token that fp32 sums may differ by
# For an adapter without a run, whose pairs are unknown.
PLAIN: Final = (
    Pair(None, "When does the library open?", "At 9:00 from Monday to Friday, at 10:00 on Saturday.", "It opens early.", 1),
    Pair(None, "How do I boil an egg?", "Put it into boiling water for seven minutes, then cool it.", "You boil it.", 2),
    Pair(None, "Name three rivers in Europe.", "The Danube, the Rhine and the Loire.", "There are many rivers there.", 3),
)
Ids = tuple[list[int], list[int]]  # ids of a prompt, and of an answer


@dataclass(frozen=True)
class Agreement:
    """Differences of log-probabilities in nats: ``mean`` per token, ``largest`` of a whole answer.

    ``noise``: mean difference caused by rounding the merged weights once more.
    """

    answers: int
    tokens: int
    mean: float
    noise: float
    largest: float
    computed: str

    @property
    def limit(self) -> float:
        """Upper limit of ``mean``. Only the size of the rounding error is known, and a second rounding is a fair sample of it."""
        return max(TIMES * self.noise, FLOOR)

    @property
    def holds(self) -> bool:
        return self.mean <= self.limit  # also False for NaN

    def json(self) -> dict[str, Any]:
        return {**vars(self), "limit": self.limit}

    def __str__(self) -> str:
        compared = f"{self.answers} answers, {self.tokens:,} tokens, {self.computed}"
        if self.mean == 0:
            return f"identical log-probabilities ({compared})"
        limit = f"limit {self.limit:.2g}" + (f", {TIMES:g} times what rounding makes" if self.limit > FLOOR else "")
        return (
            f"log-probabilities differ by {self.mean:.2g} per token on average ({limit}), "
            f"of a whole answer by at most {self.largest:.2g} ({compared})"
        )


def compare(
    experiment: Experiment,
    base: Path,
    adapters: Sequence[Path],
    merged: Path,
    sequences: Iterable[Ids],
    rounded: tuple[torch.dtype, Collection[str] | None],
) -> Agreement:
    """Loads base and adapters, then the merged model, with transformers and PEFT, and computes both on the same tokens.

    ``rounded``: dtype of the merged weights, and the parameters that were rounded to it (None: all). Raises LauncherError if
    the weights do not fit into memory.
    """
    numbers = WeightFiles.of(base).numbers
    device, dtype = place(numbers)
    asked = _cut(list(sequences), GPU_TOKENS if device.type == "cuda" else max(4 * LEAST, min(2048, int(CPU_WORK / numbers))))
    precision = Precision(dtype, bf16=False, fp16=False)
    model: Any = load_model(experiment, str(base), precision, cuda=False)
    for folder in adapters[:-1]:
        model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    expected = _log_probs(PeftModel.from_pretrained(model, str(adapters[-1])), device, asked)
    del model
    gc.collect()
    model = load_model(experiment, str(merged), precision, cuda=False)
    found = _log_probs(model, device, asked)
    _round_again(model, *rounded)
    again = _log_probs(model, device, asked)
    return _agreement(
        expected, found, again, f"{str(dtype).removeprefix('torch.')} on the {'GPU' if device.type == 'cuda' else 'CPU'}"
    )


def room() -> int:
    """Free bytes of main memory, within this process's control group."""
    pages: int = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = [_meminfo() or pages]
    group = Path("/sys/fs/cgroup")
    try:
        most, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        found.append(most - used + int(cached.get("inactive_file", 0)))
    except (OSError, ValueError):  # no such group, or no limit
        pass
    return min(found)


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _cut(sequences: Sequence[Ids], tokens: int) -> list[Ids]:
    """The first sequences, with the end of each prompt and the beginning of each answer: at most ``tokens`` in all."""
    kept = sequences[: max(1, tokens // LEAST)]
    share = max(2, tokens // max(1, len(kept)))
    return [
        (prompt[-max(1, share - len(answer), share // 2) :], answer[: max(1, share // 2, share - len(prompt))])
        for prompt, answer in kept
    ]


def place(numbers: int) -> tuple[torch.device, torch.dtype]:
    """(device, dtype) for ``numbers`` weights: the first of GPU and CPU, fp32 and 16 bits, that fits with a quarter left free.

    Raises LauncherError if nothing fits.
    """
    free = {"cuda": torch.cuda.mem_get_info()[0]} if torch.cuda.is_available() else {}
    free["cpu"] = room()
    for device, dtype in ((device, dtype) for dtype in (torch.float32, torch.bfloat16) for device in free):
        if numbers * dtype.itemsize * 1.25 <= free[device]:
            return torch.device(device), dtype
    raise LauncherError(
        f"comparing the merged model needs {numbers * 2.5 / 2**30:.1f} GiB of memory, {max(free.values()) / 2**30:.1f} are free; "
        "merge without comparing: --no-compare"
    )


@torch.no_grad()
def _log_probs(model: Any, device: torch.device, sequences: Sequence[Ids]) -> list[Tensor]:
    """Log-probability of each answer token, one fp64 tensor per sequence on the CPU."""
    model = model.to(device).eval()
    found = []
    for prompt, answer in sequences:
        ids = torch.tensor([[*prompt, *answer]], device=device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        chosen = logits.gather(1, ids[0, len(prompt) :, None])[:, 0].double()
        found.append((chosen - torch.logsumexp(logits.float(), 1).double()).cpu())
    return found


@torch.no_grad()
def _round_again(model: Any, dtype: torch.dtype, names: Collection[str] | None) -> None:
    """Shifts each rounded value by a random error of the size of its rounding: uniform over one step of ``dtype``.

    A value's step is between eps/2 and eps times the value; 0.72 eps is the mean over the binades.
    """
    step = 0.72 * torch.finfo(dtype).eps
    factors = torch.rand(2**22, generator=torch.Generator().manual_seed(1)).sub_(0.5).mul_(step).add_(1)
    for name, parameter in model.named_parameters():
        if names is not None and name not in names:
            continue
        factors = factors.to(parameter.device)
        for part in parameter.data.view(-1).split(len(factors)):
            part.mul_(factors[: len(part)])


def _agreement(expected: Sequence[Tensor], found: Sequence[Tensor], again: Sequence[Tensor], computed: str) -> Agreement:
    pairs = list(zip(expected, found, strict=True))
    differences = torch.cat([(one - other).abs() for one, other in pairs])
    noise = torch.cat([(one - other).abs() for one, other in zip(found, again, strict=True)])
    largest = max(float((one - other).sum().abs()) for one, other in pairs)
    return Agreement(len(pairs), len(differences), float(differences.mean()), float(noise.mean()), largest, computed)
