"""Why a run is as it is: one sentence, and one suggestion, from what was seen of it. Pure, and the same for every backend."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from .ending import ended, leaving, restarted
from .evidence import Condition, Container, Event, Evidence, Explanation, Pod
from .resuming import begins, resuming
from .waiting import waiting

_RESUMABLE = ("failed", "hung", "killed", "peer", "restarts")
_SILENT = 900  # seconds without a word after which a run that trains is worth a look


def explain(seen: Evidence) -> Explanation:
    """The one cause that explains the most of what was seen."""
    if seen.state == "done":
        here = f"its adapter is in the folder that `launcher status {seen.run}` names"
        there = f"`launcher download {seen.run}` brings its adapter here"
        return Explanation("done", f"{seen.run} is done{_at(seen)}", there if seen.namespace else here)
    if seen.is_over:
        end = ended(seen)
        # The same experiment may end otherwise next time: a machine, a network or another rank was the cause.
        return replace(end, suggestion=f"{end.suggestion}; {resuming(seen)}") if end.cause in _RESUMABLE else end
    if seen.state == "unknown":
        return Explanation(
            "unknown", f"{seen.run} is {seen.sentence or 'out of sight'}", "ask on the machine where it was started"
        )
    if seen.state == "stopping":
        failing = any(one.type == "FailureTarget" and one.is_true for one in seen.conditions)
        if failing and (why := restarted(seen)) is not None:
            return why
        return Explanation(
            "stopping", f"{seen.run} was asked to stop, and writes a checkpoint", "wait; `launcher stop --now` kills it at once"
        )
    return leaving(seen) or waiting(seen) or _starting(seen) or _running(seen)


def _starting(seen: Evidence) -> Explanation | None:
    """What a run does before its first step, where nothing is wrong."""
    if seen.state != "starting":
        return None
    pending = [pod for pod in seen.newest if pod.phase == "Pending"]
    pulling = {event.name for event in seen.events_of("Pulling")} - {event.name for event in seen.events_of("Pulled")}
    if late := [pod for pod in pending if pod.name in pulling]:
        on = f" on {late[0].host}" if late[0].host else ""
        return Explanation(
            "pulling",
            f"{seen.run} is being started: its image is being pulled{on}",
            "wait: minutes the first time, seconds later on",
        )
    last = restarted(seen)
    if last is not None:
        return Explanation("restarting", f"{seen.run} is being started again, because {last.sentence}", last.suggestion)
    if pending:
        names = ", ".join(pod.name for pod in pending)
        return Explanation(
            "starting",
            f"{seen.run} is being started: {names} {'is' if len(pending) == 1 else 'are'} not running yet",
            "wait a little",
        )
    if seen.backend == "kubernetes" and not seen.pods:
        return Explanation("starting", f"{seen.run} is being started: it has no pods yet", "wait a little")
    return Explanation(
        "starting", f"{seen.run} is being started", f"wait a little; `launcher logs -f {seen.run}` shows what it says"
    )


def _running(seen: Evidence) -> Explanation:
    ago = "" if seen.since is None else f", and said something {_duration(seen.since)} ago"
    last = restarted(seen)
    times = max(Counter(pod.index for pod in seen.failed).values(), default=0)  # a gang falls together
    again = (
        ""
        if last is None
        else f"; it was restarted {'once' if times == 1 else f'{times} times, the last time'} because {last.sentence}"
    )
    if seen.since is not None and seen.since > _SILENT:
        sentence = f"{seen.run} runs{_at(seen)}, but has said nothing for {_duration(seen.since)}{again}"
        return Explanation(
            "silent",
            sentence,
            f"`launcher logs {seen.run} --rank all` shows the last words of each rank; ddp_timeout ends one that hangs",
        )
    return Explanation(
        "running", f"{seen.run} runs{_at(seen)}{ago}{again}", f"nothing to do; `launcher logs -f {seen.run}` follows it"
    )


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


__all__ = ["Condition", "Container", "Event", "Evidence", "Explanation", "Pod", "begins", "explain"]
