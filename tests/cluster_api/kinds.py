"""The kinds of objects that the emulator serves, and the add-ons that bring some of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """``fields``: what a field selector may name beside metadata.name and metadata.namespace."""

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool = True
    addon: str | None = None
    fields: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def place(self) -> str:
        """What the paths of its group begin with."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


_INVOLVED = tuple(f"involvedObject.{name}" for name in ("kind", "name", "namespace", "uid", "apiVersion", "fieldPath"))

KINDS = (
    Kind("", "v1", "namespaces", "Namespace", namespaced=False, fields=("status.phase",)),
    Kind("", "v1", "nodes", "Node", namespaced=False, fields=("spec.unschedulable",)),
    Kind("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False),
    Kind("", "v1", "pods", "Pod", fields=("spec.nodeName", "spec.restartPolicy", "status.phase", "status.podIP")),
    Kind("", "v1", "services", "Service", fields=("spec.clusterIP", "spec.type")),
    Kind("", "v1", "serviceaccounts", "ServiceAccount"),
    Kind("", "v1", "configmaps", "ConfigMap"),
    Kind("", "v1", "secrets", "Secret", fields=("type",)),
    Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    Kind("", "v1", "resourcequotas", "ResourceQuota"),
    Kind("", "v1", "limitranges", "LimitRange"),
    Kind("", "v1", "events", "Event", fields=(*_INVOLVED, "reason", "reportingComponent", "source", "type")),
    Kind("batch", "v1", "jobs", "Job", fields=("status.successful",)),
    Kind("apps", "v1", "deployments", "Deployment"),
    Kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False),
    Kind("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False),
    Kind("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False),
    Kind("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False),
    Kind("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet", addon="JobSet"),
    Kind("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob", addon="Trainer"),
    Kind("trainer.kubeflow.org", "v1alpha1", "trainingruntimes", "TrainingRuntime", addon="Trainer"),
    Kind(
        "trainer.kubeflow.org", "v1alpha1", "clustertrainingruntimes", "ClusterTrainingRuntime", namespaced=False, addon="Trainer"
    ),
    Kind("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue", addon="Kueue"),
    Kind("kueue.x-k8s.io", "v1beta1", "clusterqueues", "ClusterQueue", namespaced=False, addon="Kueue"),
    Kind("kueue.x-k8s.io", "v1beta1", "workloads", "Workload", addon="Kueue"),
)
# Kueue serves two versions of one object.
ALSO = {"/apis/kueue.x-k8s.io/v1beta2": "/apis/kueue.x-k8s.io/v1beta1"}

BY_PLURAL = {kind.plural: kind for kind in KINDS}
BY_NAME = {kind.name: kind for kind in KINDS}
