"""The pods of a run's object of any kind. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import trainjob
from .kinds import JOB, TRAINJOB, kind_of


def template_of(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """The template of the pods of a Job, JobSet or TrainJob: ``metadata`` and ``spec``."""
    kind, spec = kind_of(obj), obj["spec"]
    if kind is TRAINJOB:
        return trainjob.template_of(obj)
    found: Mapping[str, Any] = (spec if kind is JOB else spec["replicatedJobs"][0]["template"]["spec"])["template"]
    return found
