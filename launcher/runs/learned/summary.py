"""What a finished run has learned, and sensible next commands, from its record. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ...errors import Warned
from ...experiment.other_tools.method import SFT
from ...health.finding import read_findings
from .figures import Figures
from .samples import Sample
from .suspects import FILE as SUSPECTS

_RATE: Final = "hyperparameters.learning_rate"
_TOO_FAST: Final = {
    "not_finite", "loss_spikes", "gradient_spikes", "chosen_falling", "reward_scale", "overfitting", "degenerate_answers",
}  # fmt: skip
_WRONG_LABELS: Final = {"flipped_labels", "swapped_columns"}


@dataclass(frozen=True)
class Learned:
    """``before`` and ``after`` are the figures on the validation pairs, by their names in the log; None without such pairs.
    ``training``: those of the first and the last steps. ``displaced``: a sentence where chosen answers became less likely.

    ``adapter`` is its folder, ``tensors`` how many were read back and compared, None if no record says so. ``python`` are
    lines that load it, ``next`` what a person types after `launcher`. ``evaluated``: figures with intervals, and how many
    training pairs look mislabelled; None for an older run. ``samples``: answers before and after.
    ``report``: the run's page, where its folder is on this machine and has one.
    """

    adapter: str
    before: Mapping[str, float] | None = None
    after: Mapping[str, float] | None = None
    training: Mapping[str, Any] | None = None
    displaced: str | None = None
    tensors: int | None = None
    uploaded: str | None = None
    python: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    evaluated: Mapping[str, Any] | None = None
    samples: tuple[Sample, ...] = ()
    report: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any], place: str, folder: str, steps: tuple[str, ...]) -> Learned:
        """``place`` is the run's folder, ``folder`` where its adapter is loaded from here, once ``steps`` were typed."""
        result = record.get("result") or {}
        figures = Figures.of(result)
        return cls(
            adapter=f"{place}/adapter",
            before=result.get("before"),
            after=result.get("after"),
            training=result.get("training"),
            displaced=None if figures is None else figures.displaced,
            tensors=(result.get("verified") or {}).get("tensors"),
            uploaded=(record.get("uploaded") or {}).get("uri"),
            python=loading(record, folder),
            next=steps,
            evaluated=result.get("learned"),
        )

    @property
    def figures(self) -> Figures | None:
        parts = {"before": self.before, "after": self.after, "training": self.training}
        return Figures.of({**parts, "learned": self.evaluated})

    @property
    def suspected(self) -> str | None:
        """A sentence if training pairs look mislabelled."""
        found = self.evaluated or {}
        if not found.get("suspects"):
            return None
        place = f"{self.adapter.removesuffix('adapter')}evaluation/{SUSPECTS}"
        return Warned(f"{found['suspects']:,} of {found['looked_at']:,} training pairs look mislabelled: see {place}")

    @property
    def unsuspected(self) -> str | None:
        """A sentence if training pairs were checked and none looks mislabelled."""
        found = self.evaluated or {}
        if found.get("suspects") or not found.get("looked_at"):
            return None
        return f"none of {found['looked_at']:,} training pairs looks mislabelled"

    def json(self) -> dict[str, Any]:
        return asdict(self)


def loading(record: Mapping[str, Any], folder: str) -> tuple[str, ...]:
    """Two lines of Python that load what was trained."""
    is_whole = _hyperparameters(record).get("full_finetuning")
    library, name = ("transformers", "AutoModelForCausalLM") if is_whole else ("peft", "AutoPeftModelForCausalLM")
    return (f"from {library} import {name}", f'model = {name}.from_pretrained("{folder}")')


def may_be_uploaded(record: Mapping[str, Any]) -> bool:
    """Whether the experiment names a bucket but nothing was uploaded."""
    storage = (record.get("experiment") or {}).get("storage_config") or {}
    return bool(storage.get("bucket_name")) and not record.get("uploaded")


def preferences(record: Mapping[str, Any], run: str, command: str) -> list[str]:
    """``command`` for an experiment of DPO that starts from the adapter of ``run``; nothing if the method is not SFT.

    It is the run's own experiment where ``--set`` made the method SFT; else the file says SFT, and the reader knows another.
    """
    if record.get("method") != SFT or _hyperparameters(record).get("full_finetuning"):
        return []
    given = list(record.get("set") or ())
    if not record.get("key") or not record.get("origin") or f"method={SFT}" not in given:
        return [f"{command} EXP --set adapter={run}"]
    given.remove(f"method={SFT}")
    return [_with(record, command, [*given, f"adapter={run}"])]


def another_rate(record: Mapping[str, Any], command: str) -> list[str]:
    """``command`` for the run's experiment with half its learning rate or with twice: what its findings say, not the opposite.

    What the run's own ``--set`` changed is changed there, too. Nothing for a run that no experiment file describes, or whose
    labels are wrong.
    """
    rate = _hyperparameters(record).get("learning_rate")
    if not record.get("key") or not record.get("origin") or not isinstance(rate, int | float):
        return []
    rules = {finding.rule for finding in read_findings(record) or ()}
    if rules & _WRONG_LABELS:
        return []
    is_lower = bool(rules & _TOO_FAST) or _is_worse(record.get("result") or {})
    given = [one for one in record.get("set") or () if not one.startswith(f"{_RATE}=")]
    return [_with(record, command, [*given, f"{_RATE}={rate * (0.5 if is_lower else 2):.3g}"])]


def _is_worse(result: Mapping[str, Any]) -> bool:
    """Whether the validation loss has risen, or the chosen answers became less likely."""
    before, after = ((result.get(name) or {}).get("eval_loss") for name in ("before", "after"))
    has_risen = isinstance(before, int | float) and isinstance(after, int | float) and after > before
    figures = Figures.of(result)
    return has_risen or (figures is not None and figures.displaced is not None)


def _with(record: Mapping[str, Any], command: str, changes: Iterable[str]) -> str:
    """``command`` for the experiment of ``record`` with these ``--set``."""
    file = "" if Path(record["origin"]).parent == Path("configs") else f" -f {record['origin']}"
    return " ".join([f"{command} {record['key']}{file}", *(f"--set {shlex.quote(one)}" for one in changes)])


def _hyperparameters(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return (record.get("experiment") or {}).get("hyperparameters") or {}


def without(name: str, record: Mapping[str, Any], what: str) -> str:
    """Says that the run ``name`` has no ``what``, with the next command, which depends on whether its ``record`` has an end."""
    state = (record.get("outcome") or {}).get("state")
    if state is None:
        return f"{name} has no {what} yet. Follow it with: launcher logs -f {name}"
    return f"{name} has no {what} (state: {state}). See the reason with: launcher why {name}"
