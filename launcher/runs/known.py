"""How one run is: the value behind ``ps`` and ``status``, wherever the run is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from .follow import Metric, Reader
from .status import is_over


@dataclass(frozen=True)
class Known:
    """How one run is, in the words of ``ps`` and ``status``; times are UTC in ISO form.

    ``rate`` is pairs a second, ``left`` the number of seconds to the last step at that rate. ``namespace`` is a cluster's.
    """

    run: str
    experiment: str
    state: str
    exit_code: int | None
    sentence: str | None
    step: int | None
    total_steps: int | None
    loss: float | None
    created: str
    ended: str | None
    folder: str
    rate: float | None = None
    left: float | None = None
    nodes: int = 1
    namespace: str | None = None

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_over(self) -> bool:
        return is_over(self.state)

    @property
    def progress(self) -> str:
        if self.step is None:
            return "-"
        return str(self.step) if self.total_steps is None else f"{self.step}/{self.total_steps}"

    @property
    def took(self) -> str:
        """From the start to the end, or to now while it runs."""
        if self.ended is None and self.is_over:
            return "-"
        if not self.created:
            return "-"
        end = datetime.fromisoformat(self.ended) if self.ended else datetime.now(UTC)
        return duration((end - datetime.fromisoformat(self.created)).total_seconds())


def progress(last: Metric | None, pairs_a_step: int | None, *, is_over: bool) -> dict[str, Any]:
    """Step, loss, speed and what is left, as the fields of Known."""
    rate = last.rate if last is not None and not is_over else None
    left = None
    if last is not None and rate and last.total and pairs_a_step:
        left = max(0, last.total - last.step) * pairs_a_step / rate
    return {
        "step": last.step if last else None,
        "total_steps": last.total if last else None,
        "loss": last.number("loss") if last else None,
        "rate": rate,
        "left": left,
    }


def newest_metric(lines: Iterable[str], pairs_a_step: int | None = None) -> Metric | None:
    """The same of any lines among which metrics are."""
    reader = Reader(pairs_a_step)
    metrics = [event for line in lines for event in reader.feed(f"{line}\n") if isinstance(event, Metric)]
    train = [metric for metric in metrics if metric.kind == "train"]
    if not train:
        return metrics[-1] if metrics else None
    # After an evaluation a line has no speed of its own: it is that of the line before.
    rate = next((metric.rate for metric in reversed(train) if metric.rate is not None), None)
    return replace(train[-1], rate=rate)


def duration(seconds: float) -> str:
    """``41 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def pairs_a_step(record: Mapping[str, Any]) -> int | None:
    """The global batch, from the experiment in a record."""
    experiment = record.get("experiment") or {}
    said = (experiment.get("launch") or {}).get("global_batch_size")
    h = experiment.get("hyperparameters") or {}
    micro, times = h.get("per_device_train_batch_size"), h.get("gradient_accumulation_steps")
    if said is None and isinstance(micro, int) and isinstance(times, int):
        return micro * times
    return said if isinstance(said, int) else None
