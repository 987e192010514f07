"""Valid names of objects, hosts and labels, made of a run's name; none is too long. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Final

LONGEST: Final = 63  # characters of a host name, a Service name and a label value (RFC 1035, RFC 1123)
SHUFFLED: Final = "-xxxxx"  # the controller's suffix of a pod's name
REPLICATED: Final = "node"  # the only replicated job of a JobSet
LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123
_HASH: Final = 6


def object_name(run: str, kind: str, nodes: int) -> str:
    """The name of a run's Job or JobSet: lower case, starting with a letter, and short enough for all names derived from it."""
    name = re.sub(r"[^a-z0-9-]+", "-", run.lower()).strip("-")
    name = name if name[:1].isalpha() else f"run-{name}".rstrip("-")
    return _cut(name, run, LONGEST - len(longest_suffix(kind, nodes)))


def deployment_of(served: str) -> str:
    """The name of the Deployment that serves the run ``served``."""
    return object_name(f"serve-{served}", "Job", 1)


def longest_suffix(kind: str, nodes: int) -> str:
    """The longest suffix that is added to the name: by the controllers for a pod, or by us for the data's ConfigMap."""
    return max(f"{host_name('', kind, nodes - 1)}{SHUFFLED}", "-data", key=len)


def host_name(name: str, kind: str, index: int) -> str:
    """The host name that Kubernetes gives the pod with this index of an Indexed Job."""
    return f"{name}-{index}" if kind == "Job" else f"{name}-{REPLICATED}-0-{index}"


def label_value(text: str) -> str:
    """``text`` as a label value: invalid characters are replaced, and a long text is cut. Equal texts give equal values."""
    value = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-_.")
    return _cut(value or "x", text, LONGEST)


def _cut(name: str, whole: str, most: int) -> str:
    """``name``, or its beginning with a hash of ``whole`` if it is longer than ``most``."""
    if len(name) <= most:
        return name
    return f"{name[: most - _HASH - 1].rstrip('-_.')}-{hashlib.sha256(whole.encode()).hexdigest()[:_HASH]}"
