"""The verb data: shows the training pairs before training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import UsageError, labelled
from .terminal.options import experiment_argument, file_option, json_option, set_option
from .terminal.screen import complain, counted, facts, fail, notices, say, table

if TYPE_CHECKING:
    from ..data.survey import Survey
    from ..data.text.pair import Pair
    from ..launch.survey import Surveyed

_LONG: Final = 1200  # characters shown per part of the example pair


@click.command("data", short_help="Show what an experiment trains on.")
@experiment_argument(required=False)
@file_option
@set_option
@click.option("--tokens", "row", metavar="ROW", type=click.IntRange(min=1), help="Show the pair of this row token by token.")
@click.option(
    "--html",
    "page",
    metavar="[FILE]",
    is_flag=False,
    flag_value="",
    help="Write a page that needs no network (default: data-EXP.html) instead of the screen.",
)
@json_option
def data(
    experiment: str | None, file: Path | None, overrides: tuple[str, ...], row: int | None, page: str | None, as_json: bool
) -> int:
    """Show what an experiment trains on: lengths, repeats, how the answers differ, and one pair as the model sees it.

    Applies all rules of `launcher check`, with its exit codes. Lengths are in tokens where the packages of
    dpo-launcher[trainer] are installed, else in characters. What max_seq_length cuts off is marked.

    --html writes everything as one page: histograms, findings by rule, and pairs split into tokens.
    """
    from ..launch.survey import surveyed
    from .terminal.reading import reading

    with reading() as told:
        found = surveyed(experiment, file=file, overrides=overrides, row=row, say=told)
    if page is not None:
        _write_page(found, page, complain if as_json else say)
    if as_json:
        click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))
    elif page is None and found.survey is not None:
        _show(found, found.survey, by_token=row is not None)
    for error in found.checked.errors:
        for text in error.texts:
            fail(text)
    return found.checked.errors[-1].exit_code if found.checked.errors else 0


def _write_page(found: Surveyed, name: str, tell: Callable[[str], None]) -> None:
    """Writes the page, also for data with mistakes, which it lists. Raises UsageError if the file cannot be written."""
    from ..report.data_page import write

    if found.one is None:
        return  # only the errors of the experiment files are known
    file = Path(name or f"data-{found.one.loaded.key}.html")
    try:
        write(found.page(), file)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {(error.strerror or str(error)).lower()}") from error
    tell(f"Wrote {file}. Open it in a browser.")


def _show(found: Surveyed, survey: Survey, *, by_token: bool) -> None:
    one = found.one
    assert one is not None
    assert one.pairs is not None
    say(f"{one.loaded.key}: {counted(survey.training, 'training pair')}, {counted(survey.validation, 'validation pair')}")
    facts({"data": "\n".join(f"{name}: {counted(rows, 'row')}" for name, rows in one.pairs.rows.items())})
    unit = next(iter(survey.lengths.values())).unit
    say()
    lengths = [(unit, "median", "95 %", "longest", "cut"), *_lengths(survey)]
    table(lengths if unit == "tokens" else [line[:-1] for line in lengths])
    say()
    facts(_facts(survey))
    if found.missing is not None:
        say(labelled(f"lengths are in characters: {found.missing}"), indent=4)
    notices(one.notices)
    tokens = one.tokens
    say()
    if tokens is not None and tokens.shown is not None:
        _show_tokens(tokens.shown, by_token=by_token)
    elif found.pair is not None:
        _show_text(found.pair)


def _lengths(survey: Survey) -> Iterator[tuple[str, ...]]:
    for name, of in survey.lengths.items():
        cut = "" if of.cut is None else f"{of.cut:,} at the end" if of.cut else "0"
        yield name, f"{of.median:,}", f"{of.high:,}", f"{of.longest:,}", cut


def _facts(survey: Survey) -> Mapping[str, str | None]:
    bias, length = survey.bias, None
    if bias is not None:
        unit = bias.unit.removesuffix("s") if abs(bias.median) == 1 else bias.unit
        apart = f"{abs(bias.median):,} {unit} {'longer' if bias.median >= 0 else 'shorter'} (median)"
        length = f"the chosen answer is longer in {bias.share:.0%} of the pairs; it is {apart}"
    same = f"{survey.repeated:,} repeated, {survey.contradicting:,} contradict another one"
    if survey.near_training is not None:
        same += f", {survey.near_training:,} nearly repeat an earlier one{_places(survey, 'training')}"
    near = f"{survey.near:,} nearly repeat a training prompt{_places(survey, 'validation')}"
    leaked = f"{survey.leaked:,} are training pairs, {near}"
    forms = [
        f"{form.name}: {form.chosen:.0%} of the chosen answers, {form.rejected:.0%} of the rejected ones"
        for form in survey.formats
    ]
    return {
        "length": length,
        "pairs": same,
        "validation": leaked if survey.validation else "no pairs",
        "formats": ("\n".join(forms) or "the same in chosen and rejected answers") if bias is not None else None,
    }


def _places(survey: Survey, role: str) -> str:
    """The first rows that are near-duplicates, and of which rows."""
    found = ", ".join(f"row {row} like {other}" for row, other in survey.near_places.get(role, ()))
    return f" ({found})" if found else ""


def _show_tokens(shown: Mapping[str, Any], *, by_token: bool) -> None:
    say(f"row {shown['line']} as the model sees it" + (", token by token" if by_token else ""))
    join = "|" if by_token else ""
    parts = {"prompt": join.join(shown["prompt"])}
    answers = [name for name in ("chosen", "rejected") if shown[name]["kept"] or shown[name]["cut"]]
    for name in answers:
        kept, cut = shown[name]["kept"], shown[name]["cut"]
        parts[name] = join.join(kept) + (f" [cut: {join.join(cut)}]" if cut else "")
    facts({name: _short(text) for name, text in parts.items()})
    counts = [f"prompt {len(shown['prompt'])}", *(f"{name} {len(shown[name]['kept'])}" for name in answers)]
    facts({"tokens": ", ".join(counts)})


def _show_text(pair: Pair) -> None:
    say(f"row {pair.line}, before the chat template")
    parts = {"system": pair.system, "prompt": pair.user, "chosen": pair.chosen, "rejected": pair.rejected}
    facts({name: text and _short(text) for name, text in parts.items()})


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]} … ({len(text) - _LONG:,} more characters)"


VERBS = (data,)
