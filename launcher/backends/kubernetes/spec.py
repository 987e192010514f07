"""A run as the objects of a cluster: what ``kubectl create -f -`` takes, and what the client sends. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ...image import Image
from ...job import Job
from .placement import Local, Staged


@dataclass(frozen=True)
class KubernetesSpec:
    """The objects of a run in the order in which they are created; the last one, a Job or a JobSet, is to own the others.

    ``namespace`` is None where only the context knows it: no object names one then. ``staged``: what must be put where the pods
    find it before they start. ``secret_keys``: what the pods read of the Secret ``secret``. ``claims``: role (``runs``, ``cache``,
    ``data``) -> claim. ``folder``: the run's, relative to the claim with the runs.
    """

    run: str
    job: str
    kind: str
    namespace: str | None
    nodes: int
    gpus: int
    image: Image
    folder: PurePosixPath
    objects: tuple[Mapping[str, Any], ...]
    comments: tuple[str, ...]
    staged: tuple[Staged, ...]
    secret: str
    secret_keys: tuple[str, ...]
    claims: Mapping[str, str]
    queue: str | None

    @property
    def owner(self) -> Mapping[str, Any]:
        """The Job or the JobSet."""
        return self.objects[-1]

    @property
    def pod(self) -> Mapping[str, Any]:
        """The template of its pods: ``metadata`` and ``spec``."""
        spec = self.owner["spec"]
        return (spec if self.kind == "Job" else spec["replicatedJobs"][0]["template"]["spec"])["template"]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Place:
    """What rendering needs to know beside the job: the cluster as far as it is known, the person, and the paths of this machine.

    ``kind``: what ``--kind`` says, ``job``, ``jobset`` or ``auto``; ``has_jobset``: whether the cluster serves JobSets, None where
    nobody has asked it. ``caller`` is the environment with ``.env`` in it. ``code``: the revision that the run is of.
    """

    user: str
    image: Image
    local: Local
    namespace: str | None = None
    kind: str = "auto"
    has_jobset: bool | None = None
    code: Mapping[str, Any] = field(default_factory=dict)
    caller: Mapping[str, str] = field(default_factory=dict, repr=False)


def render(job: Job, place: Place) -> KubernetesSpec:
    """The objects of ``job``; raises ExperimentError for a path, a name or a size that a cluster cannot have."""
    raise NotImplementedError


def text(spec: KubernetesSpec) -> str:
    """What ``kubectl create -f -`` takes: comments, then a document for each object."""
    raise NotImplementedError
