"""Why a run, or an attempt of it, ended: what took it away, what it said itself, and what its last lines show."""

from __future__ import annotations

import re
from typing import Final

from .evidence import Condition, Container, Evidence, Explanation, Pod
from .lines import CREDENTIAL, LESS_MEMORY, in_lines
from .resuming import resuming
from .waiting import not_created, refusal

# Exit code -> a word, how the sentence begins, and what to do. The rest of the sentence is the run's own.
_CODES: Final = {
    2: ("usage", "the command line is wrong", "`launcher render` shows what was started"),
    42: ("experiment", "the experiment is wrong", "correct it, see `launcher check`, and start a new run"),
    43: ("data", "the data are wrong", "correct the rows that are named, see `launcher check`, and start a new run"),
    44: ("credential", "a credential is missing or refused", CREDENTIAL),
    45: ("gpu-memory", "out of memory on the device", LESS_MEMORY),
    46: ("health", "a health rule stopped it", "`launcher tensorboard` shows its last steps; often a lower learning_rate helps"),
    47: ("upload", "trained, but not uploaded", "the adapter is in the run's folder; `launcher resume` only uploads"),
    130: ("aborted", "killed at once on request", ""),  # what to do is for ``resuming`` to say
}  # fmt: skip


def ended(seen: Evidence) -> Explanation:
    """Why a run is over that is not done."""
    if seen.state == "aborted":  # its pods only show that they were killed
        return of_code(seen, 130, seen.sentence or "", ())
    return _stopped(seen) or _of_pods(seen) or _of_object(seen) or _of_record(seen)


def restarted(seen: Evidence) -> Explanation | None:
    """Why the last attempt of a run ended that goes on by now."""
    return next((why for pod in seen.failed[:1] if (why := _of_pod(seen, pod)) is not None), None)


def leaving(seen: Evidence) -> Explanation | None:
    """What takes a pod away that has not ended yet; one on a node that does not answer stays so, and nothing takes its place."""
    for pod in seen.newest:
        disrupted = _disrupted(pod)
        if disrupted is None or pod.phase in ("Failed", "Succeeded"):
            continue
        if disrupted.reason in ("DeletionByTaintManager", "DeletionByPodGC"):
            what = f"{pod.name} is on node{_named(pod)}, which does not answer: no other pod takes its place before it is gone"
            suggestion = (
                f"wait for the node, or, if it is really down, `{seen.kubectl} delete pod {pod.name} --force --grace-period=0`"
            )
            return Explanation("node-lost", what, suggestion)
        return _by_reason(pod, disrupted, f" on {pod.host}" if pod.host else "")
    return None


def _stopped(seen: Evidence) -> Explanation | None:
    if seen.state == "stopped" and not any(_disrupted(pod) for pod in seen.newest):
        has_none = seen.checkpoints is not None and not seen.checkpoints
        at = f" after step {seen.step}" if seen.step else " before its first step" if has_none else ""
        return Explanation("stopped", f"{seen.run} was stopped on request{at}", resuming(seen))
    return None


def _of_pods(seen: Evidence) -> Explanation | None:
    """The cause among the last pods: what names itself comes before what only followed from it."""
    failed = [pod for pod in seen.newest if pod.phase == "Failed"] or seen.failed[: seen.nodes]
    said = [(pod, why) for pod in failed if (why := _of_pod(seen, pod)) is not None]
    if not said:
        return None
    said.sort(key=lambda one: (one[1].cause in _VAGUE, one[0].container.ended if one[0].container else ""))
    return said[0][1]


_VAGUE: Final = ("failed", "killed", "peer", "stopped")


def _of_pod(seen: Evidence, pod: Pod) -> Explanation | None:
    """Why a pod has failed, or None where it does not tell."""
    return _taken_away(seen, pod) or (_of_container(seen, pod, pod.container) if pod.container is not None else None)


