"""``launcher data``: statistics of an experiment's pairs, in tokens if the trainer is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..data.survey import Bias, Bins, Lengths, Survey, survey
from ..errors import DataError, LauncherError, UnreachableError, Warned
from ..experiment.files import read_env
from ..hub import is_offline
from .ask_trainer import check_installed
from .token_check import check_tokens

if TYPE_CHECKING:
    from ..data.checked import Checked, CheckedData
    from ..data.text.pair import Pair

_SETTING: Final = "model_name: "


@dataclass(frozen=True)
class Surveyed:
    """``survey``: None if the data cannot be read. ``missing``: why there are no tokens. ``pair``: the example to show."""

    checked: Checked
    survey: Survey | None
    pair: Pair | None
    missing: str | None

    @property
    def one(self) -> CheckedData | None:
        return self.checked.experiments[0] if self.checked.experiments else None

    def json(self) -> dict[str, Any]:
        found = self.one
        tokens = found.tokens if found is not None else None
        return {
            **(found.json() if found is not None else {}),
            "mistakes": self.checked.json()["mistakes"],
            "found": [asdict(one) for one in (found.pairs.found if found is not None and found.pairs is not None else ())],
            "survey": None if self.survey is None else self.survey.json(),
            "shown": tokens.shown if tokens is not None else None,
        }

    def page(self) -> dict[str, Any]:
        """Input of ``report.data_page``: ``json`` plus the mistakes in the data and example pairs."""
        one = self.one
        tokens = one.tokens if one is not None else None
        examples = (
            []
            if tokens is None
            else [*([{**tokens.shown, "why": ""}] if tokens.shown and not tokens.examples else []), *tokens.examples]
        )
        return {
            **self.json(),
            "topic": one.loaded.experiment.topic if one is not None else None,
            "model": one.loaded.experiment.model_name if one is not None else None,
            "limit": one.loaded.experiment.hyperparameters.max_seq_length if one is not None else None,
            "errors": [asdict(mistake) for error in self.checked.errors for mistake in getattr(error, "mistakes", ())],
            "notices": [
                {"is_warning": isinstance(text, Warned), "text": text} for text in (one.notices if one is not None else ())
            ],
            "missing": self.missing,
            "examples": examples,
            "pair": None if self.pair is None or examples else asdict(self.pair),
        }


def surveyed(
    name: str | None, *, file: Path | None, overrides: Sequence[str], row: int | None, say: Callable[[str], None]
) -> Surveyed:
    """Reads and counts the data of the experiment ``name``. ``row``: of the example pair, None for the first.

    Mistakes in file and data are part of the result. Raises UsageError for an override without ``=``.
    """
    from ..data import checked

    found = checked.check(name, file=file, overrides=overrides, say=say)
    one = found.experiments[0] if len(found.experiments) == 1 else None
    if one is None or one.pairs is None or not one.pairs.train:
        return Surveyed(found, None, None, None)
    pair = next((pair for pair in one.pairs.train if row in (None, pair.line)), None)
    counted = survey(one.pairs)
    try:
        check_installed("a count of tokens")
    except LauncherError as error:
        return Surveyed(found, counted, pair, str(error))
    counted_in_text, found = found, check_tokens(found, row=0 if row is None else row, say=say)
    tokens, failed = found.experiments[0].tokens, found.experiments[0].error
    away = _away(failed)
    if row is None and away is not None:  # nothing is wrong with the experiment or its data
        return Surveyed(counted_in_text, counted, pair, f"{away}; what max_seq_length cuts is not counted")
    if tokens is None or tokens.lengths is None:
        is_data = isinstance(failed, DataError)
        return Surveyed(found, counted, pair, "the tokens have mistakes" if is_data else "the tokenizer cannot be loaded")
    parts = {name: Lengths("tokens", **_with_bins(tokens.lengths["parts"][name])) for name in counted.lengths}
    bias = None if counted.bias is None else Bias("tokens", **_with_bins(tokens.lengths["bias"]))
    return Surveyed(found, replace(counted, lengths=parts, bias=bias), pair, None)


def _away(error: LauncherError | None) -> str | None:
    """Why the tokenizer is missing, where the hub does not answer or is not asked, and the cache lacks it; else None."""
    if isinstance(error, UnreachableError):
        return str(error).splitlines()[0]
    for one in getattr(error, "mistakes", ()) if is_offline(read_env(Path())) else ():
        if one.what.startswith(f"{_SETTING}cannot load the tokenizer"):
            return f"{one.what.removeprefix(_SETTING)} (HF_HUB_OFFLINE is set)"
    return None


def _with_bins(found: Mapping[str, Any]) -> dict[str, Any]:
    return {**found, "bins": Bins(**{**found["bins"], "counts": tuple(found["bins"]["counts"])})}
