"""Why a run or an attempt ended: by its pods' end, its own report and its last log lines."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from ..errors import STAYS_STOPPED
from .codes import CODES
from .creation import not_created, of_init
from .evidence import Condition, Container, Evidence, Explanation, Pod
from .gang import ended_at, is_of_a_peer, order
from .lines import error_in, in_lines, onward, there
from .refusal import refusal
from .resuming import resuming

# Codes that tell the cause alone. The rest of the sentence is the run's own.
_TELLING: Final = (2, *range(42, 49), 130)

_SHARED: Final = re.compile(r"request for '([^']+)' too large: maximum request size for shared resources is 1")

ANOTHER: Final = "exists already, with another experiment"
_TWO_WAYS: Final = "resume the earlier one with: launcher resume RUN, or submit again with another --name"
_BASE_NOT_FINITE: Final = "the base model's log-probability is not finite"  # as trainer.reference says it
_NO_SHORTAGE: Final = "memory had not run out"
_WHO_KILLED: Final = "find out who killed it: a person, a batch system, or a limit of the machine"


def ended(seen: Evidence) -> Explanation:
    """Why a run ended before it was done."""
    if seen.state == "aborted":  # its pods only show that they were killed
        return of_code(seen, 130, seen.sentence or "", ())
    return _stopped(seen) or _of_pods(seen) or _of_object(seen) or _of_record(seen)


def restarted(seen: Evidence) -> Explanation | None:
    """Why a restarted run's last attempt ended: the first failure among the last failed pods of all nodes."""
    last: dict[int, Pod] = {}
    for pod in seen.failed:
        last.setdefault(pod.index or 0, pod)
    newest = max((pod.created for pod in last.values()), default="")  # a pod that ended before is of an earlier attempt
    return _first(seen, [pod for pod in last.values() if not ended_at(pod) or ended_at(pod) >= newest])


def leaving(seen: Evidence) -> Explanation | None:
    """Why a running pod is being deleted. On a node that does not answer it stays and is not replaced."""
    for pod in seen.newest:
        disrupted = _disrupted(pod)
        if disrupted is None or pod.phase in ("Failed", "Succeeded"):
            continue
        if disrupted.reason in ("DeletionByTaintManager", "DeletionByPodGC"):
            what = f"{pod.name} is on node{_named(pod)}, which does not answer: it is not replaced until it is deleted"
            delete = f"{seen.kubectl} delete pod {pod.name} --force --grace-period=0"
            return Explanation("node-lost", what, f"wait for the node; if it is down, run: {delete}")
        return _by_reason(seen, pod, disrupted, f" on {pod.host}" if pod.host else "")
    return None


def _stopped(seen: Evidence) -> Explanation | None:
    if seen.state == "stopped" and not any(_disrupted(pod) for pod in seen.newest):
        at = f" after step {seen.step}" if seen.step else ""
        at = " before its first step" if seen.checkpoints == () and not seen.step else at
        return Explanation("stopped", f"{seen.run} was stopped on request{at}", resuming(seen))
    return None


def _of_pods(seen: Evidence) -> Explanation | None:
    """The cause among the last pods: a pod that reports a cause comes before pods that only failed with it."""
    return _first(seen, [pod for pod in seen.newest if pod.phase == "Failed"] or seen.failed[: seen.nodes])


def _first(seen: Evidence, failed: list[Pod]) -> Explanation | None:
    """Why the first pod of a gang failed; None if none shows that."""
    said = [(pod, why) for pod in failed if (why := _of_pod(seen, pod)) is not None]
    if not said:
        return None
    causes = [(pod, why.cause) for pod, why in said]
    return min(said, key=lambda one: order(one[0], one[1].cause, causes))[1]


def _of_pod(seen: Evidence, pod: Pod) -> Explanation | None:
    """Why a pod failed; None if it does not show that."""
    return _taken_away(seen, pod) or (_of_container(seen, pod, pod.container) if pod.container is not None else None)


