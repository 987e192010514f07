"""First data: the settings about data of a first experiment, from a file that a person has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import DataError, Mistake, UsageError, Warned, nearest
from ..experiment.schema import Experiment
from ..experiment.sections.data_file import SUFFIXES, split_sheet
from ..runs.run_dir import expanded
from .checks.near import squeezed
from .columns.proposed import Proposal, proposed
from .pairs import Pairs, read_pairs
from .tables.csv_table import csv_table
from .tables.formats import read_table
from .tables.reading import Reading
from .tables.rows import PROMPT_FILENAME
from .tables.table import Table
from .text.template import names_of, parsed

_TRAINING: Final = ("training_data", "training", "train")  # stems of files whose folder has the telling name
_VALIDATION: Final = ("validation_data", "validation", "valid", "val", "eval", "dev")
_LISTED: Final = 6  # files of a folder


@dataclass(frozen=True)
class FirstData:
    """``settings``: of the experiment; ``stem``: a name for it; ``said``: what was taken for what, in sentences."""

    settings: Mapping[str, Any]
    stem: str
    said: tuple[str, ...]


def first_data(name: str, root: Path = Path()) -> FirstData:
    """The settings that read the file ``name``, a path that may end with ``#Worksheet``, or the only file of a folder.

    Raises UsageError for a place that is no file, and DataError for a file that cannot be read or whose columns are not known.
    """
    name = _file(name, root)
    file, sheet = split_sheet(name)
    path, mistakes = root / expanded(file), list[Mistake]()
    table = read_table(name, path, mistakes)
    if table is None or mistakes:
        raise DataError(mistakes)
    proposal = proposed(table)
    if proposal.missing is not None:
        raise DataError(_unknown(table, proposal))
    mapping = dict(proposal.mapping)
    folder = Path(file).parent
    if (root / expanded(str(folder)) / PROMPT_FILENAME).is_file():
        mapping |= _inputs(root / expanded(str(folder)) / PROMPT_FILENAME, mapping, table)
    settings: dict[str, Any] = {"method": "sft"} if proposal.is_sft else {}
    settings |= {"datasets_path": str(folder), "train_filename": Path(file).name + ("" if sheet is None else f"#{sheet}")}
    pairs, wrong = _read({**settings, "dpo_column_mapping_config": mapping}, root)
    beside = next((one for one in _VALIDATION if path.stem != one and path.with_name(one + path.suffix).is_file()), None)
    if beside is not None:
        settings["validation_filename"] = beside + path.suffix
    elif pairs is not None and _has_two_prompts(pairs):
        settings["validation_split"] = 0.1
    settings["dpo_column_mapping_config"] = mapping
    said = (*_sentences(name, table, proposal, settings), *map(Warned, wrong))
    return FirstData(settings, folder.name if path.stem in _TRAINING and folder.name else path.stem, said)


def _file(name: str, root: Path) -> str:
    if "://" in name:
        hint = "write it into datasets_path of a file that `launcher init` has written"
        raise UsageError(f"--data reads a local file, not {name}; {hint}")
    path = root / expanded(split_sheet(name)[0])
    if path.is_file():
        return name
    if not path.is_dir():
        others = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        how = nearest(path.name, others) or "name the file of your data, such as data/pairs.csv"
        raise UsageError(f"no file {name}; {how}")
    files = sorted(one.name for one in path.iterdir() if one.suffix.lower() in SUFFIXES and one.name != PROMPT_FILENAME)
    telling = [one for one in files if Path(one).stem in _TRAINING] or files
    if len(telling) != 1:
        listed = ", ".join(files[:_LISTED]) + (" …" if len(files) > _LISTED else "")
        there = f"it has {listed}" if files else "it has no file of data"
        raise UsageError(f"{name} is a folder; name the file of your data ({there})")
    return str(Path(name, telling[0]))


def _unknown(table: Table, proposal: Proposal) -> Mistake:
    hint = proposal.instead or f"run launcher init without --data, and name the columns in the file: {proposal.text}"
    return Mistake(table.name, f"cannot tell {proposal.missing}", found=f"columns {', '.join(table.columns)}", hint=hint)


def _inputs(file: Path, mapping: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """``input_columns`` for the placeholders of the prompt table that lies beside the data."""
    prompts = csv_table(str(file), file.read_bytes(), [])
    default = Experiment.model_fields["prompt_name"].default
    row = next((row for row in prompts.rows if row.cells.get("name") == default), None) if prompts is not None else None
    names = names_of(parsed(row.cells.get("user", ""))[0]) if row is not None else []
    own = next(iter(mapping.get("input_columns", {}).values()), None)
    if len(names) == 1 and own is not None and names[0] not in table.columns:
        return {"input_columns": {names[0]: own}}
    return {"input_columns": {name: name for name in names}} if names and set(names) <= set(table.columns) else {}


def _read(settings: Mapping[str, Any], root: Path) -> tuple[Pairs | None, tuple[str, ...]]:
    """The pairs as the settings read them, or what is wrong with them."""
    experiment = Experiment.parse({**settings, "model_name": "m"})
    try:
        return read_pairs(experiment, Reading(root)), ()
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
    elif "validation_filename" in settings:
        yield f"Validation pairs: {settings['validation_filename']}, which lies beside it."
