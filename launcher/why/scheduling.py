"""Why no node takes a pod: the scheduler's message, read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .evidence import Evidence, Explanation

_MESSAGE: Final = re.compile(r"0/(\d+) nodes are available:? ?(.*)", re.DOTALL)
# What follows the reasons: whether others could be driven out, and what was learned of claims of devices.
_REST: Final = re.compile(r"\.?\s*(?:preemption:|no new claims to deallocate).*", re.DOTALL)

# What the scheduler says of some nodes -> a word for it, and how it goes on after "2 nodes".
_REASONS: Final = (
    (r"Insufficient (\S+)", "resource", "have too little {0} free"),
    (r"Too many pods", "resource", "hold as many pods as they may"),
    (r"node\(s\) had volume node affinity conflict", "volume", "cannot reach the claim's volume, which is tied to another node"),
    (r"node\(s\) didn't find available persistent volumes to bind", "volume", "have no volume that fits the claim"),
    (r"node\(s\) unavailable due to one or more pvc\(s\) bound to non-existent pv\(s\)", "volume",
     "find a claim whose volume is gone"),
    (r"node\(s\) exceed max volume count", "volume", "hold as many volumes as they may"),
    (r"node\(s\) didn't match Pod's node affinity/selector", "selector", "lack a label of launch.kubernetes.node_selector"),
    (r"node\(s\) had untolerated taint\(?s?\)? ?(\{.*\})?", "taint", "have a taint that the run does not tolerate{0}"),
    (r"node\(s\) had taints? (\{.*\}), that the pod didn't tolerate", "taint", "have a taint that the run does not tolerate{0}"),
    (r"node\(s\) were unschedulable", "cordon", "are closed for new pods (cordoned)"),
    (r"node\(s\) didn't match pod topology spread constraints.*", "spread", "hold another node of this run already"),
    (r"node\(s\) didn't match pod anti-affinity rules", "spread", "hold another node of this run already"),
    (r"node\(s\) didn't have free ports for the requested pod ports", "ports", "have a port in use that the run needs"),
)  # fmt: skip
_FIRST: Final = ("volume", "resource", "selector", "taint", "cordon", "spread", "ports", "other")


@dataclass(frozen=True)
class Reason:
    """What keeps a number of nodes from taking a pod; ``resource`` is the one that they have too little of, or None."""

    nodes: int
    kind: str
    words: str
    resource: str | None = None


def reasons(message: str) -> tuple[int, list[Reason]]:
    """The number of all nodes, and what keeps how many of them; (0, []) for a message of another form."""
    found = _MESSAGE.search(message)
    if found is None:
        return 0, []
    parts = re.split(r",\s+(?=\d+ )", _REST.sub("", found[2]).strip().rstrip("."))
    counted = [re.fullmatch(r"(\d+) (.*)", part.strip(), re.DOTALL) for part in parts]
    return int(found[1]), [_reason(int(one[1]), one[2]) for one in counted if one is not None]


def unschedulable(seen: Evidence, pod: str, message: str) -> Explanation:
    """Why no node takes ``pod``."""
    if (volume := _of_claims(seen, pod, message)) is not None:
        return volume
    total, why = reasons(message)
    if not why:
        return Explanation("unschedulable", f"no node takes {pod}: {message.strip()}", f"{seen.kubectl} describe pod {pod}")
    why.sort(key=lambda one: (_FIRST.index(one.kind), one.resource != "nvidia.com/gpu"))
    listed = [f"{_counted(one.nodes, total, is_first=index == 0)} {one.words}" for index, one in enumerate(why)]
    sentence = f"no node takes {pod}: {_joined(listed)}"
    first = why[0]
    return Explanation("volume" if first.kind == "volume" else "unschedulable", sentence, _suggestion(seen, first, total))


def _reason(nodes: int, text: str) -> Reason:
    for pattern, kind, words in _REASONS:
        found = re.fullmatch(pattern, text)
        if found is not None:
            detail = (found[1] or "") if found.groups() else ""
            shown = f" ({detail.strip('{}').strip().rstrip(':')})" if kind == "taint" and detail.strip("{}") else detail
            if nodes == 1:
                words = words.replace("have ", "has ", 1).replace("hold ", "holds ", 1).replace("lack ", "lacks ", 1)
                words = words.replace("are ", "is ", 1).replace("find ", "finds ", 1).replace("they may", "it may")
            return Reason(nodes, kind, words.format(shown), detail if pattern.startswith("Insufficient") else None)
    return Reason(nodes, "other", f"say{'s' if nodes == 1 else ''} {text!r}")


def _counted(nodes: int, total: int, *, is_first: bool) -> str:
    if not is_first:
        return str(nodes)
    return "the only node" if nodes == total == 1 else f"{nodes} of {total} nodes"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _of_claims(seen: Evidence, pod: str, message: str) -> Explanation | None:
    if found := re.search(r'persistentvolumeclaim "([^"]+)" not found', message):
        what = f"{pod} waits for the claim {found[1]}, which is not there"
        return Explanation(
            "volume", what, "`launcher doctor --cluster` says how to make it, or name another one under launch.kubernetes.volumes"
        )
    if "unbound immediate PersistentVolumeClaims" in message:
        what = f"{pod} waits for a claim that has no volume yet"
        return Explanation(
            "volume", what, f"`{seen.kubectl} describe pvc` says why: no StorageClass, or no volume of its size and access mode"
        )
    return None


def _suggestion(seen: Evidence, first: Reason, total: int) -> str:
    if first.resource == "nvidia.com/gpu":
        asked = f"it asks for {seen.gpus} a node: " if seen.gpus else ""
        everywhere = "; a node without the NVIDIA device plugin has none" if first.nodes == total else ""
        return f"{asked}wait for others, or ask for fewer with --gpus; `kubectl describe nodes` shows who has them{everywhere}"
    if first.resource == "memory":
        asked = f" (it asks for {seen.memory})" if seen.memory else ""
        return f"lower launch.memory{asked}, or wait until others are done"
    if first.resource == "cpu":
        return "lower launch.cpus, or wait until others are done"
    return {
        "volume": f"`{seen.kubectl} get pvc,pv` shows claims and volumes; a run over several nodes needs ReadWriteMany",
        "selector": "`kubectl get nodes --show-labels` shows the labels there are",
        "taint": "tolerate it under launch.kubernetes.tolerations, if you may use those nodes",
        "cordon": "`kubectl uncordon NODE` opens it again, if its administrator agrees",
        "spread": "ask for fewer nodes with --nodes, or wait until another one is free",
    }.get(first.kind, "wait until others are done, or ask for less; `kubectl describe nodes` shows what is left")
