"""A point of a sweep in one Job that a Job of its own continues: what the sweep's Job is told of it, in annotations.

The sweep's Job never starts the point again, also where it is created again, and tells how the point ended when its own is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ... import Status
from ..api.cluster import Cluster
from ..api.errors import unless
from ..render.kinds import JOB
from ..render.names import label_value
from . import state
from .run import APART, ClusterRun, of_point
from .stops import keep_stopped


def set_apart(cluster: Cluster, run: ClusterRun, obj: Mapping[str, Any]) -> None:
    """Tells the Job ``obj`` that its point ``run`` gets a Job of its own."""
    at = cluster.now().isoformat(timespec="seconds")
    keep_stopped(cluster, run, obj, at)
    annotations = {of_point(APART, run.index): at, of_point(state.ENDED_APART, run.index): None}
    cluster.patch(run.place, {"metadata": {"annotations": annotations}})


def note_end(cluster: Cluster, run: ClusterRun, status: Status, ended: str | None) -> None:
    """Tells the Job of its sweep how the point ``run`` ended, whose own Job is removed; nothing where that Job is gone, or is one
    that may not be changed. ``ended``: when, UTC in ISO form."""
    selector = f"dpo-launcher/run={label_value(run.sweep or '')}"
    said = {"state": status.state, "exit_code": status.exit_code, "sentence": status.sentence, "ended": ended}
    with unless(403, 404):
        for obj in cluster.list(JOB.collection(run.namespace), selector):
            points = [one for one in ClusterRun.every(obj) if one.is_apart and one.name == run.name]
            for point in points:
                annotations = {of_point(state.ENDED_APART, point.index): json.dumps(said, ensure_ascii=False)}
                cluster.patch(point.place, {"metadata": {"annotations": annotations}})
