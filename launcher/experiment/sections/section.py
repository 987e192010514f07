"""Section, the base class of every part of an experiment, and the types of its values as YAML users write them."""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

V = TypeVar("V")


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "a number")
    return value


def text_of_int(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def no_of_false(value: object) -> object:
    """YAML 1.1 reads a bare ``no`` as false; a strategy means the word."""
    return "no" if value is False else value


def text_of_date(value: object) -> str:
    """A date, or text in ISO format, as text."""
    text = value.isoformat() if isinstance(value, date) else value
    try:
        if isinstance(text, str) and date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise PydanticCustomError("day_type", "a date such as 2026-07-26")


def bool_of_word(value: object) -> object:
    """Turns YAML 1.1's words into true and false, for values that may also be text: ``yes`` is not a folder. None is false."""
    if value is None:
        return False
    words = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def true_of_unsloth(value: object) -> object:
    return True if value == "unsloth" else value


def tuple_of_one(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def action_of_word(value: object) -> object:
    """A rule's action alone, in place of its mapping."""
    if value is False:  # a bare `off` in YAML 1.1
        return {"action": "off"}
    return {"action": value} if isinstance(value, str) else value


def in_place_of_null(value: object) -> BeforeValidator:
    """``value`` for a key that is written without one, as in files of other tools."""
    return BeforeValidator(lambda given: value if given is None else given)


def nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Name = Annotated[str, BeforeValidator(text_of_int), Field(pattern=r"^[A-Za-z0-9._-]+$")]
Text = Annotated[str, BeforeValidator(text_of_int), Field(min_length=1)]
Size = Annotated[str, BeforeValidator(text_of_int), Field(pattern=r"^[0-9]+(\.[0-9]+)?([KMGT]i?)?B?$")]
Day = Annotated[str, BeforeValidator(text_of_date)]
Strategy = Annotated[Literal["no", "steps", "epoch"], BeforeValidator(no_of_false)]
SaveStrategy = Annotated[Literal["no", "steps", "epoch", "best"], BeforeValidator(no_of_false)]
Frozen = Annotated[Mapping[str, V], AfterValidator(MappingProxyType), PlainSerializer(dict)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(tuple_of_one)]


class Section(BaseModel):
    """A part of an experiment: frozen, without unknown keys."""

    # Building validators is slow; only Experiment's is built, on first use, and includes all others.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, protected_namespaces=(), defer_build=True)
