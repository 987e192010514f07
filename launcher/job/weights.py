"""Names and shapes of a model's modules, from the headers of its weight files. Reads no weights and needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..experiment.sections.targets import DIRECT, Modules, untrained

WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_LARGEST: Final = 1 << 27  # bytes of a header; a larger number cannot be its length
# Prefixes that transformers adds to the names in a file: the decoder's attribute.
_ROOTS: Final = ("", "model.", "transformer.", "backbone.", "gpt_neox.", "model.decoder.", "decoder.", "biogpt.", "rwkv.")
_HEADS: Final = ("lm_head", "embed_out", "output")  # tied to the embedding, in no file
_RENAMED: Final = Path(__file__).with_name("renamed_modules.json")


def modules_on_disk(folder: Path) -> Modules | None:
    """The modules of the model in ``folder``; None if its files do not show them.

    That is the case for models with their own code (any names), quantised weights (other shapes) and other formats (no header).
    For families that transformers loads under other names, those names count as possible.
    """
    try:
        config = _mapping((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("auto_map") or config.get("quantization_config"):
            return None
        shapes = {name: shape for file in _files(folder) for name, shape in _header(file).items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the trainer names what is wrong with the files
    return modules_of(shapes, str(config.get("model_type"))) if shapes else None


def modules_of(shapes: Mapping[str, tuple[int, ...]], family: str) -> Modules:
    """The modules of a model with weights of these ``shapes``, by name. ``family``: its ``model_type``."""
    owners = {name: name.rpartition(".")[0] for name in shapes}
    trained = [
        owners[name]
        for name, shape in shapes.items()
        if name == f"{owners[name]}.weight" and is_trainable(shape) and not untrained(owners[name], family)
    ]
    above = {owner.rsplit(".", depth)[0] for owner in owners.values() for depth in range(owner.count(".") + 1)}
    others = sorted((above | set(owners.values())) - set(trained) - {""})
    known = _mapping(_RENAMED.read_text(encoding="utf-8"))["families"].get(family, {})
    renamed, together = known.get("names", ()), tuple(map(tuple, known.get("together", ())))
    refused = {name: DIRECT if untrained(name, family) else "" for name in others if name.rpartition(".")[2] not in renamed}
    return Modules(tuple(trained), refused, frozenset((*renamed, *_HEADS)), _ROOTS, together)


def is_trainable(shape: tuple[int, ...]) -> bool:
    """Whether PEFT can adapt a layer with a weight of ``shape``: not vectors, not depthwise convolutions."""
    return len(shape) > 1 and not (len(shape) == 3 and shape[1] == 1 and shape[0] > 1)


def _files(folder: Path) -> list[Path]:
    """The safetensors files that transformers would read."""
    if (folder / WEIGHTS[0]).is_file():
        return [folder / WEIGHTS[0]]
    index = _mapping((folder / WEIGHTS[1]).read_text(encoding="utf-8"))
    return [folder / name for name in sorted(set(index["weight_map"].values()))]


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each tensor. The file starts with the header's length in eight bytes, then JSON."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _LARGEST:
            raise ValueError("not a safetensors file")
        entries = _mapping(stream.read(length).decode("utf-8"))
    return {name: tuple(entry["shape"]) for name, entry in entries.items() if name != "__metadata__"}


def _mapping(text: str) -> dict[str, Any]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise TypeError("not a JSON object")
    return data
