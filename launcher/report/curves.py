"""Metrics of runs as charts, thinned for a screen but with every spike kept. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from .reported import Reported

_POINTS: Final = 3000  # buckets of a page, over all runs: what keeps it quick to open
_FEWEST, _MOST = 100, 1000  # buckets of a run
_RATE: Final = "pairs_per_second"  # computed here, where the log has none
_HIDDEN: Final = ("type", "step", "total_steps", "seconds", "epoch", "num_tokens", "logits/", "reference/", "pairs/")


@dataclass(frozen=True)
class Chart:
    """``parts``: the names in the log that it draws, each with its label; ``is_main``: shown without being asked for.

    ``rules``: the health rules whose findings are marked here. ``is_smoothed``: by the page, where the reader wants it.
    """

    key: str
    title: str
    parts: tuple[tuple[str, str], ...]
    rules: tuple[str, ...] = ()
    is_main: bool = True
    help: str = ""
    is_smoothed: bool = True

    def json(self) -> dict[str, Any]:
        parts = [{"name": name, "label": label} for name, label in self.parts]
        return {
            "key": self.key,
            "title": self.title,
            "parts": parts,
            "main": self.is_main,
            "help": self.help,
            "smooth": self.is_smoothed,
        }


CHARTS: Final = (
    Chart(
        "loss",
        "Loss",
        (("loss", ""),),
        ("not_finite", "first_loss", "loss_stuck", "loss_spikes", "overfitting"),
        help="ln 2 = 0.693: no preference yet",
    ),
    Chart(
        "accuracy",
        "Accuracy",
        (("rewards/accuracies", ""),),
        ("accuracy_low", "swapped_columns"),
        help="share of pairs with a margin above 0",
    ),
    Chart(
        "token_accuracy",
        "Token accuracy",
        (("mean_token_accuracy", ""),),
        is_main=False,
        help="share of the chosen answers' tokens that the model ranks first",
    ),
    Chart(
        "margin",
        "Margin",
        (("rewards/margins", ""),),
        ("margin_flat", "flipped_labels", "length_bias"),
        help="reward of chosen minus rejected",
    ),
    Chart(
        "rewards",
        "Rewards",
        (("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")),
        ("chosen_falling", "reward_scale"),
        help="beta × change of the log-probability; below 0: less likely than before",
    ),
    Chart("learning_rate", "Learning rate", (("learning_rate", ""),), ("learning_rate_low",), is_smoothed=False),
    Chart("grad_norm", "Gradient norm", (("grad_norm", ""),), ("gradient_spikes",)),
    Chart("speed", "Throughput", ((_RATE, ""),), ("slow",), help="pairs per second"),
    Chart("memory", "Memory", ()),
    Chart("gpu", "GPU use", (), ("gpu_idle",)),
    Chart("logps", "Log-probabilities", (("logps/chosen", "chosen"), ("logps/rejected", "rejected")), is_main=False),
)
_FOUND: Final = {"memory": ("memory", "mem_"), "gpu": ("gpu", "utilization")}  # parts by words in their names, as logs vary


def charts(runs: Sequence[Reported]) -> list[Chart]:
    """The charts with data in any run; logged metrics that no chart names get their own."""
    names = dict.fromkeys(name for run in runs for name in _names(run))
    has_rewards = "rewards/margins" in names  # else the token accuracy tells most beside the loss
    drawn: list[Chart] = []
    for chart in CHARTS:
        parts = tuple(part for part in chart.parts if part[0] in names)
        parts += tuple((name, name) for name in names if any(word in name.lower() for word in _FOUND.get(chart.key, ())))
        if parts:
            is_main = chart.is_main or (chart.key == "token_accuracy" and not has_rewards)
            drawn.append(replace(chart, parts=parts, is_main=is_main))
            names = {name: None for name in names if name not in dict(parts)}
    drawn += [Chart(name, name, ((name, ""),), is_main=False) for name in names]
    return drawn


def chart_of(rule: str, drawn: Sequence[Chart]) -> str | None:
    """The key of the chart that marks a health rule's findings; the first chart if none names the rule."""
    return next(iter([*(chart.key for chart in drawn if rule in chart.rules), *(chart.key for chart in drawn)]), None)


