"""Adds adapters to a model's weight files tensor by tensor, with only one group in memory at a time.

Written tensors keep the names and files of the base model. transformers maps those to parameters: it renames some and joins
others (the experts of a mixture). A group is the set of tensors that become parameters together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    apply_converters,
    apply_renamings,
    dot_natural_key,
    rename_source_key,
)

from launcher.errors import LauncherError

from .adapted import Adapted, hollow
from .weight_files import Stored, WeightFiles, Written, safe_name

Tell = Callable[[int, int], None]
WIDE: Final = (torch.float32, torch.float64)


@dataclass
class Group:
    """Tensors that become parameters together. ``sources``: tensor name -> the pattern that matched it."""

    first: str  # the first parameter's name
    converter: WeightConverter | None
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """``changed``: parameters with a delta. ``untied``: output embeddings that had to be written separately from the input
    embedding.
    """

    tensors: int
    changed: int
    bytes: int
    dtype: torch.dtype
    untied: tuple[str, ...]


class Merging:
    """Adapters on the model in a folder. Which parameters they change is known before any weight is read."""

    def __init__(self, base: Path, adapters: Sequence[Path], *, trust_remote_code: bool = False):
        """``adapters``: applied in order, the first on the base. Raises LauncherError if they cannot be merged."""
        self.files = WeightFiles.of(base)
        config = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code, local_files_only=True)
        _check_plain(base, config)
        self._model = _skeleton(config, trust_remote_code)
        self._adapted = [Adapted(hollow(_skeleton(config, trust_remote_code)), folder) for folder in adapters]
        self._changed = {name for one in self._adapted for name in one.changed}
        mapping = get_model_conversion_mapping(self._model)
        self._renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
        self._converters = [one for one in mapping if isinstance(one, WeightConverter)]
        self._groups = self._grouped()
        self._ties = self._changed_ties()
        self._check_found()

    def write(self, folder: Path, dtype: torch.dtype | None, tell: Tell = lambda done, total: None) -> Outcome:
        """Writes the merged weights to ``folder``. ``tell`` receives (bytes written, total bytes).

        ``dtype``: see ``dtype``. Each sum is computed in fp32 and rounded once.
        """
        chosen = self.dtype(dtype)
        planned = {one.name: self._planned(one, chosen) for one in self.files.tensors.values()}
        untied = [output for output, given in self._ties.items() if self._is_untied(output, given)]
        for output in untied:
            name, like = self._written_name(output), planned[self._source(self._ties[output])]
            planned[name] = replace(like, name=name)
        written = Written(folder, planned.values())
        done = 0
        for group in self._groups:
            for name, tensor in self._tensors(group, untied):
                written.write(name, tensor)
                done += planned[name].bytes
                tell(done, written.bytes)
                del tensor
        written.close()
        return Outcome(len(planned), len(self._changed), written.bytes, chosen, tuple(untied))

    def dtype(self, wanted: torch.dtype | None) -> torch.dtype:
        """``wanted``; by default the base's dtype if it has 16 bits, else bfloat16."""
        return wanted or (torch.bfloat16 if self.files.dtype in WIDE else self.files.dtype)

    @property
    def changed(self) -> frozenset[str]:
        """Names of the parameters that the adapters change."""
        return frozenset(self._changed)

    def bytes(self, dtype: torch.dtype | None) -> int:
        """Bytes of the merged files, without a head that is written separately from the embedding."""
        chosen = self.dtype(dtype)
        return sum(self._planned(one, chosen).bytes for one in self.files.tensors.values())

    def _planned(self, one: Stored, dtype: torch.dtype) -> Stored:
        is_own = one.dtype == self.files.dtype and one.dtype.is_floating_point
        return replace(one, file=safe_name(one.file), dtype=dtype if is_own else one.dtype)

    def _grouped(self) -> list[Group]:
        """The groups in file order, formed like in transformers' ``convert_and_load_state_dict_in_model``."""
        there, prefix = self._model.state_dict(), self._model.base_model_prefix
        by_pattern = {pattern: one for one in self._converters for pattern in one.source_patterns}
        found: dict[str, Group] = {}
        for name in self.files.tensors:
            renamed, pattern = rename_source_key(name, self._renamings, self._converters, prefix, there)
            if renamed not in there and name in there:
                renamed, pattern = rename_source_key(name, [], [], base_model_prefix=prefix, meta_state_dict=there)
            if renamed not in there:  # not part of this model, such as a vision tower
                renamed, pattern = f"file:{name}", None
            group = found.setdefault(renamed, Group(renamed, None if pattern is None else by_pattern[pattern]))
            group.sources[name] = name if pattern is None else pattern
        return list(found.values())

    def _changed_ties(self) -> dict[str, str]:
        """Tied parameters of which one is changed: name -> name of the other."""
        ties = getattr(self._model, "all_tied_weights_keys", None) or {}
        return {one: other for one, other in ties.items() if one in self._changed or other in self._changed}

    def _check_found(self) -> None:
        given = {name for group in self._groups for name in self._targets(group)} | set(self._ties)
        missing = sorted(self._changed - given)
        if missing:
            names = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
            raise LauncherError(f"the adapter changes {names}, missing from the files in {self.files.folder}")

    def _targets(self, group: Group) -> list[str]:
        """Names of the parameters that a group becomes."""
        if group.converter is None or len(group.converter.target_patterns) == 1:
            return [group.first]
        first, *others = group.converter.target_patterns
        return [group.first, *(group.first.replace(first, other) for other in others)]

    def _tensors(self, group: Group, untied: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """A group's tensors to write, by their names in the files."""
        if not self._changed.isdisjoint(self._targets(group)):
            yield from self._converted(group) if group.converter is not None else self._plain(group)
        else:
            yield from ((name, self.files.read(name)) for name in group.sources)
        for output in untied:
            if self._ties[output] == group.first:
                yield self._written_name(output), self._merge(output, self.files.read(self._source(group.first)).float())

    def _plain(self, group: Group) -> Iterator[tuple[str, Tensor]]:
        (name,) = group.sources
        yield name, self._merge(group.first, _wide(self.files.read(name)))

    def _converted(self, group: Group) -> Iterator[tuple[str, Tensor]]:
        assert group.converter is not None
        converter: Any = copy.deepcopy(group.converter)
        for name in sorted(group.sources, key=dot_natural_key):
            converter.add_tensor(group.first, name, group.sources[name], _wide(self.files.read(name)))
        parameters = _values(converter.convert(group.first, model=self._model, config=self._model.config))
        for name in list(parameters):
            parameters[name] = self._merge(name, parameters[name])
        back: Any = copy.deepcopy(group.converter).reverse_transform()
        for name in sorted(parameters, key=dot_natural_key):
            renamed, pattern = apply_converters(name, [back])
            if pattern is None:
                raise LauncherError(f"{name} cannot be converted back to the tensors of the base's files")
            back.add_tensor(renamed, name, pattern, parameters[name])
        del parameters
        names = {apply_renamings(name, self._renamings): name for name in group.sources}  # as a converter sees them
        for name, tensor in _values(back.convert(renamed, model=self._model, config=self._model.config)).items():
            if name not in names:
                raise LauncherError(f"the base's files have no tensor {name}")
            yield names[name], tensor

    def _merge(self, name: str, numbers: Tensor) -> Tensor:
        """``numbers`` (fp32) with every adapter's change. Raises LauncherError if the sum is not finite."""
        for one in self._adapted:
            if name in one.changed:
                numbers = one.changed[name](numbers)
        if name in self._changed and not torch.isfinite(numbers).all():
            raise LauncherError(f"{name}: base and adapter add up to numbers that are not finite")
        return numbers

    def _is_untied(self, output: str, given: str) -> bool:
        source = self._source(given)
        both = [self._merge(name, _wide(self.files.read(source))) for name in (output, given)]
        return not torch.equal(*both)

    def _source(self, parameter: str) -> str:
        """The name in the files of a parameter that is stored alone."""
        for group in self._groups:
            if group.first == parameter and group.converter is None:
                return next(iter(group.sources))
        raise LauncherError(f"{parameter} is not in the files in {self.files.folder}")

    def _written_name(self, output: str) -> str:
        """The name in the files for a parameter that they lack, with the prefix that the base's own names have."""
        return next((name for group in self._groups if group.first == output for name in group.sources), output)


def _skeleton(config: Any, trust_remote_code: bool) -> Any:
    with torch.device("meta"):
        make: Any = AutoModelForCausalLM.from_config
        return make(copy.deepcopy(config), dtype=torch.float32, trust_remote_code=trust_remote_code).eval()


def _check_plain(base: Path, config: Any) -> None:
    quantized = getattr(config, "quantization_config", None)
    if quantized is not None:
        kind = quantized.get("quant_method") if isinstance(quantized, Mapping) else getattr(quantized, "quant_method", None)
        raise LauncherError(
            f"cannot merge into {base}: its files hold quantised weights ({kind}); name a base with 16-bit weights"
        )


def _wide(tensor: Tensor) -> Tensor:
    """A copy in fp32 that may be overwritten."""
    return tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor


def _values(converted: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value[0] if isinstance(value, list) else value for name, value in converted.items()}
