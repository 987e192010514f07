"""ClusterRun: a run as its Job, JobSet or TrainJob describes it, in labels and annotations. There is no other state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from ..render.kinds import KINDS, kind_of
from ..render.together import INDEX, POINTS

RUNS_ROOT: Final = PurePosixPath("/dpo/runs")  # where every pod mounts the claim with the runs
APART: Final = "dpo-launcher/own-job"  # annotation for a point on its sweep's Job: it was resumed in a Job of its own
_PREFIX: Final = "dpo-launcher/"


@dataclass(frozen=True)
class ClusterRun:
    """One run on a cluster. ``folder`` is relative to the claim with the runs; ``created`` is UTC in ISO form.

    ``world``: number of ranks; ``global_batch``: pairs per step; ``gpus``: per node; None if the object does not record them.
    ``user``: who submitted it, as the API server or a setting named them.
    """

    name: str
    namespace: str
    job: str
    kind: str  # Job, JobSet or TrainJob
    key: str
    experiment_id: str
    nodes: int
    folder: PurePosixPath
    created: str
    uid: str
    world: int | None = None
    global_batch: int | None = None
    gpus: int | None = None
    user: str | None = None
    image: str | None = None
    sweep: str | None = None  # the sweep of which it is a point
    point: int | None = None
    settings: tuple[str, ...] = ()  # of the point
    copies: str | None = None  # s3://… with its files, where its pods have only disks of their own
    store: str | None = None  # the server of ``copies``; None: AWS
    region: str | None = None
    index: int | None = None  # of its pods, in a Job with all points of its sweep
    is_apart: bool = False  # of a point with an index: a Job of its own continued it, which is gone

    @classmethod
    def every(cls, obj: Mapping[str, Any]) -> list[ClusterRun]:
        """The runs of ``obj``: one, or of a Job with a whole sweep one for each point."""
        whole = cls.of(obj)
        annotations = obj["metadata"].get("annotations") or {}
        points = enumerate(json.loads(annotations.get(POINTS, "[]")))
        found = [replace(_point(whole, i, point), is_apart=of_point(APART, i) in annotations) for i, point in points]
        return found or [whole]

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> ClusterRun:
        """``obj`` is a Job, JobSet or TrainJob from the API, alone or from a list, where it has no kind."""
        metadata: Mapping[str, Any] = obj["metadata"]
        labels: Mapping[str, str] = metadata.get("labels") or {}
        annotations: Mapping[str, str] = metadata.get("annotations") or {}

        def said(name: str, otherwise: str) -> str:
            return annotations.get(_PREFIX + name) or labels.get(_PREFIX + name) or otherwise

        name = said("run", metadata["name"])
        return cls(
            name=name,
            namespace=metadata.get("namespace", "default"),
            job=metadata["name"],
            kind=kind_of(obj).name,
            key=said("key", "-"),
            experiment_id=said("experiment", "-"),
            nodes=_number(said("nodes", "")) or 1,
            folder=PurePosixPath(said("folder", name)),
            created=metadata.get("creationTimestamp", ""),
            uid=metadata.get("uid", ""),
            world=_number(said("world", "")),
            global_batch=_number(said("global-batch", "")),
            gpus=_number(said("gpus", "")),
            user=said("user", "") or None,
            image=said("image", "") or None,
            sweep=annotations.get(_PREFIX + "sweep"),
            point=_number(said("point", "")),
            copies=annotations.get(_PREFIX + "copies"),
            store=annotations.get(_PREFIX + "store"),
            region=annotations.get(_PREFIX + "region"),
            settings=tuple(annotations.get(_PREFIX + "settings", "").splitlines()),
        )

    @property
    def owner(self) -> ClusterRun:
        """What is stopped and started again: the run itself, or all points of a Job with a sweep."""
        if self.index is None:
            return self
        whole = replace(self, name=self.sweep or self.job, folder=self.folder.parent)
        whole = replace(whole, copies=None, store=None, region=None, is_apart=False)
        return replace(whole, index=None, point=None, settings=(), global_batch=None)

    @property
    def ranks_a_node(self) -> int:
        return max(1, (self.world or self.nodes) // self.nodes)

    @property
    def path(self) -> PurePosixPath:
        """The run's folder in a pod."""
        return RUNS_ROOT / self.folder

    @property
    def place(self) -> str:
        """The object's path in the API."""
        return f"{KINDS[self.kind].collection(self.namespace)}/{self.job}"

    @property
    def container(self) -> str:
        """The name of the container that trains, in its pods."""
        return KINDS[self.kind].container

    @property
    def has_pods(self) -> bool:
        """Whether its object may have pods of it; those of a point before its own Job do not tell how it is."""
        return bool(self.job) and not self.is_apart

    @property
    def selector(self) -> str:
        """The label selector of its pods."""
        return f"{KINDS[self.kind].pods}={self.job}" + ("" if self.index is None else f",{INDEX}={self.index}")


def of_point(annotation: str, index: int | None) -> str:
    """The annotation for one point of a sweep, on the Job of all."""
    return f"{annotation}-{index}"


def _point(whole: ClusterRun, index: int, point: Mapping[str, Any]) -> ClusterRun:
    """``point``: an entry of the annotation, see ``render.together``."""
    return replace(
        whole,
        name=point["run"],
        index=index,
        point=index + 1,
        folder=PurePosixPath(point["folder"]),
        settings=tuple(point["settings"]),
        global_batch=point["global_batch"],
        copies=point.get("copies"),
        store=point.get("store"),
        region=point.get("region"),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
