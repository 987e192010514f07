"""First data: the settings about data of a first experiment, from data that a person has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import DataError, Mistake, Warned
from ..experiment.schema import Experiment
from .checks.near import squeezed
from .columns.proposed import Proposal, proposed
from .pairs import Pairs, read_pairs
from .tables.named import named
from .tables.reading import Reading
from .tables.rows import read_readable
from .tables.table import Table
from .text.template import names_of, parsed


@dataclass(frozen=True)
class FirstData:
    """``settings``: of the experiment; ``stem``: a name for it; ``said``: what was taken for what, in sentences."""

    settings: Mapping[str, Any]
    stem: str
    said: tuple[str, ...]


def first_data(name: str, reading: Reading) -> FirstData:
    """The settings that read what ``name`` means, see ``tables.named.named``.

    Raises UsageError for a text that means nothing, and DataError for data that cannot be read or whose columns are not known.
    """
    meant = named(name, reading)
    settings: dict[str, Any] = dict(meant.settings)
    tables, mistakes = read_readable(_experiment({**settings, "validation_filename": None, "validation_sheet": None}), reading)
    if tables is None:
        raise DataError(mistakes)
    table = tables.train
    proposal = proposed(table)
    if proposal.missing is not None:
        raise DataError(_unknown(table, proposal))
    mapping = dict(proposal.mapping)
    if tables.prompts is not None:
        mapping |= _inputs(tables.prompts, mapping, table)
    settings = {**({"method": "sft"} if proposal.is_sft else {}), **settings}
    has_validation = "validation_filename" in settings or "validation_sheet" in settings
    pairs, wrong = _read({**settings, "dpo_column_mapping_config": mapping}, reading)
    if not has_validation and pairs is not None and _has_two_prompts(pairs):
        settings["validation_split"] = 0.1
    settings["dpo_column_mapping_config"] = mapping
    said = (*_sentences(meant.shown, table, proposal, settings), *map(Warned, wrong))
    return FirstData(settings, meant.stem, said)


def _unknown(table: Table, proposal: Proposal) -> Mistake:
    hint = proposal.instead or f"run launcher init without --data, and name the columns in the file: {proposal.text}"
    return Mistake(table.name, f"cannot tell {proposal.missing}", found=f"columns {', '.join(table.columns)}", hint=hint)


def _inputs(prompts: Table, mapping: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """``input_columns`` for the placeholders of the prompt table that lies beside the data."""
    default = Experiment.model_fields["prompt_name"].default
    row = next((row for row in prompts.rows if row.cells.get("name") == default), None)
    names = names_of(parsed(row.cells.get("user", ""))[0]) if row is not None else []
    own = next(iter(mapping.get("input_columns", {}).values()), None)
    if len(names) == 1 and own is not None and names[0] not in table.columns:
        return {"input_columns": {names[0]: own}}
    return {"input_columns": {name: name for name in names}} if names and set(names) <= set(table.columns) else {}


def _experiment(settings: Mapping[str, Any]) -> Experiment:
    return Experiment.parse({**settings, "model_name": "m"})


def _read(settings: Mapping[str, Any], reading: Reading) -> tuple[Pairs | None, tuple[str, ...]]:
    """The pairs as the settings read them, or what is wrong with them."""
    try:
        return read_pairs(_experiment(settings), reading), ()
    except DataError as error:
        count = len(error.mistakes)
        return None, (f"the data have {count} {'mistake' if count == 1 else 'mistakes'}, which launcher check names",)


def _has_two_prompts(pairs: Pairs) -> bool:
    first = squeezed(next(iter(pairs.train)).question)
    return any(squeezed(pair.question) != first for pair in pairs.train)


def _sentences(name: str, table: Table, proposal: Proposal, settings: Mapping[str, Any]) -> Iterator[str]:
    rows = len(table.rows)
    roles = "; ".join(f"{role}: {columns}" for role, columns in proposal.roles.items())
    yield f"Read {name} ({rows} {'row' if rows == 1 else 'rows'}). {roles[0].upper()}{roles[1:]}."
    if proposal.is_sft:
        yield Warned("one answer to each prompt: wrote method: sft; DPO needs a better and a worse answer")
    if "validation_split" in settings:
        yield "A tenth of the pairs is for validation: validation_split: 0.1."
    held_out = settings.get("validation_filename") or settings.get("validation_sheet")
    if held_out is not None:
        yield f"Validation pairs: {held_out}, which lies beside it."
