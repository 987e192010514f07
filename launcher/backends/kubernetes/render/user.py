"""As whom pods run, and with which rights: the ``restricted`` Pod Security Standard, and users that a namespace gives. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ....experiment.schema import Kubernetes

USER: Final = 10001  # uid, gid and fsGroup: the image's own user
USER_NAME: Final = "dpo"
UIDS: Final = "openshift.io/sa.scc.uid-range"
GROUPS: Final = "openshift.io/sa.scc.supplemental-groups"
CONTAINER_SECURITY: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def pod_security(settings: Kubernetes, annotations: Mapping[str, str] | None) -> dict[str, Any]:
    """The pod's security context; ``annotations``: of its namespace, None if it was not asked.

    A namespace of OpenShift has a range of uids and of groups: its admission gives them to pods that name none, and refuses
    others. Then the group of the process is 0, and fsGroup one of the namespace's.
    """
    uid = _uid(settings, annotations)
    user = {} if uid is None else {"runAsUser": uid, "runAsGroup": uid, "fsGroup": uid}
    return {
        "runAsNonRoot": True,
        **user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _uid(settings: Kubernetes, annotations: Mapping[str, str] | None) -> int | None:
    if settings.run_as == "namespace" or (settings.run_as == "auto" and _gives_users(annotations)):
        return None
    return USER if isinstance(settings.run_as, str) else settings.run_as


def _gives_users(annotations: Mapping[str, str] | None) -> bool:
    return annotations is not None and (UIDS in annotations or GROUPS in annotations)


def said(settings: Kubernetes, annotations: Mapping[str, str] | None) -> str | None:
    """One line where the namespace gives the user."""
    if settings.run_as != "auto" or not _gives_users(annotations) or annotations is None:
        return None
    given = annotations.get(UIDS) or annotations.get(GROUPS)
    return f"user: given by the namespace ({given}); the pods name none (launch.kubernetes.run_as: auto)"
