"""The kinds of objects that run the pods of a run: where the API has them, and what their pods are known by. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .guard import TRAINER


@dataclass(frozen=True)
class Kind:
    """``version``: group and version in the API; ``pods``: the label with the run object's name that its pods have;
    ``container``: the name of the container that trains.
    """

    name: str
    version: str
    pods: str
    container: str = TRAINER

    @property
    def plural(self) -> str:
        return f"{self.name.lower()}s"

    @property
    def resource(self) -> str:
        """As quotas spell it, e.g. ``jobs.batch``."""
        return f"{self.plural}.{self.version.partition('/')[0]}"

    def collection(self, namespace: str) -> str:
        """The path of the namespace's objects."""
        return f"/apis/{self.version}/namespaces/{namespace}/{self.plural}"


JOB: Final = Kind("Job", "batch/v1", "batch.kubernetes.io/job-name")
JOBSET: Final = Kind("JobSet", "jobset.x-k8s.io/v1alpha2", "jobset.sigs.k8s.io/jobset-name")
# Its controller makes a JobSet of the same name. It sets image, arguments and resources in a container of this name only.
TRAINJOB: Final = Kind("TrainJob", "trainer.kubeflow.org/v1alpha1", JOBSET.pods, "node")
KINDS: Final[Mapping[str, Kind]] = {one.name: one for one in (JOB, JOBSET, TRAINJOB)}


def trains(pod: Mapping[str, Any]) -> str:
    """The container that trains, of a run's pod of any kind: all other containers are init containers."""
    (container, *_) = (pod.get("spec") or {}).get("containers") or [{"name": TRAINER}]
    return str(container["name"])


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """The kind of a run's object, also of one from a list, where it has no kind."""
    spec = obj.get("spec") or {}
    return JOBSET if "replicatedJobs" in spec else TRAINJOB if "runtimeRef" in spec else JOB
