"""Columns: which columns of the data make the prompt and the two answers."""

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ..other_tools.neutral import without_neutral
from .section import Frozen, Section, Text

COLUMN_KEYS: Final = ("input_columns", "chosen", "rejected", "label_columns", "tools")  # those that name columns
_MESSAGES: Final = ("tools", "role_key", "content_key", "roles")


class ColumnMapping(Section):
    """Which columns make the prompt and the two answers."""

    input_columns: Frozen[Text] | None = Field(
        None, examples=[{"query": "user_query"}], description="placeholder of the user template -> column of the data"
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
        return self

    @property
    def _labels_both(self) -> bool:
        return isinstance(self.label_columns, Mapping) and set(self.label_columns) == {"chosen", "rejected"}

    def resolved(self) -> Self:
        """The same mapping with ``label_columns`` written as ``chosen`` and ``rejected``."""
        if self.label_columns is None:
            return self
        labels: Any = self.label_columns
        answers = dict(labels) if self._labels_both else {"chosen": labels, "rejected": self.rejected}
        others = {name: getattr(self, name) for name in _MESSAGES}
        return type(self)(input_columns=self.input_columns, **answers, **others)


def merge_mappings(dpo: ColumnMapping | None, general: ColumnMapping | None) -> ColumnMapping:
    """The mapping of both sections, with the defaults filled in; raises PydanticCustomError where they contradict each other."""
    fields: dict[str, Any] = {"input_columns": {"prompt": "prompt"}, "chosen": "chosen", "rejected": "rejected"}
    fields |= dict.fromkeys(_MESSAGES)
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
    return ColumnMapping.model_construct(**{**fields, **given})  # each value was checked in its own mapping
