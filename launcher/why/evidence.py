"""What was seen of a run, on whatever it runs: the material of :func:`launcher.why.explain`."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    is_warning: bool = True


@dataclass(frozen=True)
class Container:
    """A container's state: ``waiting``, ``running`` or ``terminated``. ``message``: what it, or the machine, said of that."""

    state: str
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    ended: str = ""


@dataclass(frozen=True)
class Pod:
    """One pod. ``index`` is its node of the run, counted from 0; ``host`` is the machine that it was given."""

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


@dataclass(frozen=True)
class Evidence:
    """All that could be read of a run; what could not is in ``unseen``, each in a few words.

    ``state``, ``exit_code`` and ``sentence`` are what the run's backend and record say of it. ``lines`` are the last ones of its
    log. ``since`` is the number of seconds since it last said something, None where that is not known. ``memory``,
    ``shm_size`` and ``gpus`` are what a node of it may have.
    """

    run: str
    backend: str  # host, docker or kubernetes
    state: str
    exit_code: int | None = None
    sentence: str | None = None
    step: int | None = None
    total_steps: int | None = None
    since: float | None = None
    lines: tuple[str, ...] = ()
    memory: str | None = None
    shm_size: str | None = None
    gpus: int = 0
    image: str | None = None
    namespace: str | None = None
    nodes: int = 1
    pods: tuple[Pod, ...] = ()
    conditions: tuple[Condition, ...] = ()
    events: tuple[Event, ...] = ()
    queue: str | None = None
    workload: tuple[Condition, ...] = ()
    is_queue_active: bool | None = None
    queue_message: str = ""
    oom_killed: bool = False
    unseen: tuple[str, ...] = field(default=())