def _of_container(seen: Evidence, pod: Pod, container: Container) -> Explanation | None:
    if container.state != "terminated" or container.exit_code in (None, 0):
        return None
    if container.reason == "OOMKilled":
        return out_of_memory(seen, pod.name)
    if container.reason in ("StartError", "ContainerCannotRun", "CreateContainerError"):
        return not_created(seen, pod.name, container.message)
    if container.init:
        return of_init(seen, pod, container, is_over=True)
    said = container.said
    code = container.exit_code or 1
    sentence = str(said["sentence"] or "") if said else ""
    if said.get("is_consequence") or is_of_a_peer(sentence):
        return in_lines(seen, (sentence,), only_ranks=True) or Explanation("peer", sentence, onward(seen))
    if code == 137 and not said:  # nothing that it printed before is the reason
        where = f"{pod.name}{f' on {pod.host}' if pod.host else ''}"
        return Explanation("killed", f"{where} was killed from outside (SIGKILL, exit code 137)", _WHO_KILLED)
    printed = seen.lines if seen.lines_of in (None, pod.name) else ()
    tail = () if said else tuple(container.message.splitlines())
    why = of_code(seen, code, sentence, (*printed, *tail), pod=pod.name)
    if code == 137 and seen.nodes > 1:  # which one of them it was
        return replace(why, sentence=f"{pod.name}{f' on {pod.host}' if pod.host else ''}: {why.sentence}")
    return why


def of_code(seen: Evidence, code: int, sentence: str, lines: tuple[str, ...], pod: str | None = None) -> Explanation:
    """The meaning of an exit code, with the run's own sentence or its last log lines. ``pod``: the one that ended."""
    first = sentence.strip().splitlines()[0].strip() if sentence.strip() else ""
    if code in _TELLING:
        cause, meaning, suggestion = CODES[code].cause, CODES[code].meaning, CODES[code].fix
        if ANOTHER in first:
            return Explanation(
                "name", first, f"remove this one with: launcher rm {seen.run}; then {_TWO_WAYS.replace('RUN', seen.run)}"
            )
        detail = re.sub(r"^out of memory: .*?\((.*)\)$", r"\1", first)
        if not detail.startswith(meaning) and "cannot be reached" not in detail:
            detail = f"{meaning}: {detail}".replace(f"{meaning}: out of memory", meaning) if detail else meaning
        if _BASE_NOT_FINITE in first:  # before the first step: no rate was too high
            return Explanation(cause, detail, "download the base model again, or set torch_dtype: float32")
        if "ADVICE" in suggestion:
            detail = detail.replace(f": {_advice(seen)}", "", 1)  # it is what to do
        return Explanation(cause, detail, _filled(suggestion, seen) or resuming(seen))
    if code in (143, STAYS_STOPPED):
        return Explanation("stopped", first or "stopped on request", resuming(seen))
    if _NO_SHORTAGE in first:
        return Explanation("killed", first, _WHO_KILLED)
    if (known := in_lines(seen, (first, *lines))) is not None:
        return known
    if code == 137:
        sentence = first or f"{seen.run} was killed (SIGKILL) for an unknown reason"
        suggestion = "if the machine ran out of memory, raise launch.memory or lower per_device_train_batch_size"
        return Explanation("killed", sentence, suggestion)
    what = first or error_in(lines) or ("it printed no error" if any(line.strip() for line in lines) else "it printed nothing")
    look = f"see its log with: launcher logs {seen.run} --rank all"
    who = pod if pod is not None and seen.nodes > 1 else seen.run
    return Explanation("failed", f"{who} ended with exit code {code}: {what}", look)


def _filled(suggestion: str, seen: Evidence) -> str:
    """``suggestion`` for this run: TensorBoard of a cluster shows all runs of a namespace."""
    suggestion = there(seen, suggestion).replace("ADVICE", _advice(seen))
    if "tensorboard RUN" in suggestion and seen.namespace:
        return suggestion.replace("tensorboard RUN", f"tensorboard -n {seen.namespace}")
    return suggestion.replace("RUN", seen.run) if "RUN" in suggestion else suggestion.replace("EXP", seen.key or "EXP")


