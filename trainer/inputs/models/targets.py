"""Which modules get an adapter: checked before the weights are loaded, and reported for the adapter that was made."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peft import get_peft_model
from peft.tuners.lora import LoraLayer, ParamWrapper
from peft.utils import ModulesToSaveWrapper
from torch import nn

from launcher.errors import ExperimentError, Mistake, Warned
from launcher.experiment.adapted import adapted, stays, wrong_names
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.experiment.sections.targets import KEY, is_all_linear, kind, wrong_targets

from .adapter import lora_config
from .modules import Part, family_of, left_out, modules_of, old_names, parts_of, weights_of


def check_targets(model: nn.Module, hyper: Hyperparameters, model_name: str) -> None:
    """Raises ExperimentError if a LoRA setting names a module that ``model``, which has no adapter, lacks."""
    if hyper.full_finetuning:
        return
    modules = modules_of(model)
    mistakes = [*wrong_targets(hyper.target_modules, modules, model_name), *wrong_names(hyper, modules, model_name)]
    if mistakes:
        raise ExperimentError(mistakes)


def try_adapter(model: nn.Module, hyper: Hyperparameters, model_name: str) -> None:
    """Makes the adapter of ``model``, which is on the meta device; raises ExperimentError if PEFT makes none or part of it would
    not be trained.
    """
    config = lora_config(hyper.model_copy(update={"lora_dropout": 0.0}), model)
    if config is None:
        return
    try:
        with warnings.catch_warnings():  # PEFT warns again of the adapter that is trained
            warnings.simplefilter("ignore")
            tried = get_peft_model(model, config, low_cpu_mem_usage=True)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ExperimentError(Mistake(KEY, f"PEFT makes no adapter for these modules: {_first_line(error)}")) from error
    held = sorted({kind(_name(name, module)) for name, module in tried.named_modules() if isinstance(module, ParamWrapper)})
    if held and hyper.lora_dropout:
        what = f"{model_name} holds its experts as parameters ({', '.join(held)}), and their adapter cannot have dropout"
        expected, found = "0, or target_modules without the experts", f"{hyper.lora_dropout:g}"
        raise ExperimentError(Mistake("hyperparameters.lora_dropout", what, expected, found))
    head = tried.get_output_embeddings()
    if isinstance(head, LoraLayer):
        name = next(kind(_name(name, module)) for name, module in tried.named_modules() if module is head)
        what = f"an adapter on {name} would not be trained: the loss multiplies with the weight of the head"
        raise ExperimentError(Mistake(KEY, what, f"target_modules without {name}; modules_to_save: [{name}] trains it whole"))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


@dataclass(frozen=True)
class Wanted:
    """What an adapter should train, before it is made.

    ``names``: of the parts that are to be trained; ``direct``: of layers whose weight the model may use without their adapter;
    ``weights``: of the whole model.
    """

    family: str
    parts: tuple[Part, ...]
    weights: int
    names: frozenset[str]
    direct: frozenset[str]
    is_all: bool

    @classmethod
    def of(cls, model: nn.Module, hyper: Hyperparameters) -> Wanted:
        parts, modules = parts_of(model), modules_of(model)
        is_all = is_all_linear(hyper.target_modules)
        if is_all:
            every = (part.name for part in parts if part.sort in ("layer", "experts"))
            names = {name for name in every if stays(hyper, name, modules)}
        else:
            now = old_names(model)
            names = {now.get(name, name) for name in adapted(hyper, modules)}
        names |= {part.name for part in parts if any(f".{part.name}".endswith(f".{one}") for one in hyper.target_parameters)}
        return cls(family_of(model), parts, weights_of(model), frozenset(names), left_out(model), is_all)

    def covered(self, adapter: nn.Module) -> Coverage:
        """What ``adapter``, which was made of the same model, trains."""
        there = {_name(name, module) for name, module in adapter.named_modules() if isinstance(module, LoraLayer)}
        trained = tuple(part for part in self.parts if part.name in there)
        wrapped = {_name(name, module) for name, module in adapter.named_modules() if isinstance(module, ModulesToSaveWrapper)}
        others = tuple(part for part in self.parts if part.name not in there | wrapped and part.sort != "other")
        return Coverage(trained, others, tuple(self._notices(trained, others)), tuple(sorted(map(kind, wrapped))))

    def _notices(self, trained: Sequence[Part], others: Sequence[Part]) -> Iterator[str]:
        missing = [part for part in others if part.name in self.names]
        direct = [part for part in missing if part.name in self.direct]
        experts = [part for part in missing if part.sort == "experts"]
        beside = [part for part in missing if part not in direct and part not in experts]
        if experts:
            yield Warned(
                f"no adapter on the experts ({_labels(experts)}): {self._share(experts)} of the weights stay frozen; "
                f"PEFT's all-linear does not reach them in {self.family}"
            )
        if direct:
            what = f"no adapter on {_labels(direct)}: {self._share(direct)} of the weights stay frozen"
            yield Warned(f"{what}; {self.family} uses these weights directly, without an adapter")
        if beside:
            what = f"no adapter on {_counted(beside)}: {self._share(beside)} of the weights stay frozen"
            yield Warned(f"{what}; in {self.family} PEFT takes these names for the experts alone")
        more = [part for part in trained if part.name not in self.names and not self.is_all]
        if more:
            yield Warned(f"adapter also on {_counted(more)}: in {self.family} PEFT adapts the experts of all layers together")
        unsure = [part for part in trained if part.name in self.direct]
        if unsure:
            yield Warned(f"the adapter on {_labels(unsure)} has no effect where {self.family} uses a fused kernel")

    def _share(self, parts: Iterable[Part]) -> str:
        share = sum(part.weights for part in parts) / self.weights
        return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"


@dataclass(frozen=True)
class Coverage:
    """Which parts of a model its adapter trains; ``others``: linear layers, experts and routers without an adapter."""

    trained: tuple[Part, ...]
    others: tuple[Part, ...]
    notices: tuple[str, ...]
    copies: tuple[str, ...] = ()  # names of modules that are trained whole

    @property
    def sentence(self) -> str:
        on, none = _numbers(self.trained), _numbers(self.others)
        left = [f"{label} ({number} of {number + on[label]})" if label in on else label for label, number in none.items()]
        whole = f"; trained whole: {', '.join(dict.fromkeys(self.copies))}" if self.copies else ""
        return f"adapter on {_counted(self.trained)}{whole}" + (f"; none on {', '.join(left)}" if left else "")

    def json(self) -> dict[str, Any]:
        """Label -> count, of parts with and without an adapter."""
        whole = {"whole": list(dict.fromkeys(self.copies))} if self.copies else {}
        return {"on": _numbers(self.trained), "none_on": _numbers(self.others), **whole}


def _name(name: str, module: nn.Module) -> str:
    """The name of a part in the model without an adapter."""
    plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
    return f"{plain}.{module.parameter_name}".removesuffix(".weight") if isinstance(module, ParamWrapper) else plain


def _numbers(parts: Iterable[Part]) -> dict[str, int]:
    return dict(Counter(part.label for part in parts))


def _labels(parts: Iterable[Part]) -> str:
    return ", ".join(_numbers(parts))


def _counted(parts: Iterable[Part]) -> str:
    """``q_proj, k_proj (2 each), lm_head (1)``."""
    by_number: dict[int, list[str]] = {}
    for label, number in _numbers(parts).items():
        by_number.setdefault(number, []).append(label)
    return ", ".join(f"{', '.join(labels)} ({number}{' each' * (len(labels) > 1)})" for number, labels in by_number.items())
