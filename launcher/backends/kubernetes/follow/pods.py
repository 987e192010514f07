"""A run's pods, from the API's objects: which node of the run each one is, and its state. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ....errors import STAYS_STOPPED
from ....why import Condition, Container, Pod
from ....why.codes import FINAL
from ....why.creation import not_begun
from ....why.gang import is_of_a_peer

_INDEX: Final = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class Ending:
    """How a pod's entry ended: ``state`` is what it reported, else what the exit code means.

    ``is_consequence``: it ended because another pod of the run had ended.
    """

    code: int
    sentence: str | None
    state: str
    is_consequence: bool = False


def pod_of(obj: Mapping[str, Any], container: str) -> Pod:
    """``obj`` is a pod from the API, ``container`` the name of the one that counts."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    return Pod(
        name=metadata["name"],
        phase=str(status.get("phase") or "Pending"),
        index=_index(metadata),
        host=(obj.get("spec") or {}).get("nodeName"),
        reason=str(status.get("reason") or ""),
        message=str(status.get("message") or ""),
        conditions=conditions_of(obj),
        container=_container(status, container),
        created=str(metadata.get("creationTimestamp") or ""),
        is_orphan=not metadata.get("ownerReferences"),
        selector=tuple(f"{key}={value}" for key, value in ((obj.get("spec") or {}).get("nodeSelector") or {}).items()),
    )


def reason(pod: Pod) -> str:
    """The reason for a pod's state: its container's, its own, or why it has no node."""
    scheduled = pod.condition("PodScheduled")
    words = [pod.container.reason] if pod.container is not None and pod.container.state != "running" else []
    words += [pod.reason] + ([scheduled.reason] if scheduled is not None and not scheduled.is_true else [])
    return next(filter(None, words), "")


def conditions_of(obj: Mapping[str, Any]) -> tuple[Condition, ...]:
    """The conditions of any object."""
    return tuple(
        Condition(str(c["type"]), c.get("status") == "True", str(c.get("reason") or ""), str(c.get("message") or ""))
        for c in (obj.get("status") or {}).get("conditions") or []
    )


def newest(pods: Iterable[Pod]) -> list[Pod]:
    """The newest pod of each node of the run, in the order of the nodes: restarts leave older pods behind."""
    found: dict[int, Pod] = {}
    for pod in sorted(pods, key=lambda pod: (pod.created, pod.name)):
        found[pod.index or 0] = pod
    return [found[index] for index in sorted(found)]


def is_running(pod: Pod) -> bool:
    return pod.phase == "Running" and pod.container is not None and pod.container.state == "running"


def has_started(pod: Pod) -> bool:
    """Whether it has a log: its container runs, or has run."""
    return pod.container is not None and pod.container.has_begun


def has_ended(pod: Pod) -> bool:
    """Whether its container has ended and will not start again."""
    return pod.phase in ("Succeeded", "Failed") or (
        pod.container is not None and pod.container.state == "terminated" and not pod.container.init
    )


def ending(pod: Pod) -> Ending | None:
    """How ``pod`` ended, or None while it has not."""
    if not has_ended(pod):
        return None
    end = pod.container if pod.container is not None and pod.container.state == "terminated" else None
    if end is None:  # e.g. evicted before its container was created
        code = 0 if pod.phase == "Succeeded" else 137
        return Ending(code, pod.message or pod.reason or None, _state(code))
    if end.init:
        return Ending(1, not_begun(pod.name, end), "failed")
    code = end.exit_code or 0
    said = end.said
    if said:
        sentence = str(said["sentence"] or "")
        falls = bool(said.get("is_consequence")) or is_of_a_peer(sentence)
        return Ending(int(said["code"]), sentence or None, str(said["state"] or _state(code)), falls)
    if code == STAYS_STOPPED:
        return Ending(143, "stopped on request", "stopped")
    if end.reason == "OOMKilled":
        return Ending(code or 137, "killed: it exceeded its memory limit (launch.memory)", "failed")
    # Without last words the message is the end of the log, except where the container never ran.
    told = end.message.strip().splitlines()[-1:] if end.is_told else []
    sentence = next(filter(None, (*told, pod.message)), "") if code else ""
    falls = code not in (0, 137) and is_of_a_peer(end.message)
    return Ending(code, sentence or _why(pod, end, code), _state(code), falls)


def first_ending(pods: Sequence[Pod]) -> Ending | None:
    """How the pods of a run ended: as the pod that failed first. A pod that only fell with another one comes after all others; of
    several in the same second, a pod whose exit code forbids a restart comes first."""
    there = newest(pods)
    ended = [(pod, end) for pod in there if (end := ending(pod)) is not None]
    failed = [(pod.container.ended if pod.container else "", end) for pod, end in ended if end.code]
    # The newest pod of a node may be of an earlier attempt, if its last pod was deleted when a peer failed.
    latest = max((pod.created for pod in there), default="")
    if failed := [one for one in failed if not one[0] or one[0] >= latest] or failed:
        return min(failed, key=lambda one: (one[1].is_consequence, one[0], one[1].code not in FINAL))[1]
    return ended[0][1] if ended else None


def _container(status: Mapping[str, Any], name: str) -> Container | None:
    """The container ``name``, or the init container that keeps it from starting."""
    found = next((one for one in status.get("containerStatuses") or [] if one.get("name") == name), None)
    own = None if found is None else _of_status(found)
    return own if own is not None and own.state != "waiting" else _init(status) or own


def _init(status: Mapping[str, Any]) -> Container | None:
    """The first init container that cannot start, or has failed."""
    for one in status.get("initContainerStatuses") or []:
        found = replace(_of_status(one), init=str(one.get("name") or "init"))
        if found.state == "terminated" and found.exit_code:
            return found
        if found.state == "waiting" and found.reason not in ("", "PodInitializing", "ContainerCreating"):
            last = (one.get("lastState") or {}).get("terminated") or {}
            crashed = found.reason == "CrashLoopBackOff"
            return replace(found, exit_code=last.get("exitCode"), message=str(last.get("message") or "")) if crashed else found
    return None


def _of_status(found: Mapping[str, Any]) -> Container:
    state, said = next(iter((found.get("state") or {"waiting": {}}).items()))
    return Container(
        state=state,
        reason=str(said.get("reason") or ""),
        message=str(said.get("message") or ""),
        exit_code=said.get("exitCode"),
        ended=str(said.get("finishedAt") or ""),
        started=str(said.get("startedAt") or ""),
    )


def _index(metadata: Mapping[str, Any]) -> int:
    said = (metadata.get("labels") or {}).get(_INDEX) or (metadata.get("annotations") or {}).get(_INDEX) or ""
    return int(said) if said.isdecimal() else 0


def _why(pod: Pod, end: Container, code: int) -> str | None:
    if code == 0:
        return None
    if code == 137:
        return f"{pod.name}{f' on {pod.host}' if pod.host else ''} was killed from outside (SIGKILL)"
    return f"its container exited with {code}" + (f" ({end.reason})" if end.reason not in ("", "Error") else "")


def _state(code: int) -> str:
    return {0: "done", 130: "aborted", 143: "stopped"}.get(code, "failed")
