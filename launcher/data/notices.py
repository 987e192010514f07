"""What is allowed in data, but worth a look: repeated pairs, unused columns, answers of two formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..errors import Warned
from ..experiment.schema import Experiment
from .mapping import Columns
from .pair import Pair
from .prompt import LONE_PLACEHOLDER, PROMPT_COLUMNS, Prompt
from .table import Table, Tables


def content_notices(train: Sequence[Pair], validation: Sequence[Pair]) -> Iterator[str]:
    def content(pair: Pair) -> tuple[str, str, str]:
        return pair.user, pair.chosen, pair.rejected

    counts = Counter(content(pair) for pair in train)
    repeated = len(train) - len(counts)
    if repeated:
        yield f"{repeated} of {len(train)} training pairs repeat an earlier one exactly"
    leaked = sum(content(pair) in counts for pair in validation)
    if leaked:
        yield Warned(
            f"{leaked} of {len(validation)} validation pairs are also training pairs: evaluations look better than they are"
        )
    for role, part in (("training", train), ("validation", validation)):
        spaces = sum(pair.chosen.split() == pair.rejected.split() for pair in part)
        if spaces:
            yield Warned(f"{spaces} of {len(part)} {role} pairs have answers that differ only in white space")


def never_evaluated(experiment: Experiment) -> Iterator[str]:
    """A warning where the experiment names validation data that no evaluation will see."""
    if experiment.has_validation and experiment.hyperparameters.eval_strategy == "no":
        yield Warned("validation data are given but never evaluated; remove eval_strategy: no")


def table_notices(experiment: Experiment, tables: Tables, mapping: Columns, prompt: Prompt | None) -> Iterator[str]:
    for table in (tables.train, tables.validation):
        if table is None:
            continue
        for column in mapping.columns:
            kept = sum(row.cells[column] != row.cells[column].strip() for row in table.rows)
            if kept:
                some = f"{kept} of {len(table.rows)} cells in column {column!r}"
                yield f"{table.name}: {some} begin or end with white space, which is kept"
        yield from _unused(table, mapping.columns)
    if tables.prompts is not None:
        yield from _unused(tables.prompts, PROMPT_COLUMNS)
    chosen, rejected = experiment.columns.chosen, experiment.columns.rejected
    if isinstance(chosen, Mapping) != isinstance(rejected, Mapping):
        as_json, as_text = ("chosen", "rejected") if isinstance(chosen, Mapping) else ("rejected", "chosen")
        yield Warned(f"{as_json} is a JSON object and {as_text} is plain text: the model learns the format first")
    if isinstance(chosen, Mapping) and isinstance(rejected, Mapping) and list(chosen) != list(rejected):
        keys = f"chosen: {', '.join(chosen)}; rejected: {', '.join(rejected)}"
        yield Warned(f"the JSON answers have different keys ({keys}): the model learns the format first")
    names = dict.fromkeys(LONE_PLACEHOLDER.findall(prompt.system or "")) if prompt is not None else {}
    if names:
        shown = ", ".join(f"{{{name}}}" for name in names)
        yield Warned(f"prompt {experiment.prompt_name!r}: system contains {shown}, which is not filled in (only user is)")


def _unused(table: Table, used: Sequence[str]) -> Iterator[str]:
    unused = [column for column in table.columns if column not in used]
    if unused:
        yield f"{table.name}: unused columns: {', '.join(unused)} ({len(unused)} of {len(table.columns)})"
