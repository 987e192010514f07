"""A run's summary as HTML for a notebook cell. No script, no network; texts are escaped.

Colours come from the surrounding page (``currentColor`` and half-transparent greys), because notebooks, editors and sites each
have their own switch between light and dark.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ..experiment.other_tools.method import SFT
from ..runs.known import duration, pairs_a_step
from ..runs.learned.figures import Figures
from ..runs.learned.samples import last
from ..runs.learned.summary import Learned
from . import repeat
from .curves import findings
from .page import environment, whole
from .reported import Reported
from .settings import shown

_SAMPLES: Final = 2
_POINTS: Final = 120  # of a curve: more than its width shows
_WIDTH, _HEIGHT, _EDGE = 240, 64, 3  # of a curve, in the units of its viewBox
_CURVES: Final = (
    ("loss", "Loss", "z.4f"),
    ("rewards/accuracies", "Accuracy", ".2f"),
    ("rewards/margins", "Margin", "+z.3f"),
    ("mean_token_accuracy", "Token accuracy", ".3f"),
)
_MOST: Final = 3  # curves


def summary(run: Reported, here: Path | None = None) -> str:
    """A ``div`` with settings, figures, curves, health findings and the places of what ``run`` left.

    ``here``: the folder that links are relative to, by default the working directory; the report is linked only below it.
    """
    here = here or Path.cwd()
    found = Learned.of(run.record, str(_from(here, run.run.path)), str(run.run.adapter), ())
    text = (
        environment()
        .get_template("summary.html")
        .render(
            name=run.name,
            state=_state(run),
            settings=_settings(run),
            figures=Figures.of(run.result),
            displaced=found.displaced,
            suspected=found.suspected,
            curves=list(_curves(run)),
            findings=findings([run], []),
            has_health=run.health is not None,
            samples=last(run.samples or ())[:_SAMPLES],
            adapter=_from(here, run.run.adapter),
            report=_from(here, run.run.report) if run.run.report.is_file() else None,
            link=_link(here, run.run.report),
        )
    )
    return whole(text)


def _state(run: Reported) -> str:
    seconds = run.result.get("train_seconds")
    took = "" if seconds is None else f" in {seconds:.1f} s" if seconds < 60 else f" in {duration(seconds)}"
    steps = "" if run.total_steps is None else f", {run.step} of {run.total_steps} steps{took}"
    return f"{run.status.state}{steps}"


def _settings(run: Reported) -> dict[str, str]:
    """The settings that figures depend on most, as one line each."""
    hyper, result, data = run.experiment.get("hyperparameters") or {}, run.result, run.record.get("work") or {}
    batch, epochs = pairs_a_step(run.record), result.get("epoch")
    rows = {role: f"{source.get('rows')} {role}" for role, source in run.sources.items() if role != "prompts"}
    steps = f"{run.total_steps} of {batch} pairs" if run.total_steps and batch else ""
    found = {
        "model": run.record.get("model_name"),
        "starts from": (run.record.get("adapter") or {}).get("name"),
        "method": _method(run, hyper),
        "trained": _trained(hyper),
        "learning rate": ", ".join(shown(hyper[name]) for name in ("learning_rate", "lr_scheduler_type") if name in hyper),
        "steps": steps + (f", {epochs:.3g} epochs" if steps and isinstance(epochs, int | float) else ""),
        "rows": ", ".join(rows.values()) or (f"{data['pairs']} train" if data.get("pairs") else ""),
        "device": repeat.surroundings(run).get("devices"),
    }
    return {name: str(value) for name, value in found.items() if value}


def _method(run: Reported, hyper: dict[str, Any]) -> str:
    if run.record.get("method") == SFT or run.experiment.get("method") == SFT:
        return "SFT"
    return f"DPO, {shown(hyper.get('loss_type'))} loss, beta {shown(hyper.get('beta'))}"


def _trained(hyper: dict[str, Any]) -> str:
    if hyper.get("full_finetuning"):
        return "all weights"
    if "r" not in hyper:
        return ""
    bits = "4-bit " if hyper.get("load_in_4bit") else "8-bit " if hyper.get("load_in_8bit") else ""
    base = f" on {bits}weights" if bits else ""
    return f"LoRA adapter{base}, rank {hyper.get('r')}, alpha {shown(hyper.get('lora_alpha'))}"


def _curves(run: Reported) -> Iterator[dict[str, Any]]:
    """The first figures that the log has, each as the points of an SVG: the training as a line, evaluations as dots."""
    logged = [one for one in _CURVES if sum(not math.isnan(value) for value in run.train.column(one[0])) > 1]
    for name, title, spec in logged[:_MOST]:
        line = _thinned(run.train.steps, run.train.column(name))
        dots = _known(run.evals.steps, run.evals.column(f"eval_{name}"))
        place = _Scale.of([*line, *dots])
        yield {
            "title": title,
            "first": format(line[0][1], spec),
            "last": format(line[-1][1], spec),
            "line": " ".join(f"{x:g},{y:g}" for x, y in map(place, line)),
            "dots": [place(dot) for dot in dots],
        }


class _Scale:
    """The position of a point (step, value) in the viewBox; upwards is smaller."""

    def __init__(self, steps: tuple[float, float], values: tuple[float, float]):
        self._steps, self._values = steps, values

    @classmethod
    def of(cls, points: Sequence[tuple[int, float]]) -> _Scale:
        steps, values = [step for step, _ in points], [value for _, value in points]
        return cls((min(steps), max(steps)), (min(values), max(values)))

    def __call__(self, point: tuple[int, float]) -> tuple[float, float]:
        right, up = (_share(value, *ends) for value, ends in zip(point, (self._steps, self._values), strict=True))
        inside = (_WIDTH - 2 * _EDGE, _HEIGHT - 2 * _EDGE)
        return round(_EDGE + right * inside[0], 1), round(_EDGE + (1 - up) * inside[1], 1)


def _share(value: float, low: float, high: float) -> float:
    return 0.5 if high == low else (value - low) / (high - low)


def _thinned(steps: array[int], values: array[float]) -> list[tuple[int, float]]:
    """Means of as many neighbouring points as keeps the curve at ``_POINTS``, each at its last step."""
    points = _known(steps, values)
    size = math.ceil(len(points) / _POINTS)
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _known(steps: array[int], values: array[float]) -> list[tuple[int, float]]:
    return [(step, value) for step, value in zip(steps, values, strict=True) if not math.isnan(value)]


def _from(here: Path, path: Path) -> Path:
    return path.relative_to(here) if path.is_relative_to(here) else path


def _link(here: Path, file: Path) -> str | None:
    """``file`` as a URL relative to ``here``; None if it lies elsewhere: a notebook's server serves only its folder."""
    return quote(file.relative_to(here).as_posix()) if file.is_relative_to(here) else None
