"""What the launcher does on a cluster, and therefore what a Role must allow: one list for preflight, doctor and k8s/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

SECRET: Final = "dpo-secrets"  # the default of launch.kubernetes.secret


@dataclass(frozen=True)
class Permission:
    """Verbs on one resource of a namespace. ``resource`` is spelled as in a Role, e.g. ``pods/log``.

    ``needed_by``: the launcher's verb that stops working without it; ``group``: "" for the core API. ``addon``: the add-on that
    serves the resource, and without which the permission is not needed, or None. ``name``: only the object with this name.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    needed_by: str
    addon: str | None = None
    name: str | None = None

    def review(self, verb: str, namespace: str) -> dict[str, Any]:
        """A SelfSubjectAccessReview that asks whether the caller has ``verb``."""
        resource, _, subresource = self.resource.partition("/")
        asked = {"namespace": namespace, "verb": verb, "group": self.group, "resource": resource}
        asked |= {"subresource": subresource} if subresource else {}
        asked |= {"name": self.name} if self.name is not None else {}
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }


_LOOK: Final = ("get", "list")  # also for kubectl commands that messages suggest
_MADE: Final = ("create", "delete", "get", "list", "patch")
_OWN: Final = (*_MADE, "watch")

# A WebSocket starts with a GET. API servers up to 1.34 check the verb `get` for it; later ones also check `create`.
_STREAM: Final = ("create", "get")

PERMISSIONS: Final = (
    Permission("batch", "jobs", _OWN, "submit"),
    Permission("jobset.x-k8s.io", "jobsets", _OWN, "submit", addon="JobSet"),
    Permission("trainer.kubeflow.org", "trainjobs", _OWN, "submit --kind trainjob", addon="Trainer"),
    Permission("trainer.kubeflow.org", "trainingruntimes", ("get",), "submit --kind trainjob", addon="Trainer"),
    Permission("", "services", _MADE, "submit"),
    Permission("", "configmaps", _MADE, "submit"),
    Permission("", "pods", (*_LOOK, "delete", "watch"), "ps"),
    Permission("", "pods", ("create",), "doctor"),  # a dry run, of submit too: whoever creates Jobs has this right through them
    Permission("", "pods/log", ("get",), "logs"),
    Permission("", "pods/exec", _STREAM, "download"),
    Permission("", "pods/portforward", _STREAM, "tensorboard --cluster"),
    Permission("", "events", _LOOK, "why"),
    Permission("", "persistentvolumeclaims", _LOOK, "submit"),
    Permission("", "resourcequotas", _LOOK, "why"),
    Permission("kueue.x-k8s.io", "localqueues", _LOOK, "submit --queue", addon="Kueue"),
    Permission("kueue.x-k8s.io", "workloads", _LOOK, "why", addon="Kueue"),
    Permission("", "namespaces", ("get",), "doctor"),
    Permission("", "secrets", ("create",), "secrets push"),
    Permission("", "secrets", ("get", "patch"), "secrets push", name=SECRET),
)


_VIEWED: Final = ("batch/jobs", "jobset.x-k8s.io/jobsets", "/pods", "/pods/log", "/events", "/resourcequotas")
_VIEWED_OF_ADDONS: Final = ("trainer.kubeflow.org/trainjobs", "kueue.x-k8s.io/localqueues", "kueue.x-k8s.io/workloads")
_READ: Final = ("get", "list", "watch")

# What `ps`, `status`, `why` and `logs` need for runs that have a Job. Reading a run's folder starts a command in the reader: that
# needs pods/exec, which is no read right.
VIEW: Final = tuple(
    replace(one, verbs=tuple(verb for verb in one.verbs if verb in _READ))
    for one in PERMISSIONS
    if f"{one.group}/{one.resource}" in (*_VIEWED, *_VIEWED_OF_ADDONS) and set(one.verbs) & set(_READ)
)


def rules(permissions: Sequence[Permission] = PERMISSIONS) -> list[Mapping[str, Any]]:
    """The rules of a Role with exactly ``permissions``."""
    return [
        {"apiGroups": [one.group], "resources": [one.resource], "verbs": sorted(one.verbs)}
        | ({"resourceNames": [one.name]} if one.name is not None else {})
        for one in permissions
    ]
