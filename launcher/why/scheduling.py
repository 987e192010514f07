"""Why no node can take a pod: the scheduler's message, parsed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .devices import devices_missing
from .evidence import Evidence, Explanation
from .resources import is_gpu

_MESSAGE: Final = re.compile(r"0/(\d+) nodes are available:? ?(.*)", re.DOTALL)
# What follows the reasons: about preemption, and about claims of devices.
_REST: Final = re.compile(r"\.?\s*(?:preemption:|no new claims to deallocate|still not schedulable).*", re.DOTALL)

# The scheduler's reason for some nodes -> a word for it, what follows "2 nodes", and an example of the reason.
_REASONS: Final = (
    (r"Insufficient (\S+)", "resource", "have too little {0} free",
     "Insufficient nvidia.com/gpu"),
    (r"Too many pods", "resource", "are at their pod limit",
     "Too many pods"),
    (r"node\(s\) had volume node affinity conflict", "volume", "cannot mount the claim's volume, which belongs to another node",
     "node(s) had volume node affinity conflict"),
    (r"node\(s\) didn't match PersistentVolume's node affinity", "volume",  # since 1.34
     "cannot mount the claim's volume, which belongs to another node",
     "node(s) didn't match PersistentVolume's node affinity"),
    (r"node\(s\) did not have enough free storage", "volume", "have too little storage free for the claim's volume",
     "node(s) did not have enough free storage"),
    (r"cannot allocate all claims", "devices", "have no free devices for its resource claims",
     "cannot allocate all claims"),
    (r"resourceclaim not available on the node", "devices", "do not have the devices that its resource claim holds",
     "resourceclaim not available on the node"),
    (r"node\(s\) didn't find available persistent volumes to bind", "volume", "have no volume for the claim",
     "node(s) didn't find available persistent volumes to bind"),
    (r"node\(s\) unavailable due to one or more pvc\(s\) bound to non-existent pv\(s\)", "volume",
     "have a claim whose volume is deleted",
     "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
    (r"node\(s\) exceed max volume count", "volume", "are at their volume limit",
     "node(s) exceed max volume count"),
    (r"node\(s\) didn't match Pod's node affinity/selector", "selector", "lack a label that it needs",
     "node(s) didn't match Pod's node affinity/selector"),
    (r"node\(s\) had untolerated taint \{node\.kubernetes\.io/(?:not-ready|unreachable).*", "down", "are not ready",
     "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"),
    (r"node\(s\) had untolerated taint \{node\.kubernetes\.io/(disk|memory|pid)-pressure.*", "down", "are short of {0}",
     "node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }"),
    (r"node\(s\) had untolerated taint \{node\.kubernetes\.io/unschedulable.*", "cordon", "are cordoned",
     "node(s) had untolerated taint {node.kubernetes.io/unschedulable: }"),
    (r"node\(s\) had untolerated taint\(?s?\)? ?(\{.*\})?", "taint", "have an untolerated taint{0}",
     "node(s) had untolerated taint {dedicated: other}"),
    (r"node\(s\) had taints? (\{.*\}), that the pod didn't tolerate", "taint", "have an untolerated taint{0}",
     "node(s) had taint {dedicated: other}, that the pod didn't tolerate"),
    (r"node\(s\) were unschedulable", "cordon", "are cordoned",
     "node(s) were unschedulable"),
    (r"node\(s\) didn't match pod topology spread constraints.*", "spread", "already hold another pod of this run",
     "node(s) didn't match pod topology spread constraints"),
    (r"node\(s\) didn't match pod anti-affinity rules", "spread", "already hold another pod of this run",
     "node(s) didn't match pod anti-affinity rules"),
    (r"node\(s\) didn't have free ports for the requested pod ports", "ports", "have a port in use that the run needs",
     "node(s) didn't have free ports for the requested pod ports"),
)  # fmt: skip
EXAMPLES: Final = tuple(f"0/3 nodes are available: 3 {one[-1]}." for one in _REASONS)
_FIRST: Final = ("volume", "resource", "devices", "selector", "taint", "down", "cordon", "spread", "ports", "other")


@dataclass(frozen=True)
class Reason:
    """Why some nodes cannot take a pod; ``resource``: the scarce one, or None."""

    nodes: int
    kind: str
    words: str
    resource: str | None = None


def reasons(message: str) -> tuple[int, list[Reason]]:
    """The number of all nodes, and the reasons; (0, []) for a message of another form."""
    found = _MESSAGE.search(message)
    if found is None:
        return 0, []
    parts = re.split(r",\s+(?=\d+ )", _REST.sub("", found[2]).strip().rstrip("."))
    counted = [re.fullmatch(r"(\d+) (.*)", part.strip(), re.DOTALL) for part in parts]
    return int(found[1]), [_reason(int(one[1]), one[2]) for one in counted if one is not None]


def unschedulable(seen: Evidence, pod: str, message: str, selector: tuple[str, ...] = ()) -> Explanation:
    """Why no node can take ``pod``; ``selector``: the labels that its node must have, ``key=value``."""
    if (missing := _of_claims(seen, pod, message) or devices_missing(seen, pod, message)) is not None:
        return missing
    total, why = reasons(message)
    if not why:
        return Explanation(
            "unschedulable",
            f"no node can take {pod}: {message.strip()}",
            seen.look(pod),
        )
    why.sort(key=lambda one: (_FIRST.index(one.kind), not is_gpu(one.resource or "")))
    listed = [f"{_counted(one.nodes, total, is_first=index == 0)} {one.words}" for index, one in enumerate(why)]
    sentence = f"no node can take {pod}: {_joined(listed)}"
    if any(one.kind == "selector" for one in why) and selector:
        sentence += f"; its node must have {', '.join(selector)}"
    first = why[0]
    return Explanation("volume" if first.kind == "volume" else "unschedulable", sentence, _suggestion(seen, first, total))


def _reason(nodes: int, text: str) -> Reason:
    for pattern, kind, words, _ in _REASONS:
        found = re.fullmatch(pattern, text)
        if found is not None:
            detail = (found[1] or "") if found.groups() else ""
            shown = f" ({detail.strip('{}').strip().rstrip(':')})" if kind == "taint" and detail.strip("{}") else detail
            if nodes == 1:
                words = words.replace("have ", "has ", 1).replace("hold ", "holds ", 1).replace("lack ", "lacks ", 1)
                words = words.replace("are ", "is ", 1).replace("their", "its", 1)
            return Reason(nodes, kind, words.format(shown), detail if pattern.startswith("Insufficient") else None)
    return Reason(nodes, "other", f"report{'s' if nodes == 1 else ''} {text!r}")


def _counted(nodes: int, total: int, *, is_first: bool) -> str:
    if not is_first:
        return str(nodes)
    return "the only node" if nodes == total == 1 else f"{nodes} of {total} nodes"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _of_claims(seen: Evidence, pod: str, message: str) -> Explanation | None:
    if found := re.search(r'persistentvolumeclaim "([^"]+)" not found', message):
        what = f"{pod} waits for a claim: {found[1]} not found"
        return Explanation(
            "volume",
            what,
            "set another claim in launch.kubernetes.volumes, or print how to create it with: launcher doctor --cluster",
        )
    if "unbound immediate PersistentVolumeClaims" in message:
        what = f"{pod} waits for a claim that has no volume yet"
        return Explanation("volume", what, f"check its StorageClass, size and access mode with: {seen.kubectl} describe pvc")
    return None


def _suggestion(seen: Evidence, first: Reason, total: int) -> str:
    if seen.is_helper and first.kind == "resource":
        return "wait until other pods end, or for another node; see what is free with: kubectl describe nodes"
    if is_gpu(first.resource or ""):
        asked = f" than {seen.gpus} per node" if seen.gpus else ""
        plugin = ", check that the NVIDIA device plugin runs" if first.nodes == total else ""
        return f"wait, request fewer{asked} with --gpus{plugin}, or see which pods use them with: kubectl describe nodes"
    if first.resource == "memory":
        asked = f" (now {seen.memory})" if seen.memory else ""
        return f"lower launch.memory{asked}, or wait until other pods end"
    if first.resource == "cpu":
        return "lower launch.cpus, or wait until other pods end"
    if first.resource == "ephemeral-storage":
        # A limit without a request counts as one.
        asked = "lower the request of ephemeral-storage in launch.kubernetes.pod, or remove it with its limit (null)"
        return f"{asked}, or free the disks of the nodes"
    return {
        "volume": f"use ReadWriteMany for a run on several nodes; see claims and volumes with: {seen.kubectl} get pvc,pv",
        "selector": "correct launch.kubernetes.node_selector (kubernetes.io/arch is the image's unless it is set there); "
        "see the labels with: kubectl get nodes --show-labels",
        "taint": f"if you may use these nodes, add the taint to launch.kubernetes.tolerations{_toleration(first.words)}",
        "devices": f"wait until other pods free them, or see them with: {seen.kubectl} get resourceclaims",
        "down": "wait until the node is ready, or tell its administrator; see its conditions with: kubectl describe nodes",
        "cordon": "ask the node's administrator; open it again with: kubectl uncordon NODE",
        "spread": "wait for a free node, or request fewer with --nodes",
    }.get(first.kind, "wait, or request less; see what is free with: kubectl describe nodes")


def _toleration(words: str) -> str:
    """As an experiment has it, if the scheduler names the taint: newer ones do not."""
    found = re.search(r"taint \(([^:)]+)", words)
    return f": [{{key: {found[1]}, operator: Exists}}]" if found is not None else ""
