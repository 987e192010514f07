"""The quotas that a run would exceed, and what makes room in them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from ....errors import Mistake
from ..render.kinds import JOB, JOBSET, KINDS, TRAINJOB
from ..render.spec import KubernetesSpec
from .capacity import over_quota
from .facts import Facts

_PLURALS: Final = {"Service": "services", "ConfigMap": "configmaps", **{kind.name: kind.resource for kind in KINDS.values()}}

_OF_JOBSETS: Final = ("services", JOB.resource)
# What controllers make of a run's object: quotas count that, too.
_BY_CONTROLLERS: Final = {JOBSET.name: _OF_JOBSETS, TRAINJOB.name: (JOBSET.resource, *_OF_JOBSETS)}


def wrong_quotas(spec: KubernetesSpec, facts: Facts) -> Iterator[Mistake]:
    objects = Counter((*(_PLURALS[obj["kind"]] for obj in spec.objects), *_BY_CONTROLLERS.get(spec.kind, ())))
    counts = {**objects, **{plural.partition(".")[0]: count for plural, count in objects.items()}}
    for where, what in over_quota(facts.quotas.found or [], spec.pod["spec"], spec.pods, counts):
        less = "--gpus, --nodes, launch.memory" if spec.pods == spec.nodes else "--parallel, --gpus, launch.memory"
        hint = f"request less ({less}), ask for more quota, or wait for other runs: launcher ps --cluster"
        is_counted = what.partition(":")[0].removeprefix("count/") in counts
        yield Mistake(where, what, hint=_room(facts) if is_counted else hint)


def _room(facts: Facts) -> str:
    """Whose objects a quota counts although they run nothing. A stopped run's Job stays until somebody removes it."""
    over = [(run.created, run.name) for run, status in facts.listed if status.is_over]
    if not over:
        return "ask for more quota, or wait until other runs end; list them with: launcher ps --cluster"
    (_, oldest), *others = sorted(over)
    if not others:
        return f"1 run that is over still has its Job: remove it, its folder stays, with: launcher rm {oldest}"
    also = f" (also {', '.join(name for _, name in others[:3])}{' …' if len(others) > 3 else ''})"
    return f"{len(over)} runs that are over still have their Jobs{also}: remove one, its folder stays, with: launcher rm {oldest}"
