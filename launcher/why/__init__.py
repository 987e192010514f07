"""Explains why a run waits, runs or ended: one sentence and one suggestion, from evidence of any backend. Pure.

Others take ``explain`` and its parts ``waiting`` and ``refusal``, ``begins``, ``Evidence``, ``Explanation``, ``Pod``,
``Container``, ``Condition`` and ``Event``. ``doctor`` holds the checkup of a machine or a cluster (``machine`` and ``namespace``
its findings), ``codes`` the exit codes, ``known`` what a message of another program is, ``image.WAITING`` the reasons of a failed
image pull.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from .ending import ended, leaving, restarted
from .evidence import Condition, Container, Event, Evidence, Explanation, Pod
from .refusal import refusal
from .resuming import begins, resuming
from .waiting import waiting

# The same experiment may end otherwise next time: a machine, a network, a disk or another rank was the cause.
_RESUMABLE = ("credential", "disk", "failed", "gpu-error", "hung", "init", "killed", "network", "peer", "rendezvous", "restarts")
_FIRST_LINE = 120  # seconds in which an image of ours has printed something
_SILENT = 900  # seconds without output after which a training run looks stuck


def explain(seen: Evidence) -> Explanation:
    """The one cause that explains most of the evidence."""
    if seen.state == "done":
        command = f"copy its adapter to this machine with: launcher download {seen.run}"
        return Explanation("done", f"{seen.run} is done{_at(seen)}", command if seen.namespace else _look_at_it(seen))
    if seen.is_over:
        why = ended(seen)
        return replace(why, suggestion=f"{why.suggestion}; {resuming(seen)}") if why.cause in _RESUMABLE else why
    if seen.state == "unknown":
        sentence = f"the state of {seen.run} is unknown: {seen.sentence or 'it cannot be seen from here'}"
        return Explanation("unknown", sentence, "on the machine where it was started, run: launcher status " + seen.run)
    if seen.state == "stopping":
        return _stopping(seen)
    return leaving(seen) or waiting(seen) or _starting(seen) or _running(seen)


def _look_at_it(seen: Evidence) -> str:
    return f"see what it learned with: launcher learned {seen.run}"


def _stopping(seen: Evidence) -> Explanation:
    failing = any(one.type == "FailureTarget" and one.is_true for one in seen.conditions)
    if failing and (why := restarted(seen)) is not None:
        return why
    kill = f"wait, or kill it with: launcher stop --now {seen.run}"
    if seen.backend == "kubernetes" and not seen.has_started:
        return Explanation("stopping", f"{seen.run} is stopping: its pods are being deleted", kill)
    return Explanation("stopping", f"{seen.run} is stopping: it writes a checkpoint", kill)


def _starting(seen: Evidence) -> Explanation | None:
    """What a healthy run does before its first step."""
    if seen.state != "starting":
        return None
    pending = [pod for pod in seen.newest if pod.phase == "Pending"]
    pulling = {event.name for event in seen.events_of("Pulling")} - {event.name for event in seen.events_of("Pulled")}
    wait = f"wait; follow it with: launcher logs -f {seen.run}"
    if late := [pod for pod in pending if pod.name in pulling]:
        on = f" on {late[0].host}" if late[0].host else ""
        longer = f"wait: the first pull takes minutes; follow it with: launcher logs -f {seen.run}"
        return Explanation("pulling", f"{seen.run} is starting: its image is being pulled{on}", longer)
    if (last := restarted(seen)) is not None:
        return Explanation("restarting", f"{seen.run} is restarting: {last.sentence}", last.suggestion)
    if seen.before is not None:
        return Explanation("restarting", f"{seen.run} is restarting: {seen.before}", wait)
    if pending:
        names = ", ".join(pod.name for pod in pending)
        are = "is" if len(pending) == 1 else "are"
        return Explanation("starting", f"{seen.run} is starting: {names} {are} not running yet", wait)
    if seen.parallel is not None and not seen.pods:
        turn = f"{seen.run} waits for its turn: {seen.parallel} of its sweep's points run at the same time"
        return Explanation("turn", turn, wait)
    if seen.is_ignored and not seen.pods:
        return _ignored(seen)
    if seen.backend == "kubernetes" and not seen.pods:
        return Explanation("starting", f"{seen.run} is starting: it has no pods yet", wait)
    return Explanation("starting", f"{seen.run} is starting", wait)


def _ignored(seen: Evidence) -> Explanation:
    """A Job or JobSet that no controller works on."""
    what = (
        f"{seen.run} waits for a controller: nothing in the cluster has acted on its {seen.kind} for {_duration(seen.age or 0)}"
    )
    if seen.kind == "Job":
        return Explanation("no-controller", what, "tell the cluster's administrator: its controller manager does not work")
    again = f"submit it again with --kind job, which needs no add-on, after: launcher stop {seen.run}"
    return Explanation("no-controller", f"{what}; its CRD is installed, but its controller seems to be down", again)


def _orphaned(seen: Evidence) -> Explanation | None:
    """Pods that run on without their Job."""
    there = [pod for pod in seen.newest if pod.is_orphan and pod.phase == "Running"]
    if not there or seen.age is not None:  # it has its Job
        return None
    sentence = f"{seen.run} runs{_at(seen)}, but its Job was deleted without its pods: nothing restarts them"
    return Explanation("orphaned", sentence, f"let it end, or stop it after a checkpoint with: launcher stop {seen.run}")


def _running(seen: Evidence) -> Explanation:
    if (why := _orphaned(seen)) is not None:
        return why
    last = restarted(seen)
    times = max(Counter(pod.index for pod in seen.failed).values(), default=0)  # the pods of all nodes fail together
    again = f"; restarted: {seen.before}" if seen.before is not None else ""
    if last is not None:
        again = f"; restarted {'once' if times == 1 else f'{times} times, last'}: {last.sentence}"
    has_printed = bool(seen.lines) or seen.step is not None
    if not has_printed and seen.since is not None and seen.since > _FIRST_LINE:
        sentence = f"{seen.run} runs, but has printed nothing since it started {_duration(seen.since)} ago"
        image = f" ({seen.image})" if seen.image else ""
        made = f"check that launch.image{image} is made with launcher build; look inside with: launcher shell {seen.run}"
        return Explanation("silent", sentence, made)
    if seen.since is not None and seen.since > _SILENT:
        sentence = f"{seen.run} runs{_at(seen)}, but has printed nothing for {_duration(seen.since)}{again}"
        look = f"see the last lines of each rank (ddp_timeout ends one that hangs) with: launcher logs {seen.run} --rank all"
        return Explanation("silent", sentence, look)
    ago = "" if seen.since is None or not has_printed else f", last output {_duration(seen.since)} ago"
    return Explanation("running", f"{seen.run} runs{_at(seen)}{ago}{again}", f"follow it with: launcher logs -f {seen.run}")


def _at(seen: Evidence) -> str:
    if seen.step is None:
        return ""
    of = "" if seen.total_steps is None else f" of {seen.total_steps}"
    return f": step {seen.step}{of}"


def _duration(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


__all__ = ["Condition", "Container", "Event", "Evidence", "Explanation", "Pod", "begins", "explain", "refusal", "waiting"]
