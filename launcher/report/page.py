"""Runs as one HTML file that needs no network: script, styles and data are embedded. Texts from data are escaped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..runs.learned.figures import Figures
from ..runs.learned.pair_rewards import Group, by_column
from ..runs.learned.samples import last
from ..runs.learned.summary import Learned
from ..runs.run_dir import RunDir
from ..runs.whole import write_whole
from . import repeat
from .comparison import COLUMNS, Comparison, Figure, progress, state
from .curves import charts, curves, findings
from .names import short_names
from .reported import Reported, lengths
from .survey_view import histograms, told

if TYPE_CHECKING:
    from jinja2 import Environment

_WEB: Final = Path(__file__).with_name("web")
_SUSPECTS: Final = 20  # shown of each run
_LOWEST: Final = 5  # the same where no pair stands out
_SAMPLES: Final = 8  # prompts that are shown
_COLUMNS, _VALUES = 3, 12  # columns of the data that group the validation pairs, and values of one
_LEARNED: Final = (
    ("accuracy", "accuracy", ".3f"),
    ("margin", "margin", "+z.3f"),
    ("chosen", "chosen reward", "+z.3f"),
    ("rejected", "rejected reward", "+z.3f"),
)


def render(runs: Sequence[Reported], now: datetime | None = None) -> str:
    """The page of ``runs``, at least one; the first line tables say how they differ."""
    comparison, drawn = Comparison.of(runs), charts(runs)
    found = findings(runs, drawn)
    data = {
        "charts": [chart.json() for chart in drawn],
        "runs": [
            {"name": name, **curves(run, drawn, len(runs))}
            for name, run in zip(short_names([run.name for run in runs]), runs, strict=True)
        ],
        "findings": [{name: one[name] for name in ("number", "run", "first", "last", "chart")} for one in found],
    }
    text = (
        environment()
        .get_template("report.html")
        .render(
            title=", ".join(run.name for run in runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else ""),
            made=(now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
            runs=(shown := [_run(run) for run in runs]),
            data_of=(groups := _alike(shown, ("sources", "work", "lengths", "notices", "survey"))),
            histograms=embedded(_histograms(shown, groups)),
            rows=_rows(comparison),
            notices=list(comparison.notices),
            findings=found,
            has_intervals=any(one.low is not None for figures in comparison.figures.values() for one in figures),
            has_curves=bool(drawn),
            has_more=any(not chart.is_main for chart in drawn),
            samples=_samples(runs),
            data=embedded(data),
        )
    )
    return whole(text)


def index(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page that lists runs; ``rows``: fields of ``runs.known.Known`` with ``progress``, ``took`` and ``found``
    (the worst health finding), newest first."""
    return whole(environment().get_template("index.html").render(rows=rows))


def write(runs: Sequence[Reported], file: Path) -> None:
    """Writes the page of ``runs`` whole or not at all; raises OSError."""
    write_whole(file, render(runs))


def write_own(run: RunDir) -> str | None:
    """Writes ``report.html`` into a run's folder when it ends. Returns a sentence if that fails; the run goes on."""
    try:
        write([Reported.of(run)], run.report)
    except Exception as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        return f"cannot write {run.report}: {reason}; write it with: launcher report {run.name}"
    return None


