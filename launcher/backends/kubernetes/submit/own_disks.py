"""A cluster without claims for runs: with ``checkpoint_to`` the pods take disks of their own. Pure; ``facts`` asks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ....experiment.schema import Experiment
from ..render.volumes import volumes_of
from .facts import Answer, Facts, is_of_one_node


def on_own_disks(experiment: Experiment, nodes: int, facts: Facts) -> tuple[Experiment, str | None]:
    """The experiment with an emptyDir for the runs, and for the cache, where their claims cannot be used; and the notice.

    Only with ``checkpoint_to``, which keeps what matters, and only for claims that the experiment does not name itself.
    """
    given = experiment.launch.kubernetes.volumes
    if experiment.checkpoint_to is None or "runs" in given:
        return experiment, None
    volumes = volumes_of(experiment)
    whys = {role: _unusable(facts.claims.get(str(volumes[role].claim)), nodes) for role in ("runs", "cache") if role not in given}
    if whys.get("runs") is None:
        return experiment, None
    roles = [role for role, why in whys.items() if why is not None]
    why = f"claim {volumes['runs'].claim} {whys['runs']}"
    notice = f"{why}, and checkpoint_to is set: each pod has an emptyDir for {' and '.join(roles)}"
    return _with(experiment, {**given, **{role: {"emptyDir": {}} for role in roles}}), notice


def _unusable(answer: Answer | None, nodes: int) -> str | None:
    if answer is None or answer.unseen is not None:
        return None
    if answer.found is None:
        return "not found"
    if nodes > 1 and is_of_one_node(answer.found):
        return f"can only be mounted on one node, but the run has {nodes}"
    return None


def _with(experiment: Experiment, volumes: Mapping[str, Any]) -> Experiment:
    launch = experiment.launch
    kubernetes = launch.kubernetes.model_copy(update={"volumes": MappingProxyType(dict(volumes))})
    return experiment.model_copy(update={"launch": launch.model_copy(update={"kubernetes": kubernetes})})
