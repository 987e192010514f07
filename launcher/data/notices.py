"""What is allowed in data, but worth a look: what was ignored, unused columns, answers of two formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..errors import Warned
from ..experiment.schema import Experiment
from .mapping import ANSWER, Columns
from .prompt import LONE_PLACEHOLDER, PROMPT_COLUMNS, Prompt
from .table import Table, Tables


def never_evaluated(experiment: Experiment) -> Iterator[str]:
    """A warning where the experiment names validation data that no evaluation will see."""
    if experiment.has_validation and experiment.hyperparameters.eval_strategy == "no":
        yield Warned("validation data are given but never evaluated; remove eval_strategy: no")


def table_notices(experiment: Experiment, tables: Tables, mapping: Columns, prompt: Prompt | None) -> Iterator[str]:
    if experiment.is_sft and mapping.chosen == ANSWER and not experiment.names_answers:
        yield f"{tables.train.name}: the answers come from column {ANSWER!r}, as it has no column 'chosen'"
    for table in (tables.train, tables.validation):
        if table is None:
            continue
        yield from table.ignored
        yield from _unused(table, mapping.columns)
    if tables.prompts is not None:
        yield from _unused(tables.prompts, PROMPT_COLUMNS)
    chosen, rejected = experiment.columns.chosen, experiment.columns.rejected
    if rejected is not None and isinstance(chosen, Mapping) != isinstance(rejected, Mapping):
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
