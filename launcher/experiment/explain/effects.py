"""What a key does on each backend and on each path of the DPO step, if that differs. Pure.

A field states this beside its default: ``json_schema_extra=on(docker="limit of the container")``. ``explained`` adds what
follows from the launcher's own tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic.fields import FieldInfo

from ..other_tools.method import OF_DPO, OF_DPO_IN_TRL, SFT
from ..other_tools.trl_fields import BATCHED, trl_fields, why_not_fast
from ..sections.launch import Launch
from ..sections.lora import OF_ADAPTER
from ..sections.on import BACKENDS, EFFECTS, NO_EFFECT, PATHS

_ANY: Final = "the run takes the plain path with"


def effects(field: FieldInfo, above: Mapping[str, str]) -> dict[str, str]:
    """The effects that ``field`` states, and those that its parent sections ``above`` state for all of their keys."""
    extra = field.json_schema_extra
    stated: Any = extra.get(EFFECTS, {}) if isinstance(extra, dict) else {}
    found = {**{place: text for place, text in above.items() if text == NO_EFFECT}, **stated}
    return {place: found[place] for place in (*BACKENDS, *PATHS) if place in found}


def idle_on(backend: str) -> tuple[str, ...]:
    """The keys of ``launch`` that have no effect on ``backend``."""
    return tuple(name for name, field in Launch.model_fields.items() if effects(field, {}).get(backend) == NO_EFFECT)


def idle_given(launch: Launch, backend: str) -> tuple[str, ...]:
    """Those of ``idle_on`` that are set to something other than their default. (A run's record contains every key.)"""
    default = Launch()
    return tuple(name for name in idle_on(backend) if getattr(launch, name) != getattr(default, name))


def on_paths(name: str) -> dict[str, str]:
    """What a key of ``hyperparameters`` does on each path, according to the table of TRL's fields."""
    if name == "loss_type":
        return {"fast": f"{_ANY} {', '.join(sorted(BATCHED))}"}
    if name == "optim":
        plain = [one for one in trl_fields()["optim"]["choices"] if why_not_fast({"optim": one}) is not None]
        return {"fast": f"{_ANY} {', '.join(plain)}"}
    return {}


def idle_with(name: str) -> tuple[str, ...]:
    """The settings that make a key of ``hyperparameters`` ineffective."""
    found = (("full_finetuning: true", name in OF_ADAPTER), (f"method: {SFT}", name in (*OF_DPO, *OF_DPO_IN_TRL)))
    return tuple(setting for setting, holds in found if holds)
