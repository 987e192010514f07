"""Reads and writes a model's weight files one tensor at a time.

safetensors' ``save_file`` needs all tensors of a file in memory. The format is a length, a JSON header and the raw bytes
(https://github.com/huggingface/safetensors#format), so each tensor can be written to its place as soon as it exists.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from launcher.errors import LauncherError

_NAMES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
_DTYPES: Final = {name: dtype for dtype, name in _NAMES.items()}


@dataclass(frozen=True)
class Stored:
    """A tensor in a file. ``file``: the file's name."""

    name: str
    file: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * torch.Size(self.shape).numel()


@dataclass(frozen=True)
class WeightFiles:
    """The weight files in ``folder``, and their tensors by name in file order."""

    folder: Path
    tensors: Mapping[str, Stored]

    @classmethod
    def of(cls, folder: Path) -> WeightFiles:
        """Raises LauncherError if ``folder`` has no weights, or if they cannot be read."""
        files = _files(folder)
        try:
            found = [one for file in files for one in (_safe if file.suffix == ".safetensors" else _pickled)(file)]
        except (OSError, SafetensorError, RuntimeError, KeyError) as error:
            raise LauncherError(f"cannot read the weights in {folder}: {str(error).splitlines()[0]}") from error
        return cls(folder, {one.name: one for one in found})

    @property
    def dtype(self) -> torch.dtype:
        """The dtype with the most bytes."""
        sizes: dict[torch.dtype, int] = {}
        for one in self.tensors.values():
            sizes[one.dtype] = sizes.get(one.dtype, 0) + one.bytes
        return max(sizes, key=lambda dtype: sizes[dtype])

    @property
    def numbers(self) -> int:
        """Number of weights."""
        return sum(torch.Size(one.shape).numel() for one in self.tensors.values())

    @property
    def largest_file(self) -> int:
        """Bytes of the tensors in the largest file."""
        sizes: dict[str, int] = {}
        for one in self.tensors.values():
            sizes[one.file] = sizes.get(one.file, 0) + one.bytes
        return max(sizes.values())

    def read(self, name: str) -> Tensor:
        """The tensor on the CPU. Opens the file for this tensor only, because pages of a mapped file would stay in memory."""
        file = self.folder / self.tensors[name].file
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                tensor: Tensor = opened.get_tensor(name)
            return tensor
        found: Tensor = torch.load(file, map_location="cpu", mmap=True, weights_only=True)[name]
        return found


class Written:
    """Weight files being written to ``folder``. ``tensors``: all of them, declared before the first is written."""

    def __init__(self, folder: Path, tensors: Iterable[Stored]):
        self._folder, self._places, self.bytes = folder, dict[str, tuple[Path, int, Stored]](), 0
        by_file: dict[str, list[Stored]] = {}
        for one in tensors:
            by_file.setdefault(one.file, []).append(one)
        for file, inside in by_file.items():
            self._begin(folder / file, sorted(inside, key=lambda one: -one.dtype.itemsize))  # wide ones first: all are aligned
        self._left = set(self._places)
        if len(by_file) > 1:
            index = {
                "metadata": {"total_size": self.bytes},
                "weight_map": {name: p.name for name, (p, _, _) in self._places.items()},
            }
            (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _begin(self, path: Path, inside: list[Stored]) -> None:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        at = 0
        for one in inside:
            header[one.name] = {"dtype": _NAMES[one.dtype], "shape": one.shape, "data_offsets": [at, at + one.bytes]}
            at += one.bytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        for one in inside:
            self._places[one.name] = (path, 8 + len(text) + header[one.name]["data_offsets"][0], one)
        with path.open("xb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + at)
        self.bytes += at

    def write(self, name: str, tensor: Tensor) -> None:
        """Writes ``tensor``, rounded to the dtype declared for ``name``."""
        path, at, stored = self._places[name]
        if tuple(tensor.shape) != stored.shape:
            raise LauncherError(f"{name} has the shape {list(tensor.shape)}, expected {list(stored.shape)}")
        data = tensor.detach().to("cpu", stored.dtype).contiguous().flatten().view(torch.uint8)
        with path.open("r+b") as file:
            file.seek(at)
            data.numpy().tofile(file)
        self._left.discard(name)

    def close(self) -> None:
        """Syncs the files to disk. Raises LauncherError if a tensor was not written."""
        if self._left:
            raise LauncherError(f"{self._folder}: not written: {', '.join(sorted(self._left)[:3])}")
        for path in {path for path, _, _ in self._places.values()}:
            with path.open("r+b") as file:
                os.fsync(file.fileno())


def safe_name(file: str) -> str:
    """The name of a weight file in safetensors format."""
    return file.replace("pytorch_model", "model", 1).removesuffix(".bin") + ".safetensors" if file.endswith(".bin") else file


def _files(folder: Path) -> list[Path]:
    for whole, index in ((SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME), (WEIGHTS_NAME, WEIGHTS_INDEX_NAME)):
        if (folder / whole).is_file():
            return [folder / whole]
        if (folder / index).is_file():
            names = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
            return [folder / name for name in sorted(set(names))]
    raise LauncherError(f"no weights in {folder}: expected {SAFE_WEIGHTS_NAME} or {SAFE_WEIGHTS_INDEX_NAME}")


def _safe(file: Path) -> list[Stored]:
    with safe_open(file, "pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
        return [Stored(name, file.name, _DTYPES[one.get_dtype()], tuple(one.get_shape())) for name, one in slices.items()]


def _pickled(file: Path) -> list[Stored]:
    tensors = torch.load(file, map_location="meta", weights_only=True)
    return [Stored(name, file.name, one.dtype, tuple(one.shape)) for name, one in tensors.items()]