def _rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows of the first table, with the place of the best run of each figure."""
    best = {column.name: comparison.best(column) for column in COLUMNS}
    return [
        {"label": label, "cells": cells, "best": best.get(label), "is_figure": label in best} for label, *cells in comparison.rows
    ]


def _run(run: Reported) -> dict[str, Any]:
    """What the page shows of one run besides its metrics."""
    work, said = run.record.get("work") or {}, Learned.of(run.record, str(run.run.path), str(run.run.adapter), ())
    count = int(run.learned.get("suspects") or 0)
    return {
        "name": run.name,
        "experiment": run.record.get("key"),
        "topic": run.record.get("topic"),
        "model": run.record.get("model_name"),
        "state": state(run),
        "sentence": run.status.sentence,
        "progress": progress(run),
        "created": run.created[:16].replace("T", " "),
        "health": run.health,
        "learned": _learned(run),
        "displaced": said.displaced,
        "suspected": said.suspected,
        "suspects": None if run.suspects is None else run.suspects[: min(count, _SUSPECTS)],
        "suspects_in_all": count,
        "lowest": (run.suspects or ())[:_LOWEST] if not count else (),
        "sources": list(run.sources.values()),
        "work": {name: f"{value:,}" for name, value in work.items() if isinstance(value, int)},
        "lengths": lengths(run.run.data / "train.jsonl"),
        "notices": run.notices,
        "survey": told(run.survey, "bars"),
        "again": repeat.again(run),
        "commands": repeat.commands(run),
        "file": repeat.file_name(run),
        "experiment_text": repeat.experiment(run),
        "surroundings": repeat.surroundings(run),
        "folder": str(run.run.path),
    }


def _histograms(runs: Sequence[dict[str, Any]], groups: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """The histograms of one run of each group, each in its own place, which is written into its survey."""
    found = []
    for number, places in enumerate(groups):
        survey = runs[places[0]]["survey"]
        if survey is not None:
            survey["place"] = f"bars-{number}"
            found += histograms(survey)
    return found


def _alike(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[int]]:
    """The places of runs in groups for which all of ``names`` are equal, so that equal parts appear once."""
    groups: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        groups.setdefault(json.dumps([run[name] for name in names], default=str), []).append(place)
    return list(groups.values())


def _learned(run: Reported) -> dict[str, Any] | None:
    """The figures before and after the training and of groups of validation pairs; without intervals, those of the log."""
    found = run.learned
    if found.get("after"):
        parts: list[tuple[str, Any, Any]] = [(name, found[name], "all") for name in ("before", "after") if found.get(name)]
        by_length = found.get("by_length") or ()
        parts += [(_tokens(part.get("from"), part.get("to")), part, part.get("pairs")) for part in by_length]
        parts += [(f"{column}: {one.name}", one.json(), one.pairs) for column, one in _groups(run)]
        rows = [
            (label, pairs, *(Figure.of(part.get(name)).text(spec) for name, _, spec in _LEARNED)) for label, part, pairs in parts
        ]
        what = f"On {found.get('pairs')} validation pairs, which were not trained on, with 95 % intervals:"
        return {"what": what, "heads": ["pairs", *(label for _, label, _ in _LEARNED)], "rows": rows}
    figures = Figures.of(run.result)
    if figures is None:
        return None
    return {"what": figures.what[0].upper() + figures.what[1:], "heads": figures.heads, "rows": figures.rows}


def _tokens(begin: object, end: object) -> str:
    return f"{begin} tokens" if begin == end else f"{begin}–{end} tokens"


def _groups(run: Reported) -> Iterator[tuple[str, Group]]:
    """The validation pairs by the first columns of the data that have few values, each for two pairs or more in the mean."""
    pairs = run.pairs or ()
    counts = {column: len({pair.columns[column] for pair in pairs}) for column in (pairs[0].columns if pairs else ())}
    for column in [column for column, count in counts.items() if 1 < count <= min(_VALUES, len(pairs) // 2)][:_COLUMNS]:
        yield from ((column, one) for one in by_column(pairs, column, float(run.learned.get("noise") or 0)))


def _samples(runs: Sequence[Reported]) -> list[dict[str, Any]]:
    """Prompts, each with the answer of the base model and of every run's saved weights; none of a run that did not answer it."""
    answers = [{(one.row, one.prompt): one for one in last(run.samples or ())} for run in runs]
    prompts = list(dict.fromkeys(key for one in answers for key in one))
    found = []
    for key in prompts[:_SAMPLES]:
        those = [(place, one[key]) for place, one in enumerate(answers) if key in one]
        told = [(place, one.adapter) for place, one in those]
        found.append({"prompt": key[1], "row": key[0], "base": those[0][1].base, "answers": told})
    return found


@cache
def environment() -> Environment:
    """Reads the templates of ``web/``; texts are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(_WEB), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.globals["asset"] = lambda name: _asset(name)
    return found


def _asset(name: str) -> Any:
    """One of our files, as embedded in the page."""
    from markupsafe import Markup

    return Markup((_WEB / name).read_text(encoding="utf-8"))  # noqa: S704: no text of a run


def embedded(data: Any) -> Any:
    """JSON inside a script element, where ``</script>`` and ``<!--`` in a text must not end it."""
    from markupsafe import Markup

    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704: escaped above


def whole(text: str) -> str:
    """``text`` without lone surrogates, which a log may hold but no file can."""
    return text.encode("utf-8", "replace").decode("utf-8")
