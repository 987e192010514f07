"""A training in a notebook: its bar, and the notebook of the documentation."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.notebook import is_notebook
from trainer.screen import Bar, screen

from .test_screen import shown


class ZMQInteractiveShell:
    """The shell of a kernel, as ``get_ipython`` returns it there."""


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[Any]]]:
    """What a notebook's front end gets: for each output of the cell its states, as (text, HTML)."""
    displays: list[list[Any]] = []

    class Handle:
        def __init__(self, states: list[Any]):
            self._states = states

        def update(self, shown: Any) -> None:
            self._states.append((repr(shown), shown._repr_html_()))

    def display(shown: Any, display_id: bool) -> Handle:
        assert display_id, "an output that can be replaced"
        displays.append([])
        handle = Handle(displays[-1])
        handle.update(shown)
        return handle

    monkeypatch.setattr(builtins, "get_ipython", lambda: ZMQInteractiveShell(), raising=False)
    monkeypatch.setattr("IPython.display.display", display)
    return displays


def test_a_bar_in_a_notebook_is_one_output_that_is_replaced(
    outputs: list[list[Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.notebook._EVERY", 0.0)
    bar = screen("auto", 8)
    assert isinstance(bar, Bar)
    shown(bar)
    out, err = capsys.readouterr()
    assert err == "", "a notebook shows stderr as an error"
    assert out.splitlines() == ["420 pairs", "step 100/100  eval  loss 0.4000", "trained 100/100 steps  100.0 s"]
    (states,) = outputs
    assert len(states) > 100
    text, drawn = states[-1]
    assert '<progress value="100" max="100"' in drawn
    assert "step 100/100 · 00:00 · loss 0.5000  margin +1.000  accuracy 0.75" in drawn
    assert text.startswith("training: 100%|")
    assert "| 100/100 [00:00<00:00" in text, "where a front end draws no HTML"
    middle = states[50][1]
    assert re.search(r'value="50" max="100".* step 50/100 · 00:00, 00:00 left', middle)


def test_the_shell_of_a_hosted_notebook_that_is_derived_from_a_kernels_shell_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shell(ZMQInteractiveShell):  # as google.colab names its own
        pass

    class TerminalInteractiveShell:
        pass

    for shell, expected in ((Shell(), True), (TerminalInteractiveShell(), False)):
        monkeypatch.setattr(builtins, "get_ipython", lambda shell=shell: shell, raising=False)
        assert is_notebook() is expected


def test_a_bar_is_drawn_five_times_a_second_at_most(outputs: list[list[Any]]) -> None:
    shown(screen("bar", 8))
    (states,) = outputs
    assert len(states) < 10
    assert 'value="100"' in states[-1][1], "and at the end"


def test_the_outputs_in_the_repository_are_of_the_code_in_the_repository() -> None:
    from docs.generate.notebook import digest, read

    assert read().metadata["outputs_of"] == digest(read()), "write them again: make notebook"


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_the_repository_shows(tiny_model: Path) -> None:
    from docs.generate.notebook import executed, read

    fresh, kept = executed(tiny_model), read()
    every = [one for cell in fresh.cells for one in cell.get("outputs", ())]
    assert [one.text for one in every if one.get("name") == "stderr"] == [], "tqdm warns where ipywidgets is missing"
    assert [kinds(cell) for cell in fresh.cells] == [kinds(cell) for cell in kept.cells], "write them again: make notebook"
    for new, old in zip(results(fresh), results(kept), strict=True):
        assert labels(new) == labels(old), "write them again: make notebook"
    (summary,) = [one for one in results(fresh) if "dpo-summary" in one]
    assert "done, 20 of 20 steps" in summary
    (said,) = [one.text for one in every if "before:" in one.get("text", "")]
    assert said.count("  before: ") == said.count("  after:  ") == 3


def kinds(cell: Any) -> list[Any]:
    """Of each output its kind and its forms, without the lines that depend on the speed of the machine."""
    return [(one.output_type, sorted(one.get("data", ())), one.get("name")) for one in cell.get("outputs", ())]


def results(notebook: Any) -> list[str]:
    found = [one for cell in notebook.cells for one in cell.get("outputs", ()) if one.output_type == "execute_result"]
    return [one.data.get("text/html", "") for one in found]


def labels(part: str) -> list[str]:
    """The names of rows, columns and settings; numbers and texts differ with the model."""
    return re.findall(r"<th[^>]*>([^<]*)</th>|<span><span class=\"dpo-note\">(.*?)</span>", part)