def _advice(seen: Evidence) -> str:
    """The advice of the health rule that stopped the run; without one the trained weights are not finite."""
    return seen.advice or "lower learning_rate"


def out_of_memory(seen: Evidence, what: str) -> Explanation:
    """The kernel killed ``what``: a node of the run exceeded its memory limit."""
    limit = f" of {seen.memory}" if seen.memory else ""
    suggestion = "raise launch.memory, or lower launch.shm_size (it counts as memory) or dataloader_num_workers"
    return Explanation("memory", f"{what} was killed: it exceeded its memory limit{limit} (launch.memory)", suggestion)


def _disrupted(pod: Pod) -> Condition | None:
    found = pod.condition("DisruptionTarget")
    return found if found is not None and found.is_true else None


def _taken_away(seen: Evidence, pod: Pod) -> Explanation | None:
    """Why the cluster ended a pod."""
    words = " ".join(pod.message.split())
    on = f" on {pod.host}" if pod.host else ""
    if pod.reason == "Evicted" or words.startswith(("The node was low on resource", "Usage of EmptyDir")):
        return _evicted(seen, pod, words, on)
    if pod.reason in ("NodeLost", "NodeAffinity"):
        return Explanation("node-lost", f"{pod.name} was lost with its node{_named(pod)}: {words or pod.reason}", onward(seen))
    if pod.reason in ("Shutdown", "Terminated", "NodeShutdown") or "imminent node shutdown" in words:
        return Explanation("node-shutdown", f"{pod.name} was ended because its node{_named(pod)} was shut down", onward(seen))
    if pod.reason == "UnexpectedAdmissionError" and (shared := _SHARED.search(words)) is not None:
        what = f"node{_named(pod)} shares its GPUs and gives a pod only one: {pod.name} requests {shared[1]}"
        whole = "nodes with whole GPUs (launch.kubernetes.node_selector: {nvidia.com/gpu.sharing-strategy: none})"
        return Explanation("gpu-sharing", what, f"start a new run with --gpus 1, or choose {whole}")
    if pod.reason == "UnexpectedAdmissionError":
        suggestion = "choose another node, or ask the administrator to repair the node's device plugin or driver"
        return Explanation("gpu-driver", f"node{_named(pod)} cannot give {pod.name} its devices: {words}", suggestion)
    if pod.reason.startswith("OutOf"):
        what = f"node{_named(pod)} had no {pod.reason.removeprefix('OutOf')} left for {pod.name}: {words}"
        return Explanation("node-full", what, "wait: another pod is created; if this repeats, request less")
    if (disrupted := _disrupted(pod)) is not None:
        return _by_reason(seen, pod, disrupted, on)
    return _rejected(pod, words) if pod.reason and pod.container is None else None


def _rejected(pod: Pod, words: str) -> Explanation:
    """Why the kubelet did not start a pod that the scheduler gave to its node."""
    sentence = f"node{_named(pod)} rejected {pod.name} ({pod.reason}): {words or 'it says no more'}"
    if pod.reason == "TopologyAffinityError":
        fit = "set launch.cpus and --gpus to what one NUMA node has, or ask for nodes with another topology manager policy"
        return Explanation("rejected", sentence, fit)
    return Explanation("rejected", sentence, "choose other nodes in launch.kubernetes.node_selector, or tell the administrator")


def _named(pod: Pod) -> str:
    return f" {pod.host}" if pod.host else ""