def curves(run: Reported, drawn: Sequence[Chart], runs: int) -> dict[str, Any]:
    """The points of one of ``runs`` runs: ``x``, and for each name ``raw`` at ``x`` (the lowest and the highest value of each
    bucket, in the order in which they came) and ``mean`` at ``mx``; ``ex`` and ``evals``: those of evaluations, whole.
    """
    size = max(1, math.ceil(len(run.train) / max(_FEWEST, min(_MOST, _POINTS // max(1, runs)))))
    buckets = [slice(at, at + size) for at in range(0, len(run.train), size)]
    steps = run.train.steps
    x = [step for part in buckets for step in dict.fromkeys((steps[part][0], steps[part][-1]))]
    raw: dict[str, list[float | None]] = {}
    mean: dict[str, list[float | None]] = {}
    for name in (name for chart in drawn for name, _ in chart.parts):
        values = run.rates if _is_computed(run, name) else run.train.column(name)
        if not all(map(math.isnan, values)):
            parts = [values[part] for part in buckets]
            raw[name] = [value for part in parts for value in _ends(part)]
            mean[name] = [_mean(part) for part in parts]
    found: dict[str, Any] = {"x": x, "raw": raw, "ex": run.evals.steps.tolist(), "evals": _evaluations(run, drawn)}
    return found | ({"mx": [steps[part][-1] for part in buckets], "mean": mean} if size > 1 else {})


def _evaluations(run: Reported, drawn: Sequence[Chart]) -> dict[str, list[float | None]]:
    names = [name for chart in drawn for name, _ in chart.parts]
    found = {name: list(map(_rounded, run.evals.column(f"eval_{name}"))) for name in names}
    return {name: values for name, values in found.items() if any(value is not None for value in values)}


def _names(run: Reported) -> Iterator[str]:
    """The logged metrics to draw: those that vary, and those that a chart names."""
    known = {part for chart in CHARTS for part, _ in chart.parts}
    for name, column in run.train.columns.items():
        first = next((value for value in column if not math.isnan(value)), None)
        if first is None or name.startswith(_HIDDEN):
            continue
        if name in known or any(value != first and not math.isnan(value) for value in column):
            yield name
    if _is_computed(run, _RATE) and not all(map(math.isnan, run.rates)):
        yield _RATE


def _is_computed(run: Reported, name: str) -> bool:
    return name == _RATE and _RATE not in run.train.columns


def _ends(values: array[float]) -> list[float | None]:
    """The lowest and the highest value in the order in which they came: one value for a bucket of one line, else two."""
    if len(values) == 1:
        return [_rounded(values[0])]
    low, high = min(values), max(values)
    if math.isnan(sum(values)):
        known = [value for value in values if not math.isnan(value)]
        low, high = (min(known), max(known)) if known else (math.nan, math.nan)
    is_falling = not math.isnan(low) and values.index(low) > values.index(high)
    return [_rounded(value) for value in ((high, low) if is_falling else (low, high))]


def _mean(values: array[float]) -> float | None:
    total = sum(values)
    if math.isnan(total):
        known = [value for value in values if not math.isnan(value)]
        return _rounded(sum(known) / len(known)) if known else None
    return _rounded(total / len(values))


def _rounded(value: float) -> float | None:
    """Five digits, more than a screen shows; None for NaN."""
    return None if math.isnan(value) else float(f"{value:.5g}")


def findings(runs: Sequence[Reported], drawn: Sequence[Chart]) -> list[dict[str, Any]]:
    """Every finding of the runs' health, numbered over all of them, with its run and the chart that it is marked on."""
    every = [(place, found) for place, run in enumerate(runs) for found in run.health or ()]
    return [_finding(number, place, found, drawn) for number, (place, found) in enumerate(every, 1)]


def _finding(number: int, place: int, found: Mapping[str, Any], drawn: Sequence[Chart]) -> dict[str, Any]:
    told = {name: str(found.get(name) or "") for name in ("rule", "action", "sentence", "suggestion")}
    steps = {name: found.get(f"{name}_step") or None for name in ("first", "last")}  # 0: the data show it
    return {"number": number, "run": place, **told, **steps, "chart": chart_of(told["rule"], drawn)}
