"""The bar of a training in a notebook: HTML that needs no ipywidgets, and a line of text where a front end draws no HTML."""

from __future__ import annotations

import html
import time
import warnings
from contextlib import suppress
from typing import Any, Final

_EVERY: Final = 0.2  # seconds between two drawings


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook, also a hosted one, whose shell is a class derived from Jupyter's."""
    with suppress(NameError):
        shell = type(get_ipython())  # type: ignore[name-defined] # noqa: F821
        return any(one.__name__ == "ZMQInteractiveShell" for one in shell.__mro__)
    return False


def import_tqdm() -> None:
    """Imports tqdm's choice of a bar before a library does: without ipywidgets it warns in a notebook. No bar of it is drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tqdm.auto  # noqa: F401


class NotebookBar:
    """``n`` of ``total`` steps, drawn in one output of the cell, which is replaced. Its methods are those of tqdm that
    ``screen.Bar`` calls; tqdm's own bar for notebooks, and rich's, need ipywidgets.
    """

    def __init__(self, total: int | None, initial: int):
        self.total, self.n = total, initial
        self._initial, self._began = initial, time.monotonic()
        self._figures = ""
        self._display: Any = None  # IPython's handle of the output
        self._drawn = 0.0
        self._draw()

    def set_postfix_str(self, figures: str, refresh: bool = True) -> None:
        self._figures = figures

    def update(self, steps: int) -> None:
        self.n += steps
        if time.monotonic() - self._drawn >= _EVERY or self.n == self.total:
            self._draw()

    def write(self, line: str) -> None:
        """Prints ``line``, below the bar."""
        print(line, flush=True)  # noqa: T201 - asked for by the caller

    def close(self) -> None:
        self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        if self._display is None:
            self._display = display(self, display_id=True)
        else:
            self._display.update(self)
        self._drawn = time.monotonic()

    def __repr__(self) -> str:
        from tqdm import tqdm

        return str(
            tqdm.format_meter(
                self.n, self.total, self._seconds, prefix="training", unit="step", postfix=self._figures, initial=self._initial
            )
        )

    def _repr_html_(self) -> str:
        value = "" if self.total is None else f'value="{self.n}" max="{self.total}" '
        return (
            f'<div><progress {value}aria-label="training" style="width: min(20rem, 100%); vertical-align: middle"></progress> '
            f"{html.escape(self._text)}</div>"
        )

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def _text(self) -> str:
        from tqdm import tqdm

        done = f"step {self.n}" if self.total is None else f"step {self.n}/{self.total}"
        took = tqdm.format_interval(self._seconds)
        made = self.n - self._initial
        if made and self.total is not None and self.n < self.total:
            took += f", {tqdm.format_interval(self._seconds / made * (self.total - self.n))} left"
        return " · ".join(filter(None, (done, took, self._figures)))