def _of_container(seen: Evidence, pod: Pod, container: Container) -> Explanation | None:
    if container.state != "terminated" or container.exit_code in (None, 0):
        return None
    if container.reason == "OOMKilled":
        return out_of_memory(seen, pod.name)
    if container.reason in ("StartError", "ContainerCannotRun", "CreateContainerError"):
        return not_created(seen, pod.name, container.message)
    said = container.said
    code = container.exit_code or 1
    sentence = str(said["sentence"]) if said.get("sentence") else ""
    tail = () if said else tuple(container.message.splitlines())
    return of_code(seen, code, sentence, (*seen.lines, *tail))


def of_code(seen: Evidence, code: int, sentence: str, lines: tuple[str, ...]) -> Explanation:
    """What an exit code means, with the run's own sentence of it, or else what its last lines show."""
    first = sentence.strip().splitlines()[0].strip() if sentence.strip() else ""
    if code in _CODES:
        cause, meaning, suggestion = _CODES[code]
        detail = re.sub(r"^out of memory: .*?\((.*)\)$", r"\1", first)
        if not detail.startswith(meaning):
            detail = f"{meaning}: {detail}".replace(f"{meaning}: out of memory", meaning) if detail else meaning
        return Explanation(cause, detail, suggestion or resuming(seen))
    if code == 143:
        return Explanation("stopped", first or "it was stopped on request", resuming(seen))
    if (known := in_lines(seen, (first, *lines))) is not None:
        return known
    if code == 137:
        sentence = first or "it was killed (SIGKILL), and nobody has said why"
        return Explanation(
            "killed", sentence, "often the machine's memory ran out: raise launch.memory, or lower per_device_train_batch_size"
        )
    last = next((line for line in reversed(lines) if line.strip()), "")
    what = first or (f"its last line: {last.strip()}" if last else "and nobody has said why")
    return Explanation(
        "failed", f"it ended with exit code {code}: {what}", f"`launcher logs {seen.run} --rank all` shows the rest"
    )


def out_of_memory(seen: Evidence, what: str) -> Explanation:
    """The kernel has killed it because a node of the run has used more main memory than it may."""
    limit = f" of {seen.memory} (launch.memory)" if seen.memory else ""
    suggestion = "raise launch.memory, or lower launch.shm_size and dataloader_num_workers: /dev/shm counts, too"
    return Explanation("memory", f"{what} was killed: it used more main memory than its limit{limit}", suggestion)


def _disrupted(pod: Pod) -> Condition | None:
    found = pod.condition("DisruptionTarget")
    return found if found is not None and found.is_true else None


_RESUMES: Final = "nothing to do if it has restarts left: a new pod goes on from the last checkpoint; else `launcher resume`"


def _taken_away(seen: Evidence, pod: Pod) -> Explanation | None:
    """What the cluster did to a pod that did not end by itself."""
    words = " ".join(pod.message.split())
    on = f" on {pod.host}" if pod.host else ""
    if pod.reason == "Evicted" or words.startswith(("The node was low on resource", "Usage of EmptyDir")):
        return _evicted(seen, pod, words, on)
    if pod.reason in ("NodeLost", "NodeAffinity"):
        return Explanation("node-lost", f"{pod.name} is gone with its node{_named(pod)}: {words or pod.reason}", _RESUMES)
    if pod.reason in ("Shutdown", "Terminated", "NodeShutdown") or "imminent node shutdown" in words:
        return Explanation("node-shutdown", f"{pod.name} was ended because its node{_named(pod)} was shut down", _RESUMES)
    if pod.reason == "UnexpectedAdmissionError":
        suggestion = "its device plugin or driver does not work: choose another node, or tell its administrator"
        return Explanation(
            "gpu-driver", f"node{_named(pod)} took {pod.name} and could not give it its devices: {words}", suggestion
        )
    if pod.reason.startswith("OutOf"):
        what = f"node{_named(pod)} had no {pod.reason.removeprefix('OutOf')} left for {pod.name}: {words}"
        return Explanation("node-full", what, "nothing to do: another pod is made; if it goes on, ask for less")
    disrupted = _disrupted(pod)
    return None if disrupted is None else _by_reason(pod, disrupted, on)


def _named(pod: Pod) -> str:
    return f" {pod.host}" if pod.host else ""


