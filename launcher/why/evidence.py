"""Evidence about a run on any backend, and its explanation."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

LAST_WORDS: Final = frozenset(("code", "sentence", "state"))  # by these keys the entry's last words are recognised
UNTOUCHED: Final = 60.0  # seconds in which a controller that works has written a status: it takes less than one


@dataclass(frozen=True)
class Explanation:
    """``cause``: a word for programs; ``sentence``: what happened; ``suggestion``: what to do, with the command last."""

    cause: str
    sentence: str
    suggestion: str


@dataclass(frozen=True)
class Condition:
    """A condition of a Kubernetes object; ``is_true`` is its status."""

    type: str
    is_true: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Event:
    """An event of a Kubernetes object. ``time`` is UTC in ISO form."""

    kind: str
    name: str
    reason: str
    message: str
    time: str = ""


@dataclass(frozen=True)
class Container:
    """A container's state: ``waiting``, ``running`` or ``terminated``. ``message``: from the container, or the kubelet.

    ``init``: the name of an init container that keeps the run's own from starting and is reported instead; else empty.
    """

    state: str
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    ended: str = ""
    started: str = ""
    init: str = ""

    @property
    def has_begun(self) -> bool:
        """Whether the run's own container runs, or has run."""
        return self.state in ("running", "terminated") and not self.init

    @property
    def said(self) -> dict[str, Any]:
        """The entry's termination message: one line of JSON with exactly the keys in ``LAST_WORDS`` (perhaps ``is_consequence``).

        Empty if it left none: then the kubelet may have taken the end of the log as the message, and nothing in it was meant as a
        sentence, even if it is JSON.
        """
        with suppress(ValueError):
            said = json.loads(self.message.strip().splitlines()[-1] if self.message.strip() else "")
            return said if isinstance(said, dict) and said.keys() - {"is_consequence"} == LAST_WORDS else {}
        return {}

    @property
    def is_told(self) -> bool:
        """Whether ``message`` is from the kubelet or the runtime, and says why no container ran."""
        return self.reason not in ("", "Error", "Completed", "OOMKilled")


@dataclass(frozen=True)
class Pod:
    """One pod. ``index``: its node of the run, from 0, None if unknown; ``host``: the cluster's node that it is on.

    ``reason`` and ``message`` are the pod's own, e.g. of an eviction. ``is_orphan``: its Job was deleted without it
    (`kubectl delete --cascade=orphan`). ``selector``: labels that its node must have, ``key=value``.
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
    is_orphan: bool = False
    selector: tuple[str, ...] = ()

    def condition(self, kind: str) -> Condition | None:
        return next((one for one in self.conditions if one.type == kind), None)


@dataclass(frozen=True)
class Evidence:
    """Everything that could be read about a run; ``unseen`` lists what could not.

    ``state``, ``exit_code`` and ``sentence`` are from the run's backend and record. ``lines``: the last lines of its log;
    ``lines_of``: the pod that printed them, None if they are not those of one pod.
    ``since``: seconds since its last output, None if unknown. ``checkpoints``: names of the complete ones, oldest first, None if
    unknown. ``advice``: that of the health rule which stopped it. ``memory`` and ``gpus``: requested per node. ``conditions`` are
    those of its Job or JobSet, ``workload`` and ``local_queue`` those of Kueue's objects. ``kind``: Job or JobSet;
    ``age``: seconds since it was created or started again; ``is_untouched``: no controller has written its status. ``is_helper``:
    not a run, but a small pod that the launcher makes for it and removes, and whose requests nobody sets.
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
    checkpoints: tuple[str, ...] | None = None
    lines: tuple[str, ...] = ()
    lines_of: str | None = None
    advice: str | None = None
    memory: str | None = None
    gpus: int = 0
    image: str | None = None
    namespace: str | None = None
    nodes: int = 1
    pods: tuple[Pod, ...] = ()
    before: str | None = None  # how the attempt before ended, by the run's record, where no pod shows it
    conditions: tuple[Condition, ...] = ()
    events: tuple[Event, ...] = ()
    queue: str | None = None
    workload: tuple[Condition, ...] = ()
    local_queue: tuple[Condition, ...] = ()
    is_suspended: bool = False
    kind: str = "Job"
    age: float | None = None
    is_untouched: bool = False
    is_helper: bool = False
    parallel: int | None = None  # of a point of a sweep: how many run at the same time
    unseen: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "stopped", "aborted", "lost")

    @property
    def kubectl(self) -> str:
        """kubectl with the run's namespace."""
        return f"kubectl -n {self.namespace}" if self.namespace else "kubectl"

    @property
    def whose_pods(self) -> str:
        return self.run if self.is_helper else "the run's pods"

    def called(self, pod: str) -> str:
        """The pod's name in a sentence; a helper's name means nothing to the user and is left out."""
        return self.run if self.is_helper else pod

    def look(self, pod: str) -> str:
        """The command that shows more about a pod; empty for a helper, which is removed by then."""
        return "" if self.is_helper else f"see its events with: {self.kubectl} describe pod {pod}"

    @property
    def is_ignored(self) -> bool:
        """Whether no controller has written the object's status although it had time to."""
        return self.is_untouched and self.age is not None and self.age > UNTOUCHED

    @property
    def has_started(self) -> bool:
        """Whether a pod of it has a container that runs or has run."""
        return any(pod.container is not None and pod.container.has_begun for pod in self.newest)

    @property
    def newest(self) -> list[Pod]:
        """The newest pod of each node; older ones are of earlier attempts."""
        by_index = {pod.index or 0: pod for pod in sorted(self.pods, key=lambda pod: (pod.created, pod.name))}
        return [by_index[index] for index in sorted(by_index)]

    @property
    def failed(self) -> list[Pod]:
        """Failed pods of any attempt, the newest first."""
        failed = [pod for pod in self.pods if pod.phase == "Failed"]
        return sorted(failed, key=lambda pod: (pod.container.ended if pod.container else "", pod.created), reverse=True)

    def events_of(self, *reasons: str) -> list[Event]:
        """Events with one of these reasons, the newest first."""
        return sorted((one for one in self.events if one.reason in reasons), key=lambda one: one.time, reverse=True)
