"""The section ``samples``: prompts whose answers, before and after training, are saved."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from .section import Int, Section, bool_of_word

if TYPE_CHECKING:
    from typing_extensions import TypeIs


def _prompts(value: object) -> object:
    """Validated as a whole, because pydantic would report a mistake for each branch of the union."""
    if value is not None and bool_of_word(value) is False:
        return 0
    many = value if isinstance(value, list | tuple) else []
    is_list = bool(many) and all((_is_number(one) and one > 0) or (isinstance(one, str) and one.strip()) for one in many)
    if not is_list and not (_is_number(value) and value >= 0):
        raise PydanticCustomError("prompts_type", "must be off, a number (at least 0) or a list of texts and rows (at least 1)")
    return tuple(many) if is_list else value


def _is_number(value: object) -> "TypeIs[int]":
    return isinstance(value, int) and not isinstance(value, bool)


class Samples(Section):
    """Answers before and after training, side by side. Decoding is greedy, so they depend only on the weights."""

    prompts: Annotated[int | tuple[int | str, ...], BeforeValidator(_prompts)] = Field(
        4,
        examples=[8],
        description="number of validation prompts (training prompts if none), or a list of texts and row numbers; off for none",
    )
    max_new_tokens: Int = Field(128, ge=1, examples=[256], description="longest answer in tokens")
    every_evaluation: bool = Field(False, examples=[True], description="also at each evaluation, not only at the end")


def samples_of(value: object) -> object:
    """``samples: off``, ``samples: 8`` and ``samples: [Why?]`` are short forms for the prompts alone."""
    if bool_of_word(value) is False:
        return {"prompts": 0}
    plain: Any = (int, list, tuple)
    return {"prompts": value} if isinstance(value, plain) and value is not True else value


SamplesSection = Annotated[Samples, BeforeValidator(samples_of)]