def _by_reason(pod: Pod, disrupted: Condition, on: str) -> Explanation:
    if disrupted.reason == "PreemptionByScheduler":
        suggestion = f"{_RESUMES}; a higher priority class protects it"
        return Explanation("preempted", f"{pod.name} had to make room{on} for a pod of higher priority", suggestion)
    if disrupted.reason == "EvictionByEvictionAPI":
        return Explanation(
            "drained", f"{pod.name} was evicted{on} by request: its node was drained, or an autoscaler took it", _RESUMES
        )
    if disrupted.reason in ("DeletionByTaintManager", "DeletionByPodGC"):
        return Explanation(
            "node-lost", f"{pod.name} is gone with its node{_named(pod)}, which does not answer any more or is removed", _RESUMES
        )
    said = " ".join(disrupted.message.split())
    return Explanation("evicted", f"{pod.name} was taken away{on} ({disrupted.reason}): {said}", _RESUMES)


def _evicted(seen: Evidence, pod: Pod, words: str, on: str) -> Explanation:
    if found := re.search(r'Usage of EmptyDir volume "([^"]+)" exceeds the limit "([^"]+)"', words):
        name, limit = found.groups()
        if "shm" in name:
            return Explanation(
                "shared-memory", f"{pod.name} was evicted: /dev/shm held more than {limit}", "raise launch.shm_size"
            )
        return Explanation(
            "evicted",
            f"{pod.name} was evicted: its folder {name} held more than {limit}",
            "write less there: /tmp and HOME are small",
        )
    if found := re.search(r"The node was low on resource: ([a-z-]+)", words):
        what, suggestion = {
            "memory": ("main memory", "set launch.memory to what it needs: then it is not the first to go"),
            "ephemeral-storage": (
                "disk",
                "caches belong on the cache claim (launch.kubernetes.volumes); or choose nodes with larger disks",
            ),
            "inodes": ("files on its disk", "choose nodes with larger disks"),
            "pids": ("process ids", "lower dataloader_num_workers"),
        }.get(found[1], (found[1], _RESUMES))
        return Explanation("evicted", f"{pod.name} was evicted because its node{_named(pod)} ran out of {what}", suggestion)
    if "ephemeral local storage usage exceeds" in words:
        return Explanation(
            "evicted", f"{pod.name} was evicted: {words}", "caches belong on the cache claim (launch.kubernetes.volumes)"
        )
    return Explanation("evicted", f"{pod.name} was evicted{on}: {words}", _RESUMES)


def _of_object(seen: Evidence) -> Explanation | None:
    """What the Job or JobSet says of its end, where its pods are gone or say nothing."""
    failed = next((one for one in seen.conditions if one.type in ("Failed", "FailureTarget") and one.is_true), None)
    if failed is None:
        return None
    if failed.reason == "DeadlineExceeded":
        return Explanation("deadline", f"{seen.run} took longer than its deadline allows", resuming(seen))
    if (found := re.search(r"failed with exit code (\d+)", failed.message)) is not None:
        return of_code(seen, int(found[1]), seen.sentence or "", seen.lines)
    if refused := seen.events_of("FailedCreate"):
        return refusal(seen, refused[0].message)
    if failed.reason in ("BackoffLimitExceeded", "ReachedMaxRestarts", "MaxFailedIndexesExceeded"):
        if seen.exit_code not in (None, 0, 1) or seen.sentence or in_lines(seen, seen.lines) is not None:
            return of_code(seen, seen.exit_code or 1, seen.sentence or "", seen.lines)
        what = f"{seen.run} failed more often than launch.max_restarts allows, and its pods are gone"
        return Explanation("restarts", what, f"`launcher logs {seen.run} --rank all` shows what they said")
    return None


def _of_record(seen: Evidence) -> Explanation:
    """What the run's record says, as a host process and a container have one that is all that is left."""
    sentence = seen.sentence or ""
    if seen.state == "lost":
        what = sentence or (
            "its Job is gone from the cluster" if seen.backend == "kubernetes" else "its process is gone without a word"
        )
        return Explanation("lost", f"{seen.run} is lost: {what}", resuming(seen))
    if re.match(r"the kernel killed it: the memory of launch\.memory .* ran out", sentence):
        return out_of_memory(seen, seen.run)
    return of_code(seen, seen.exit_code or 1, sentence, seen.lines)
