"""How a training looks in Python: a bar in a notebook or on a terminal, short lines elsewhere, or nothing."""

from __future__ import annotations

import sys
from typing import Any, Final

from launcher.errors import UsageError
from launcher.runs.follow import Metric, Reader, figures, is_shown, short

from .notebook import NotebookBar, import_tqdm, is_notebook

CHOICES: Final = ("auto", "bar", "print", "none")


def screen(progress: str, pairs_a_step: int) -> Silent | Lines | Bar:
    """The output for ``progress``: auto, bar, print or none; raises UsageError for anything else.

    ``pairs_a_step``: pairs of a step over all ranks, from which the speed is computed.
    """
    if progress not in CHOICES:
        raise UsageError(f"progress must be one of {', '.join(CHOICES)}; found {progress!r}")
    if is_notebook():
        import_tqdm()
    if progress == "none":
        return Silent()
    if progress == "bar" or (progress == "auto" and (is_notebook() or sys.stderr.isatty())):
        return Bar(pairs_a_step)
    return Lines(pairs_a_step)


class Silent:
    """Prints nothing."""

    def close(self) -> None:
        pass

    def line(self, text: str) -> None:
        pass

    def event(self, line: str) -> None:
        pass


class Lines:
    """Prints about 25 short lines of a training, and every evaluation."""

    def __init__(self, pairs_a_step: int):
        self._reader = Reader(pairs_a_step)
        self._shown: Metric | None = None  # the last line of the training

    def close(self) -> None:
        pass

    def line(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201 - asked for by the caller

    def event(self, line: str) -> None:
        for metric in self._reader.feed(f"{line}\n"):
            if isinstance(metric, Metric) and is_shown(metric, self._shown):
                self.line(short(metric))
                self._shown = metric if metric.kind == "train" else self._shown


class Bar:
    """A progress bar over the steps with the newest figures. Other lines are printed above it; in a notebook, below it."""

    def __init__(self, pairs_a_step: int):
        self._reader = Reader(pairs_a_step)
        self._bar: Any = None

    def line(self, text: str) -> None:
        if self._bar is None:
            print(text, flush=True)  # noqa: T201 - asked for by the caller
        else:
            self._bar.write(text)

    def event(self, line: str) -> None:
        for metric in self._reader.feed(f"{line}\n"):
            if isinstance(metric, Metric):
                self._draw(metric)

    def _draw(self, metric: Metric) -> None:
        if metric.kind == "train":
            if self._bar is None:
                self._bar = _bar(metric.total, metric.step - 1)
            self._bar.set_postfix_str(figures(metric, live=True), refresh=False)
            self._bar.update(metric.step - self._bar.n)
            return
        if metric.kind == "summary":
            self.close()
        self.line(short(metric))

    def close(self) -> None:
        """Leaves the bar as it is, where a training failed; the error is printed below it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _bar(total: int | None, done: int) -> Any:
    if is_notebook():
        return NotebookBar(total, done)
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc="training", unit="step", dynamic_ncols=True)
