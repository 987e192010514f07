"""The volumes of ``launch.kubernetes.volumes``: of any kind for runs, cache and data, and volumes of the user's own. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ....errors import Mistake
from ....experiment.schema import Experiment
from .fields import field, wrong_fields
from .guard import OWN_VOLUMES, conflict
from .names import LABEL

RUNS: Final = OWN_VOLUMES["runs"]
CACHE: Final = OWN_VOLUMES["cache"]
DATA: Final = OWN_VOLUMES["data"]
VOLUMES: Final = "/dpo/volumes"  # below it: the user's own, unless they have another path
_ROLES: Final = {"runs": RUNS, "cache": CACHE, "data": DATA}
_OURS: Final = ("path", "read_only", "sub_path")  # how it is mounted; the other keys are Kubernetes'
_FLEETING: Final = ("emptyDir", "ephemeral")
SETTING: Final = "launch.kubernetes.volumes"
_EXAMPLE: Final = "the name of a claim, or a volume in Kubernetes' own form, such as {nfs: {server: …, path: …}}"


@dataclass(frozen=True)
class Volume:
    """``source``: as in a pod, without the name; ``path``: where it is mounted."""

    name: str
    source: Mapping[str, Any]
    path: str
    is_read_only: bool = False
    sub_path: str | None = None

    @property
    def claim(self) -> str | None:
        found: str | None = (self.source.get("persistentVolumeClaim") or {}).get("claimName")
        return found

    @property
    def is_kept(self) -> bool:
        """Whether another pod finds there what this one wrote."""
        return not any(kind in self.source for kind in _FLEETING)

    def volume(self) -> dict[str, Any]:
        return {"name": self.name, **self.source}

    def mount(self) -> dict[str, Any]:
        sub = {} if self.sub_path is None else {"subPath": self.sub_path}
        return {"name": self.name, "mountPath": self.path, **sub, **({"readOnly": True} if self.is_read_only else {})}


def volumes_of(experiment: Experiment) -> dict[str, Volume]:
    """By name, in this order: runs, cache, data (if given), the user's own."""
    given = experiment.launch.kubernetes.volumes
    roles = {role: given.get(role, f"dpo-{role}") for role in _ROLES if role in given or role != "data"}
    return {name: _volume(name, of) for name, of in {**roles, **given}.items()}


def _volume(name: str, given: str | Mapping[str, Any]) -> Volume:
    read_only, path = name == "data", _ROLES.get(name, f"{VOLUMES}/{name}")
    if isinstance(given, str):
        return Volume(name, {"persistentVolumeClaim": {"claimName": given}}, path, read_only)
    source = {key: value for key, value in given.items() if key not in _OURS}
    return Volume(name, source, given.get("path", path), bool(given.get("read_only", read_only)), given.get("sub_path"))


def wrong_volumes(experiment: Experiment) -> Iterator[Mistake]:
    """Every mistake in the setting, at its place."""
    for name, given in experiment.launch.kubernetes.volumes.items():
        where = f"{SETTING}.{name}"
        if name in OWN_VOLUMES and name not in _ROLES:
            yield Mistake(where, "is the name of a volume of the run itself", "runs, cache, data or another name")
        elif not LABEL.fullmatch(name):
            yield Mistake(where, f"{name!r} is not a valid name of a volume", "at most 63 lower case letters, digits and '-'")
        elif isinstance(given, Mapping):
            yield from _wrong_source(name, given, where)
    yield from _conflicts(experiment)


def _wrong_source(name: str, given: Mapping[str, Any], where: str) -> Iterator[Mistake]:
    source = {key: value for key, value in given.items() if key not in _OURS}
    if name in _ROLES and "path" in given:
        yield Mistake(f"{where}.path", f"{name} is always mounted at {_ROLES[name]}", "no path")
    if len(source) != 1 or "name" in source:
        kinds = ", ".join(key for key, value in source.items()) or "none"
        yield Mistake(where, f"must have exactly one kind of volume, has {kinds}", _EXAMPLE)
        return
    (kind,) = source
    if kind == "hostPath":
        yield Mistake(
            f"{where}.hostPath", "is refused: folders of a node are not mounted", hint="use a claim, nfs, csi or ephemeral"
        )
    elif field("Volume", kind) is None:
        yield Mistake(f"{where}.{kind}", "is not a kind of volume", _EXAMPLE)
    elif not isinstance(source[kind], Mapping):
        yield Mistake(f"{where}.{kind}", "must be a mapping", found=str(source[kind]))
    else:
        yield from wrong_fields(source[kind], field("Volume", kind) or "any", f"{where}.{kind}")
    for key in ("path", "sub_path"):
        if key in given and not (isinstance(given[key], str) and given[key]):
            yield Mistake(f"{where}.{key}", "must be a path", found=str(given[key]))
    if not isinstance(given.get("read_only", False), bool):
        yield Mistake(f"{where}.read_only", "must be true or false", found=str(given["read_only"]))


def _conflicts(experiment: Experiment) -> Iterator[Mistake]:
    """Own volumes that would be mounted over something else."""
    taken = list(OWN_VOLUMES.values())
    for name, given in experiment.launch.kubernetes.volumes.items():
        path = given.get("path", f"{VOLUMES}/{name}") if isinstance(given, Mapping) else f"{VOLUMES}/{name}"
        if name in _ROLES or not isinstance(path, str):
            continue
        if (why := conflict(path, taken)) is not None:
            yield Mistake(f"{SETTING}.{name}.path", why, f"another path, such as /mnt/{name}", path)
        taken.append(path)
