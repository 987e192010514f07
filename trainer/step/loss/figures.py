"""Metrics of a log line: sums over pairs on the device, reduced over the ranks once per line, not once per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from math import sqrt
from typing import Any, Final

import torch
from torch import Tensor

from ..batches.packing import Row
from ..packed import Head

_PAIRS: Final = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
)
# What the health rules need of single pairs: sums of m², d, d², m·d (m: margin, d: tokens of chosen - of rejected), of powers of
# t (m as standard deviations from the median, at most 3, or one strange pair would decide), and counts.
_SPREAD: Final = ("m²", "d", "d²", "md", "t", "t²", "t³", "above", "rewards/reversed")
_GAIN: Final = 0.3  # of a step towards the median that a line shows: the share of Newton's, as one line is noise

_PER: Final = {"entropy": "both", "logits/chosen": "chosen", "logits/rejected": "rejected", "mean_token_accuracy": "chosen"}


def rounded(beta: float, *, half: bool) -> float:
    """A margin up to this, in rewards, is rounding and no preference; ``half``: the step is in 16 bits."""
    return beta * (5e-2 if half else 1e-3)


class Averages:
    """Means over pairs, or over their answers' tokens, of the metrics that TRL computes for each micro-batch."""

    def __init__(self, device: torch.device):
        self._device = device
        self._sums: dict[str, Tensor] = {}  # name -> [2] float64: the sum, and over how many pairs or tokens

    def add(self, figures: Mapping[str, float | Tensor], pairs: int, mask: Tensor) -> None:
        """``figures``: means over ``pairs`` pairs; 0 pairs where they count nothing.

        ``mask``, [2 * pairs, T]: where a token of a chosen answer is predicted, then the same for the rejected answers. Entropy,
        logits and token accuracy are means over such tokens.
        """
        chosen, rejected = (part.sum(dtype=torch.float64) for part in mask.chunk(2))
        tokens = {"chosen": chosen, "rejected": rejected, "both": chosen + rejected}
        for name, mean in figures.items():
            count = tokens[_PER[name]] if name in _PER else torch.tensor(pairs, dtype=torch.float64, device=self._device)
            value = torch.as_tensor(mean, dtype=torch.float64, device=self._device)
            total = torch.where(count > 0, value * count, 0.0)  # what counts nothing may be NaN
            self._sums[name] = self._sums.get(name, 0) + torch.stack([total, count])

    def means(self, accelerator: Any) -> dict[str, float]:
        """Means over all that was added on any rank since the last call; all ranks must come here."""
        names, sums = sorted(self._sums), self._sums
        self._sums = {}
        if not names:
            return {}
        totals, counts = accelerator.reduce(torch.stack([sums[name] for name in names], 1), reduction="sum").tolist()
        return {name: total / max(count, 1) for name, total, count in zip(names, totals, counts, strict=True)}

    def peek(self, accelerator: Any) -> dict[str, float]:
        """``means``, and nothing is forgotten."""
        sums = self._sums
        found = self.means(accelerator)
        self._sums = sums
        return found

    def forget(self) -> None:
        self._sums = {}

    def state(self) -> dict[str, Tensor]:
        """What was added since the last line, for ``take``."""
        return dict(self._sums)

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Adds what another one had in its ``state``."""
        for name, sums in state.items():
            self._sums[name] = self._sums.get(name, 0) + sums.to(self._device)


class Figures:
    """Sums over pairs and over tokens; the names and their meanings are TRL's."""

    def __init__(self, device: torch.device, noise: float):
        """``noise``: a margin up to it, in rewards, is rounding: no preference, and not counted as one."""
        self._noise = noise
        # float64: after a million pairs the next one still counts. Of tokens: a column for the chosen answers, one for the
        # rejected ones, and one that is forgotten, for padding
        self._pairs = torch.zeros(len(_PAIRS), dtype=torch.float64, device=device)
        self._tokens = torch.zeros(3, 3, dtype=torch.float64, device=device)
        self._counts = (0, 0, 0)  # pairs, tokens of their chosen answers, tokens of the rejected ones: known without the device
        self._margins: list[Tensor] = []  # of each row's pairs since the last line, [K]
        self._longer: list[list[int]] = []  # [k] of the same rows: tokens of the chosen answer less those of the rejected one
        self._median: float | None = None  # of the margins, a running estimate
        self._variance = 0.0  # of the margins around the median, a running estimate

    def add(self, row: Row, output: Head, logps: Tensor, rewards: Tensor, losses: Tensor) -> None:
        """``logps`` and ``rewards``: [K, 2], ``losses``: [K], all 0 for a missing pair; no value leaves the device."""
        margins = rewards[:, 0] - rewards[:, 1]
        self._pairs += torch.stack([losses, *rewards.T, margins > self._noise, margins, *logps.T]).sum(1)
        of_tokens = torch.stack([output.entropy, output.mean_logits, output.is_top1])
        self._tokens.index_add_(1, row.side, of_tokens.double())
        self._note(row, margins)

    def _note(self, row: Row, margins: Tensor) -> None:
        """Notes a row's margins, and counts its pairs and tokens on the host."""
        self._margins.append(margins)
        self._longer.append([span.chosen - span.rejected for span in row.spans])
        self._counts = tuple(map(sum, zip(self._counts, row.counted, strict=True)))

    def sums(self) -> tuple[Tensor, ...]:
        """The device's sums over a single row, for ``join``."""
        return self._pairs, self._tokens, *self._margins

    def join(self, row: Row, sums: Sequence[Tensor]) -> None:
        """Adds the ``sums`` of another one, which ``row`` was added to."""
        pairs, tokens, margins = sums
        self._pairs += pairs
        self._tokens += tokens
        self._note(row, margins)

    def mark(self) -> tuple[Any, ...]:
        """What was added so far, for ``back_to``."""
        sums = self._pairs.clone(), self._tokens.clone(), self._counts
        return *sums, self._median, self._variance, list(self._margins), list(self._longer)

    def peek(self, accelerator: Any) -> dict[str, float]:
        """``means``, and nothing is forgotten."""
        mark = self.mark()
        found = self.means(accelerator)
        self.back_to(mark)
        return found

    def back_to(self, mark: tuple[Any, ...]) -> None:
        """Forgets what was added since: a step that is computed again is counted once."""
        self._pairs, self._tokens, self._counts = mark[0].clone(), mark[1].clone(), mark[2]
        self._median, self._variance, margins, longer = mark[3:]
        self._margins, self._longer = list(margins), list(longer)

    def state(self) -> dict[str, Tensor]:
        """What was added since the last line and what it compares with, for ``take``."""
        followed = [] if self._median is None else [self._median, self._variance]
        return {
            "pairs": self._pairs,
            "tokens": self._tokens,
            "counts": torch.tensor(self._counts),
            "margins": torch.cat([self._pairs[:0], *_of_pairs(self._margins, self._longer)]),
            "longer": torch.tensor(list(chain(*self._longer)), dtype=torch.int64),
            "followed": torch.tensor(followed, dtype=torch.float64),
        }

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Adds what another one had in its ``state``."""
        self._pairs += state["pairs"].to(self._pairs.device)
        self._tokens += state["tokens"].to(self._tokens.device)
        self._counts = tuple(map(sum, zip(self._counts, state["counts"].tolist(), strict=True)))
        self._margins.append(state["margins"].to(self._pairs.device))
        self._longer.append(state["longer"].tolist())
        if len(state["followed"]):
            self._median, self._variance = state["followed"].tolist()

    def means(self, accelerator: Any) -> dict[str, float]:
        """Means over all that was added on any rank since the last call; rewards are in nats times beta, logps in nats.

        ``rewards/margins_std`` and ``rewards/margins_skew``: of single pairs, those beyond three standard deviations drawn in.
        ``rewards/length_correlation``: between a pair's margin and how many tokens its chosen answer is longer.
        ``rewards/reversed``: the share of pairs whose margin is below minus half the median of the lines before.
        """
        counts = torch.tensor(self._counts, dtype=torch.float64).to(self._pairs.device)
        here = torch.cat([counts, self._pairs, self._spread_sums(), self._tokens[:, :2].reshape(-1)])
        sums = accelerator.reduce(here, reduction="sum").tolist()
        self._pairs, self._tokens, self._counts = torch.zeros_like(self._pairs), torch.zeros_like(self._tokens), (0, 0, 0)
        self._margins, self._longer = [], []
        pairs, chosen, rejected = (max(count, 1) for count in sums[:3])
        *of_pairs, entropy, rejected_entropy, logits, rejected_logits, top1, _ = sums[3:]
        every = {name: value / pairs for name, value in zip((*_PAIRS, *_SPREAD), of_pairs, strict=True)}
        means = {name: every[name] for name in _PAIRS} | self._spread(every)
        return means | {
            "entropy": (entropy + rejected_entropy) / (chosen + rejected),
            "logits/chosen": logits / chosen,
            "logits/rejected": rejected_logits / rejected,
            "mean_token_accuracy": top1 / chosen,
        }

    def _spread_sums(self) -> Tensor:
        """[9] float64: sums over the pairs of ``_SPREAD``, once a line and not once a row."""
        if not self._margins:
            return self._pairs.new_zeros(len(_SPREAD))
        margins = torch.cat(_of_pairs(self._margins, self._longer))
        longer = torch.tensor(list(chain(*self._longer)), dtype=torch.float64).to(margins.device)
        median, std = self._median or 0.0, sqrt(self._variance) or 1.0
        t = ((margins - median) / std).clamp(-3, 3)
        far = margins < -0.5 * median  # the side of pairs whose labels are swapped
        spread = [margins * margins, longer, longer * longer, margins * longer, t, t * t, t * t * t, margins > median, far]
        return torch.stack(spread).sum(1)

    def _spread(self, means: Mapping[str, float]) -> dict[str, float]:
        """The figures of ``_SPREAD``; no correlation where all margins or all lengths are equal."""
        margin, longer, t = means["rewards/margins"], means["d"], means["t"]
        variance, of_lengths = max(0.0, means["m²"] - margin**2), means["d²"] - longer**2
        of_t, third = means["t²"] - t**2, means["t³"] - 3 * t * means["t²"] + 2 * t**3
        found = {"rewards/margins_std": sqrt(self._variance * max(0.0, of_t) if self._variance else variance)}
        if sqrt(variance) > self._noise and of_lengths > 0:
            found["rewards/length_correlation"] = (means["md"] - margin * longer) / sqrt(variance * of_lengths)
        if self._median is not None and self._median > self._noise:
            found["rewards/reversed"] = means["rewards/reversed"]
            found |= {"rewards/margins_skew": third / of_t**1.5} if of_t > 0 else {}
        self._follow(margin, means)
        return found

    def _follow(self, margin: float, means: Mapping[str, float]) -> None:
        """Moves the running median, and the variance around it, towards those of this line."""
        if self._median is None:
            self._median = margin
        else:  # Newton's step where margins are normal: their density at the median is 0.4 / std
            self._median += _GAIN * sqrt(self._variance) / 0.4 * (means["above"] - 0.5)
        around = means["m²"] - 2 * self._median * margin + self._median**2
        self._variance += (_GAIN if self._variance else 1.0) * (around - self._variance)


def _of_pairs(margins: Sequence[Tensor], longer: Sequence[Sequence[int]]) -> list[Tensor]:
    """``margins`` of rows without those of missing pairs."""
    return [some[: len(known)] for some, known in zip(margins, longer, strict=True)]


class AnswerFigures:
    """Means over the tokens of chosen answers, by the names of TRL's SFTTrainer."""

    def __init__(self, device: torch.device):
        self._sums = torch.zeros(3, 3, dtype=torch.float64, device=device)  # see ``_tokens`` of Figures: loss, entropy, top-1
        self._count = 0  # of tokens: known without the device

    def add(self, row: Row, output: Head, losses: Tensor) -> None:
        """``losses``: [K], of whole answers, 0 for a missing one; no value leaves the device."""
        self._sums[0, 0] += losses.sum()
        self._sums[1:].index_add_(1, row.side, torch.stack([output.entropy, output.is_top1]).double())
        self._count += row.counted[1]

    def sums(self) -> tuple[Tensor, ...]:
        """The device's sums, for ``join``."""
        return (self._sums,)

    def join(self, row: Row, sums: Sequence[Tensor]) -> None:
        """Adds the ``sums`` of another one, which ``row`` was added to."""
        self._sums += sums[0]
        self._count += row.counted[1]

    def mark(self) -> tuple[Any, ...]:
        """What was added so far, for ``back_to``."""
        return self._sums.clone(), self._count

    def back_to(self, mark: tuple[Any, ...]) -> None:
        """Forgets what was added since."""
        self._sums, self._count = mark[0].clone(), mark[1]

    def state(self) -> dict[str, Tensor]:
        """What was added since the last line, for ``take``."""
        return {"sums": self._sums, "count": torch.tensor(self._count)}

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Adds what another one had in its ``state``."""
        self._sums += state["sums"].to(self._sums.device)
        self._count += int(state["count"])

    def peek(self, accelerator: Any) -> dict[str, float]:
        """``means``, and nothing is forgotten."""
        mark = self.mark()
        found = self.means(accelerator)
        self.back_to(mark)
        return found

    def means(self, accelerator: Any) -> dict[str, float]:
        """Means over all that was added on any rank since the last call, in nats; all ranks must come here."""
        sums = torch.cat([self._sums[:, 0], self._sums.new_tensor([self._count])])
        self._sums, self._count = torch.zeros_like(self._sums), 0
        *totals, count = accelerator.reduce(sums, reduction="sum").tolist()
        names = ("loss", "entropy", "mean_token_accuracy")
        return {name: total / max(count, 1) for name, total in zip(names, totals, strict=True)}
