"""Names that a cluster takes: objects, hosts and labels are made of a run's name, and none may become too long. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Final

LONGEST: Final = 63  # characters of a host name, a Service and a label's value (RFC 1035, RFC 1123)
SHUFFLED: Final = "-xxxxx"  # what the controller adds to a pod's name
REPLICATED: Final = "node"  # the one part of a JobSet
_HASH: Final = 6


def object_name(run: str, kind: str, nodes: int) -> str:
    """The name of a run's Job or JobSet: lower case, a letter first, and short enough for all that is derived of it."""
    name = re.sub(r"[^a-z0-9-]+", "-", run.lower()).strip("-")
    name = name if name[:1].isalpha() else f"run-{name}".rstrip("-")
    return _cut(name, run, LONGEST - len(longest_suffix(kind, nodes)))


def longest_suffix(kind: str, nodes: int) -> str:
    """What is added to the name at most: by the controllers for a pod, by us for the ConfigMap of the data."""
    return max(f"{host_name('', kind, nodes - 1)}{SHUFFLED}", "-data", key=len)


def host_name(name: str, kind: str, index: int) -> str:
    """The host name of the pod with this index: Kubernetes makes it, in pods of an Indexed Job."""
    return f"{name}-{index}" if kind == "Job" else f"{name}-{REPLICATED}-0-{index}"


def label_value(text: str) -> str:
    """``text`` as the value of a label, the same for the same text; what a label cannot hold is replaced, and too much is cut."""
    value = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-_.")
    return _cut(value or "x", text, LONGEST)


def _cut(name: str, whole: str, most: int) -> str:
    """``name``, or as much of it as leaves room for a hash of ``whole``."""
    if len(name) <= most:
        return name
    return f"{name[: most - _HASH - 1].rstrip('-_.')}-{hashlib.sha256(whole.encode()).hexdigest()[:_HASH]}"
