"""Known: what `launcher ps` and `launcher status` show of one run, wherever it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from ..errors import Warned
from ..health import Finding
from .follow import Metric, Reader
from .learned.quality import Quality
from .status import is_over

_PAUSE: Final = 5  # seconds below which a pause is not worth a word


@dataclass(frozen=True)
class Known:
    """The state and progress of one run; times are UTC in ISO form.

    ``rate`` is pairs a second, ``left`` the number of seconds to the last step at that rate. ``namespace`` is a cluster's.
    ``trained_seconds`` is the sum over the run's attempts, ``paused_seconds`` the time between them; None if no record says.
    ``health``: what the health rules have found; None if no record says.
    ``method`` is None if no record says; ``starts_from``: the adapter that the training began with, None without one;
    ``validation_loss``: of the saved weights, else of the last evaluation.
    ``user``: who started it; ``gpu_hours``: its GPUs times the time of all attempts; None if that is unknown.
    ``copies``: the record's ``mirror``, of a run with ``checkpoint_to``.
    ``accuracy`` and ``margin`` are of the pairs ``figures``: ``validation`` where such pairs were evaluated, else ``training``.
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
    trained_seconds: float | None = None
    paused_seconds: float | None = None
    accuracy: float | None = None
    margin: float | None = None
    figures: str | None = None
    health: tuple[Finding, ...] | None = None
    method: str | None = None
    starts_from: str | None = None
    validation_loss: float | None = None
    user: str | None = None
    gpu_hours: float | None = None
    copies: Mapping[str, Any] | None = None

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
        """The time that it trained and paused: ``3 min 10 s, paused 2 h 0 min``. Without a record: from its start to its end."""
        if self.trained_seconds is not None:
            paused = self.paused_seconds or 0
            return duration(self.trained_seconds) + (f", paused {duration(paused)}" if paused >= _PAUSE else "")
        if not self.created or (self.ended is None and self.is_over):
            return "-"
        end = datetime.fromisoformat(self.ended) if self.ended else datetime.now(UTC)
        return duration((end - datetime.fromisoformat(self.created)).total_seconds())


def copied(now: Known) -> str | None:
    """The newest checkpoint in ``checkpoint_to``, and how far the run is ahead of it; None without ``checkpoint_to``.

    A warning if an upload has failed since.
    """
    if now.copies is None:
        return None
    to, step, failed = now.copies.get("to"), now.copies.get("step"), now.copies.get("failed")
    ahead = 0 if step is None or now.step is None else now.step - step
    text = f"no checkpoint in {to} yet" if step is None else f"checkpoint-{step} in {to}"
    text += f", {ahead} steps old" if ahead > 0 else ""
    return text if failed is None else Warned(f"{text}: {failed}")


def time_spent(attempts: Iterable[Mapping[str, Any]], until: datetime | None) -> dict[str, Any]:
    """The time that ``attempts`` trained and paused, as the fields of Known; ``until``: when an attempt without an end ended."""
    spans = [span for attempt in attempts if (span := _span(attempt, until)) is not None]
    if not spans:
        return {"trained_seconds": None, "paused_seconds": None}
    trained = sum((end - start).total_seconds() for start, end in spans)
    paused = sum(max(0.0, (start - end).total_seconds()) for (_, end), (start, _) in pairwise(spans))
    return {"trained_seconds": trained, "paused_seconds": paused}


def _span(attempt: Mapping[str, Any], until: datetime | None) -> tuple[datetime, datetime] | None:
    if not attempt.get("started"):
        return None
    start = datetime.fromisoformat(attempt["started"])
    end = datetime.fromisoformat(attempt["ended"]) if attempt.get("ended") else until
    return None if end is None else (start, max(start, end))


def judged(quality: Quality) -> dict[str, Any]:
    """``quality`` as the fields of Known."""
    return {"accuracy": quality.accuracy, "margin": quality.margin, "figures": quality.pairs}


def trained_how(record: Mapping[str, Any], evaluated: Metric | None) -> dict[str, Any]:
    """The method, the adapter that the training began with, and the validation loss, as the fields of Known."""
    experiment = record.get("experiment") or {}
    adapter = experiment.get("adapter")
    saved = ((record.get("result") or {}).get("after") or {}).get("eval_loss")
    loss = saved if isinstance(saved, int | float) else None if evaluated is None else evaluated.number("loss")
    return {
        "method": experiment.get("method"),
        "starts_from": None if adapter is None else f"{adapter} ({experiment.get('adapter_mode')})",
        "validation_loss": loss,
        "copies": record.get("mirror"),
    }


def progress(last: Metric | None, pairs_a_step: int | None, *, is_over: bool) -> dict[str, Any]:
    """Step, loss, speed and time left, as the fields of Known."""
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
    """The last training line among ``lines``, with the newest known speed; without one the last metric of any kind."""
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
