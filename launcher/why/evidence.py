"""What was seen of a run, on whatever it runs, and what is made of it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Explanation:
    """``cause`` is a word that programs may read; ``sentence`` says what is the matter, ``suggestion`` what to do."""

    cause: str
    sentence: str
    suggestion: str


@dataclass(frozen=True)
class Condition:
    """One of an object's conditions, in Kubernetes' words; ``is_true`` is its status."""

    type: str
    is_true: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Event:
    """Something that a cluster's controller said of an object. ``time`` is UTC in ISO form."""

    kind: str
    name: str
    reason: str
    message: str
    time: str = ""


@dataclass(frozen=True)
class Container:
    """A container's state: ``waiting``, ``running`` or ``terminated``. ``message``: what it, or the machine, said of that."""

    state: str
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    ended: str = ""

    @property
    def said(self) -> dict[str, Any]:
        """What the entry wrote as its last word: ``code``, ``sentence``, ``state``; empty if it wrote none."""
        with suppress(ValueError):
            said = json.loads(self.message.strip().splitlines()[-1] if self.message.strip() else "")
            return said if isinstance(said, dict) and "code" in said else {}
        return {}


@dataclass(frozen=True)
class Pod:
    """One pod. ``index`` is its node of the run, counted from 0, None where nobody says; ``host`` is the machine it was given.

    ``reason`` and ``message`` are the pod's own words, as of an eviction.
    """

    name: str
    phase: str
    index: int | None = None
    host: str | None = None
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    container: Container | None = None
    created: str = ""
    is_deleted: bool = False

    def condition(self, kind: str) -> Condition | None:
        return next((one for one in self.conditions if one.type == kind), None)


@dataclass(frozen=True)
class Evidence:
    """All that could be read of a run; what could not is in ``unseen``, each in a few words.

    ``state``, ``exit_code`` and ``sentence`` are what the run's backend and record say of it. ``lines`` are the last ones of its
    log. ``since`` is the number of seconds since it last said something, None where that is not known. ``memory`` and ``gpus``
    are what a node of it asks for. ``conditions`` are those of its Job or JobSet, ``workload`` and ``local_queue`` those of
    Kueue's objects.
    """

    run: str
    backend: str  # host, docker or kubernetes
    state: str
    exit_code: int | None = None
    sentence: str | None = None
    key: str | None = None
    step: int | None = None
    total_steps: int | None = None
    since: float | None = None
    lines: tuple[str, ...] = ()
    memory: str | None = None
    gpus: int = 0
    image: str | None = None
    namespace: str | None = None
    nodes: int = 1
    pods: tuple[Pod, ...] = ()
    conditions: tuple[Condition, ...] = ()
    events: tuple[Event, ...] = ()
    queue: str | None = None
    workload: tuple[Condition, ...] = ()
    local_queue: tuple[Condition, ...] = ()
    is_suspended: bool = False
    unseen: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] | None = None  # names, oldest first, of a run that is over; None where they cannot be seen

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "stopped", "aborted", "lost")

    @property
    def kubectl(self) -> str:
        """How a command line of kubectl begins that looks into the run's namespace."""
        return f"kubectl -n {self.namespace}" if self.namespace else "kubectl"

    @property
    def newest(self) -> list[Pod]:
        """The newest pod of each node; older ones are those of earlier attempts."""
        by_index = {pod.index or 0: pod for pod in sorted(self.pods, key=lambda pod: (pod.created, pod.name))}
        return [by_index[index] for index in sorted(by_index)]

    @property
    def failed(self) -> list[Pod]:
        """Pods of any attempt that have failed, the last one first."""
        failed = [pod for pod in self.pods if pod.phase == "Failed"]
        return sorted(failed, key=lambda pod: (pod.container.ended if pod.container else "", pod.created), reverse=True)

    def events_of(self, *reasons: str) -> list[Event]:
        """Events with one of these reasons, the newest first."""
        return sorted((one for one in self.events if one.reason in reasons), key=lambda one: one.time, reverse=True)