def _by_reason(seen: Evidence, pod: Pod, disrupted: Condition, on: str) -> Explanation:
    if disrupted.reason == "PreemptionByScheduler":
        suggestion = f"use a higher priority class to prevent this; {onward(seen)}"
        return Explanation("preempted", f"{pod.name} was preempted{on} by a pod of higher priority", suggestion)
    if disrupted.reason == "EvictionByEvictionAPI":
        what = f"{pod.name} was evicted{on} on request: its node was drained, or removed by an autoscaler"
        return Explanation("drained", what, onward(seen))
    if disrupted.reason in ("DeletionByTaintManager", "DeletionByPodGC"):
        what = f"{pod.name} was lost with its node{_named(pod)}, which does not answer or was removed"
        return Explanation("node-lost", what, onward(seen))
    said = " ".join(disrupted.message.split())
    if disrupted.reason == "TerminationByKubelet" and "node shutdown" in said:
        return Explanation("node-shutdown", f"{pod.name} is ending because its node{_named(pod)} shuts down", onward(seen))
    if disrupted.reason == "TerminationByKubelet" and said:
        return _evicted(seen, pod, said, on)
    return Explanation("evicted", f"{pod.name} was removed{on} ({disrupted.reason}): {said}", onward(seen))


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
            f"write less there, or raise its size: launch.kubernetes.volumes.{name}, or for home and tmp launch.kubernetes.pod",
        )
    if found := re.search(r"The node was low on resource: ([a-z-]+)", words):
        what, suggestion = {
            "memory": ("main memory", "set launch.memory to what it needs: it is evicted later then"),
            "ephemeral-storage": (
                "disk",
                "put caches on the cache claim (launch.kubernetes.volumes), or choose nodes with larger disks",
            ),
            "inodes": ("inodes", "choose nodes with larger disks"),
            "pids": ("process ids", "lower dataloader_num_workers"),
        }.get(found[1], (found[1], onward(seen)))
        return Explanation("evicted", f"{pod.name} was evicted because its node{_named(pod)} ran out of {what}", suggestion)
    if "ephemeral local storage usage exceeds" in words or "exceeded its local ephemeral storage limit" in words:
        claim = "put caches on the cache claim (launch.kubernetes.volumes)"
        raised = "raise or remove (null) the limit of ephemeral-storage in launch.kubernetes.pod"
        return Explanation("evicted", f"{pod.name} was evicted: {words}", f"{claim}, or {raised}")
    return Explanation("evicted", f"{pod.name} was evicted{on}: {words}", onward(seen))


def _of_object(seen: Evidence) -> Explanation | None:
    """The end by the Job's or JobSet's status, if its pods are deleted or show nothing."""
    failed = next((one for one in seen.conditions if one.type in ("Failed", "FailureTarget") and one.is_true), None)
    if failed is None:
        return None
    if failed.reason == "DeadlineExceeded":
        what = f"{seen.run} exceeded its deadline (launch.kubernetes.active_deadline)"
        return Explanation("deadline", what, resuming(seen))
    if (found := re.search(r"failed with exit code (\d+)", failed.message)) is not None:
        return of_code(seen, int(found[1]), seen.sentence or "", seen.lines)
    if refused := seen.events_of("FailedCreate"):
        return refusal(seen, refused[0].message)
    if failed.reason in ("BackoffLimitExceeded", "ReachedMaxRestarts", "MaxFailedIndexesExceeded"):
        if seen.exit_code not in (None, 0, 1) or seen.sentence or in_lines(seen, seen.lines) is not None:
            return of_code(seen, seen.exit_code or 1, seen.sentence or "", seen.lines)
        what = f"{seen.run} failed more often than launch.max_restarts allows, and its pods are deleted"
        return Explanation("restarts", what, f"see their last output with: launcher logs {seen.run} --rank all")
    return None


def _of_record(seen: Evidence) -> Explanation:
    """The end by the run's record: a host process or a container may leave nothing else."""
    sentence = seen.sentence or ""
    if seen.state == "lost":
        gone = "its Job was deleted" if seen.backend == "kubernetes" else "its process ended without a message"
        return Explanation("lost", f"{seen.run} is lost: {sentence or gone}", resuming(seen))
    if "it probably exceeded its memory limit" in sentence:
        return replace(out_of_memory(seen, seen.run), sentence=sentence)
    if "was killed without a message" in sentence:
        return Explanation("killed", sentence, _WHO_KILLED)
    if re.search(r"the kernel killed it: the memory of launch\.memory|exceeded its memory limit", sentence):
        return out_of_memory(seen, seen.run)
    return of_code(seen, seen.exit_code or 1, sentence, seen.lines)
