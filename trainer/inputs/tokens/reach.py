"""The token ids and lengths that a model's tables support, compared with the data before the weights are loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from launcher.data.pairs import Pairs
from launcher.data.tables.table import place_of
from launcher.errors import ExperimentError, Mistake, Warned
from launcher.experiment.schema import Experiment

from .tokens import Tokens

# Tables that are plain tensors of the model's code: family -> the number of their rows in the configuration.
_BY_CONFIG: Final = {"mpt": "max_seq_len", "ctrl": "n_positions"}
# Parts of a model that see no text, and have positions of their own.
_NO_TEXT: Final = re.compile(r"vision|visual|image|audio|speech|patch|vq")


@dataclass(frozen=True)
class Reach:
    """``rows``: of the embedding; ``positions``: tokens of a sequence for which the model has a table, None: any number;
    ``range``: tokens up to which its rotary positions were trained, None: it has none, or any number.
    """

    rows: int | None
    positions: int | None
    range: int | None

    @classmethod
    def of(cls, model: Any) -> Reach:
        """Of ``model``, which needs no weights."""
        config = model.config.get_text_config(decoder=True)
        table = model.get_input_embeddings()
        rows = getattr(table, "num_embeddings", None)
        positions = _positions(model, table)
        return cls(rows, positions, _range(model, config) if positions is None else None)


def _positions(model: Any, table: Any) -> int | None:
    """Rows of the smallest position table, without offset and padding rows."""
    config = model.config
    found = [getattr(config, _BY_CONFIG[config.model_type])] if config.model_type in _BY_CONFIG else []
    for name, module in model.named_modules():
        if _NO_TEXT.search(name):
            continue
        is_of_positions = "pos" in name.rpartition(".")[2] or name.endswith("wpe")
        if isinstance(module, nn.Embedding) and module is not table and is_of_positions:
            padding = 0 if module.padding_idx is None or hasattr(module, "offset") else module.padding_idx + 1
            found.append(module.num_embeddings - int(getattr(module, "offset", padding)))
        for own, buffer in module.named_buffers(recurse=False):
            if own == "embed_positions" and buffer.ndim == 2:  # sines that are computed once, as GPT-J does
                found.append(buffer.shape[0])
    return min(found, default=None)


def _range(model: nn.Module, config: Any) -> int | None:
    """Tokens up to which rotary positions were trained, or stretched by a scaling."""
    trained = getattr(config, "max_position_embeddings", None)
    has_rotary = any("rotary" in type(module).__name__.lower() for module in model.modules())
    if not isinstance(trained, int) or not has_rotary or getattr(config, "alibi", False):
        return None
    scaling = getattr(config, "rope_parameters", None) or {}
    kinds = [one for one in scaling.values() if isinstance(one, dict)] or [scaling]
    ranges = [_stretched(trained, one) for one in kinds]
    return None if None in ranges else max(one for one in ranges if one is not None)


def _stretched(trained: int, scaling: dict[str, Any]) -> int | None:
    kind = scaling.get("rope_type", "default")
    if kind == "default":
        return trained
    if kind == "dynamic":
        return None  # it stretches itself to any length
    original = scaling.get("original_max_position_embeddings") or trained
    return max(trained, int(original * (scaling.get("factor") or 1)))


@dataclass(frozen=True)
class Data:
    """Token ids with the name of their file."""

    source: str
    tokens: Tokens


def read_from(pairs: Pairs, tokens: Tokens, held_out: Tokens | None) -> list[Data]:
    """``tokens`` and ``held_out`` with the names of their files."""
    names = {source.role: source.name for source in pairs.sources}
    return [Data(names["train"], tokens), *([Data(names["validation"], held_out)] if held_out is not None else [])]


def check_reach(reach: Reach | None, experiment: Experiment, data: Sequence[Data], tokenizer: Any) -> list[str]:
    """Notices where sequences are longer than the model was trained for, or another token must pad; none if ``reach`` is None.

    Raises ExperimentError if an id has no row in the embedding, or a sequence is longer than the table of positions: the model
    would end with an IndexError, or on a GPU with a device-side assert. ``tokenizer`` pads with a token in the embedding
    afterwards.
    """
    if reach is None:
        return []
    notices, name = [], experiment.model_name
    if reach.rows is not None:
        _check_ids(reach.rows, data, tokenizer, name)
        notices += _pad_inside(reach.rows, tokenizer)
    if reach.positions is not None:
        _check_positions(reach.positions, data, experiment)
    limit, longest = reach.range, _longest_of(data)
    if limit is not None and longest > limit:
        longer = _count(one.tokens.pairs.longest > limit for one in data)
        notices.append(
            Warned(
                f"{longer} are longer than the {limit:,} tokens for which the positions of {name} were trained (the longest has "
                f"{longest:,}): the model knows no later position; set hyperparameters.max_seq_length: {limit} to cut them"
            )
        )
    return notices


def _check_ids(rows: int, data: Sequence[Data], tokenizer: Any, model_name: str) -> None:
    beyond = [one.tokens.pairs.holding(lambda ids: ids >= rows) for one in data]
    first = next(((one, mask) for one, mask in zip(data, beyond, strict=True) if mask.any()), None)
    if first is None:
        return
    source, pair = first[0].source, first[0].tokens.pairs[int(first[1].argmax())]
    token = next(number for number in (*pair.prompt, *pair.chosen, *pair.rejected) if number >= rows)
    raise ExperimentError(
        Mistake(
            "model_name",
            f"token {tokenizer.convert_ids_to_tokens(token)!r} has id {token}, and the embedding of {model_name} has {rows} rows",
            expected=f"ids below {rows}, as those of the tokenizer that the model was trained with",
            found=f"first in {place_of(source, pair.line)}; {_count(beyond)} have such tokens",
            hint="to add tokens, give the model rows for them: model.resize_token_embeddings(len(tokenizer)); save both together",
        )
    )


def _pad_inside(rows: int, tokenizer: Any) -> Iterator[str]:
    """Pads with another token if the embedding has no row for the padding token; attention and loss ignore padding."""
    before = tokenizer.pad_token_id
    if before is None or before < rows:
        return
    eos = tokenizer.eos_token_id
    name, token = tokenizer.pad_token, tokenizer.eos_token if eos is not None and eos < rows else None
    tokenizer.pad_token = token or tokenizer.convert_ids_to_tokens(0)
    yield f"the padding token {name!r} has id {before}, and the embedding has {rows} rows: {tokenizer.pad_token!r} pads instead"


def _check_positions(limit: int, data: Sequence[Data], experiment: Experiment) -> None:
    longest = _longest_of(data)
    if longest > limit:
        longer = _count(one.tokens.pairs.longest > limit for one in data)
        raise ExperimentError(
            Mistake(
                "hyperparameters.max_seq_length",
                f"{experiment.model_name} has positions for {limit} tokens, and {longer} are longer",
                expected=f"at most {limit}",
                found=f"{experiment.hyperparameters.max_seq_length}; the longest sequence has {longest} tokens",
                hint=f"set max_seq_length: {limit} to cut longer answers",
            )
        )


def _longest_of(data: Sequence[Data]) -> int:
    return max(one.tokens.longest for one in data)


def _count(masks: Iterable[NDArray[np.bool_]]) -> str:
    """``3 of 12 pairs``: those whose number in ``masks``, [n] for each file, is true."""
    mask = np.concatenate(list(masks))
    return f"{mask.sum():,} of {len(mask):,} pairs"
