"""The section that maps columns of the data to prompt and answers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

from ..other_tools.neutral import without_neutral
from .section import Frozen, Section, Text, Texts

# Keys whose values are column names.
COLUMN_KEYS: Final = (
    "input_columns", "system", "chosen", "rejected", "label_columns", "answers", "winner", "ratings", "ranks", "tools"
)  # fmt: skip
VERDICTS: Final = ("winner", "ratings", "ranks")  # keys that say which answer is better
_COMPARED: Final = ("answers", *VERDICTS, "winner_values")
_OTHERS: Final = ("system", *_COMPARED, "tools", "role_key", "content_key", "roles")


class ColumnMapping(Section):
    """Which columns form the prompt and the two answers."""

    input_columns: Frozen[Text] | None = Field(
        None,
        examples=[{"query": "user_query"}],
        description="placeholder of the user template -> column of the data; without a prompt table several are paragraphs",
    )
    system: Text | None = Field(
        None,
        examples=["persona"],
        description="column of each row's system message; an empty cell: the prompt table's",
    )
    chosen: Text | Frozen[Text] | None = Field(
        None, examples=["good_answer"], description="column of the preferred answer, or JSON key -> column"
    )
    rejected: Text | Frozen[Text] | None = Field(
        None, examples=["bad_answer"], description="column of the other answer, or JSON key -> column"
    )
    label_columns: Text | Frozen[Text | Frozen[Text]] | None = Field(
        None,
        examples=[{"chosen": "good_answer", "rejected": "bad_answer"}],
        description="another form: {chosen: …, rejected: …}, or the column of the preferred answer alone",
    )
    answers: Texts | None = Field(
        None,
        examples=[["response_a", "response_b"]],
        description="columns of the answers where another column says which is better; or one column, of lists of them or with "
        "one rated answer a row",
    )
    winner: Text | None = Field(
        None,
        examples=["preference"],
        description="column that says which of two answers is better: A, B, tie, 1, left …",
    )
    winner_values: Annotated[Mapping[Text, Text], AfterValidator(MappingProxyType), PlainSerializer(dict)] | None = Field(
        None,
        examples=[{"0": "response_a", "1": "response_b", "equal": "tie"}],
        description="what else winner may hold -> the column of the better answer, or tie",
    )
    ratings: Texts | None = Field(
        None,
        examples=[["score_a", "score_b"]],
        description="columns of the answers' ratings, numbers or words such as good and bad: the highest is chosen",
    )
    ranks: Texts | None = Field(
        None, examples=[["rank_a", "rank_b"]], description="columns of the answers' ranks: 1, the lowest, is chosen"
    )
    tools: Text | None = Field(
        None, examples=["functions"], description="column of the tools that an answer may call; unset: tools, if it has tools"
    )
    role_key: Text | None = Field(None, examples=["speaker"], description="key of a message's role; unset: role or from")
    content_key: Text | None = Field(None, examples=["message"], description="key of a message's text; unset: content or value")
    roles: Frozen[Literal["system", "developer", "user", "assistant", "tool"]] | None = Field(
        None,
        examples=[{"bot": "assistant", "customer": "user"}],
        description="another name of a role in the data -> system, developer, user, assistant or tool",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, data: Any) -> Any:
        return without_neutral("dpo_column_mapping_config", data, cls.model_fields)

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if self.label_columns is not None:
            own = "chosen" if not self._labels_both else "chosen and rejected"
            if self.chosen is not None or (self._labels_both and self.rejected is not None):
                raise PydanticCustomError("twice", f"sets {own} twice: directly and in label_columns; keep one")
        _check_compared(self)
        return self

    @property
    def _labels_both(self) -> bool:
        return isinstance(self.label_columns, Mapping) and set(self.label_columns) == {"chosen", "rejected"}

    def resolved(self) -> Self:
        """The same mapping with ``label_columns`` split into ``chosen`` and ``rejected``."""
        if self.label_columns is None:
            return self
        labels: Any = self.label_columns
        answers = dict(labels) if self._labels_both else {"chosen": labels, "rejected": self.rejected}
        others = {name: getattr(self, name) for name in _OTHERS}
        return type(self)(input_columns=self.input_columns, **answers, **others)


def merge_mappings(dpo: ColumnMapping | None, general: ColumnMapping | None) -> ColumnMapping:
    """The two sections merged, with defaults. Raises PydanticCustomError if they contradict each other."""
    fields: dict[str, Any] = {"input_columns": {"prompt": "prompt"}, "chosen": "chosen", "rejected": "rejected"}
    fields |= dict.fromkeys(_OTHERS)
    given: dict[str, Any] = {}
    for mapping in (general, dpo):
        for key in fields:
            value = getattr(mapping.resolved(), key) if mapping is not None else None
            if value is None:
                continue
            if key in given and given[key] != value:
                raise PydanticCustomError(
                    "twice", f"has two values for {key}: in dpo_column_mapping_config and column_mapping_config; keep one"
                )
            given[key] = value
    if given.get("answers") is not None:
        fields |= {"chosen": None, "rejected": None}  # the verdict column decides
    merged = ColumnMapping.model_construct(**{**fields, **given})
    if general is not None and dpo is not None:
        _check_compared(merged)
    return merged  # each mapping was already validated


def _check_compared(mapping: ColumnMapping) -> None:
    """Raises PydanticCustomError if the answers and the key that compares them do not fit together."""
    verdicts = [key for key in VERDICTS if getattr(mapping, key) is not None]
    fixed = [key for key in ("chosen", "rejected", "label_columns") if getattr(mapping, key) is not None]
    if mapping.winner_values is not None and mapping.winner is None:
        raise PydanticCustomError("no_winner", "sets winner_values without winner, the column that holds them")
    if mapping.answers is None:
        if verdicts:
            what = f"sets {verdicts[0]} without answers; name the columns that it compares: answers: [response_a, response_b]"
            raise PydanticCustomError("no_answers", what)
        return
    if fixed:
        what = f"sets answers and {fixed[0]}: the better of answers is chosen; keep one"
        raise PydanticCustomError("twice", what)
    if not verdicts:
        what = "sets answers but none of winner, ratings and ranks, which say which answer is better"
        raise PydanticCustomError("no_verdict", what)
    if len(verdicts) > 1:
        raise PydanticCustomError("twice", f"sets {' and '.join(verdicts)}; keep one")
    count = len(mapping.answers)
    if mapping.winner is not None and count > 2:
        raise PydanticCustomError(
            "winner", f"sets winner for {count} answers: winner compares two; set ratings or ranks for more"
        )
    values = getattr(mapping, verdicts[0])
    if mapping.winner is None and count > 1 and len(values) > 1 and len(values) != count:
        raise PydanticCustomError(
            "ratings", f"has {count} answers and {len(values)} {verdicts[0]}; name one column for each answer"
        )
    for meant in (mapping.winner_values or {}).values():
        if count > 1 and meant not in (*mapping.answers, "tie"):
            what = f"sets winner_values with {meant!r}, which is neither one of answers ({', '.join(mapping.answers)}) nor tie"
            raise PydanticCustomError("winner_values", what)
