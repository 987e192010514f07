"""What an API server's plugins refuse of a pod, and what the webhooks of add-ons change, in the words of the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import trainer
from .kinds import Kind
from .refusal import Refusal, forbidden

if TYPE_CHECKING:
    from .store import Store

Object = dict[str, Any]
QUEUE = "kueue.x-k8s.io/queue-name"
WEBHOOKS = {
    "JobSet": {"JobSet": "mjobset.kb.io"},
    "Kueue": {"Job": "mjob.kb.io", "JobSet": "mjobset.kb.io", "TrainJob": "mtrainjob.kb.io"},
    "Trainer": {"TrainJob": "defaulter.trainjob.trainer.kubeflow.org"},
}


def check_pod(objects: Store, namespace: str, name: str, spec: Object) -> None:
    """ServiceAccount, RuntimeClass and Priority; only the account ``default`` is in every namespace."""
    account = spec.get("serviceAccountName") or "default"
    if account != "default" and objects.find("serviceaccounts", account, namespace) is None:
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise forbidden("pods", name, why)
    runtime = spec.get("runtimeClassName")
    if runtime and objects.find("runtimeclasses", runtime, "") is None:
        raise forbidden("pods", name, f'pod rejected: RuntimeClass "{runtime}" not found')
    priority = spec.get("priorityClassName")
    if priority and not priority.startswith("system-") and objects.find("priorityclasses", priority, "") is None:
        raise forbidden("pods", name, f"no PriorityClass with name {priority} was found")


def mutate(objects: Store, kind: Kind, obj: Object, working: set[str], silent: set[str]) -> None:
    """What the webhooks of the add-ons in ``working`` fill in and refuse; those in ``silent`` are registered and silent."""
    for addon, names in WEBHOOKS.items():
        if addon in silent and kind.name in names:
            name = names[kind.name]
            where = f"https://{addon.lower()}-webhook-service.{addon.lower()}-system.svc:443/mutate?timeout=10s"
            why = f'failed to call webhook: Post "{where}": no endpoints available for service "{addon.lower()}-webhook-service"'
            raise Refusal(500, "InternalError", f'Internal error occurred: failed calling webhook "{name}": {why}')
    spec = obj.get("spec") or {}
    if "JobSet" in working and kind.name == "JobSet":
        spec.setdefault("successPolicy", {"operator": "All"})
        spec.setdefault("startupPolicy", {"startupPolicyOrder": "AnyOrder"})
    if "Trainer" in working and kind.name == "TrainJob":
        trainer.check(objects, obj)
    is_managed = QUEUE in (obj["metadata"].get("labels") or {}) or "every Job" in working  # manageJobsWithoutQueueName
    if "Kueue" in working and kind.name in WEBHOOKS["Kueue"] and is_managed:
        spec["suspend"] = True
