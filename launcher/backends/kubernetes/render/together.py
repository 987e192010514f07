"""The points of a sweep in one Job: a pod a point, and as many at the same time as its parallelism allows. Pure.

The Job's controller starts the next point when one has ended, with nobody watching. A point that fails is retried by itself
(``backoffLimitPerIndex``, since Kubernetes 1.29) and does not end the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, Final

from ....errors import UsageError
from ....job.job import Job
from ....runs.processes import OWN_FOLDER, OWN_NAME
from . import objects
from .guard import OWN_VOLUMES
from .kinds import JOBSET, TRAINJOB
from .names import label_value, object_name
from .placement import SMALL
from .pod import CONFIG, CONTAINER
from .spec import KubernetesSpec

INDEX: Final = "batch.kubernetes.io/job-completion-index"
POINTS: Final = "dpo-launcher/points"  # annotation: a JSON list of what ``_entry`` makes, in the order of the indexes
STOPS: Final = "-stops"  # suffix of the ConfigMap whose keys are the indexes that a person has stopped; none has it at first
STOP_FILE: Final = "/tmp/dpo-stop"  # in a pod that runs: the kubelet needs about a minute to show a new key
_STOPS_FOLDER: Final = OWN_VOLUMES["stops"]
PARALLEL: Final = "dpo-launcher/parallel"
_COPIES: Final = ("copies", "store", "region")  # annotations of a run without a claim, entries of a point
_SUFFIXES: Final = {"inputs": "-data", "ca": "-ca"}  # volume -> its ConfigMap
_INDEX_VARIABLE: Final = "JOB_COMPLETION_INDEX"
_OF_A_RUN: Final = (
    "user",
    "nodes",
    "gpus",
    "nproc",
    "world",
    "image",
    "key",
    "experiment",
    "origin",
)  # annotations that all points share


def together(name: str, parallel: int, jobs: Sequence[Job], specs: Sequence[KubernetesSpec]) -> KubernetesSpec:
    """The objects of the sweep ``name``, of whose points ``jobs`` and ``specs`` are given; ``parallel`` of them at the same time.

    Raises UsageError for points that cannot share a Job: over several nodes, in a queue, with a deadline, or whose pods differ.
    """
    first, launch = specs[0], jobs[0].experiment.launch
    _check(jobs, specs)
    called = object_name(name, "Job", len(specs))
    labels = {**first.owner["metadata"]["labels"], "dpo-launcher/run": label_value(name)}
    named = objects.Named(called, first.namespace, labels, _annotations(name, parallel, jobs, specs), None)
    texts = [_config(spec) for spec in specs]
    template = _template(first, called, labels, texts)
    job = objects.points_job(named, template, points=len(specs), parallel=parallel, max_restarts=launch.max_restarts)
    data = _shared(first, named)
    staged = {one.target: one for spec in specs for one in spec.staged}
    keyed = {f"{index}-{file}": text for index, files in enumerate(texts) for file, text in files.items()}
    if sum(len(text.encode()) for text in keyed.values()) > SMALL:
        raise UsageError(
            f"--parallel: the settings of {len(specs)} points exceed the {SMALL >> 10} KiB of a ConfigMap; split the sweep"
        )
    comments = (f"{name}: a sweep of {len(specs)} points, {parallel} at a time", *first.comments[1:])
    return replace(
        first,
        run=name,
        job=called,
        folder=PurePosixPath(*first.folder.parts[:-1]),
        objects=(objects.config_map(named, keyed), *data, job),
        comments=comments,
        staged=tuple(staged.values()),
    )


def _annotations(name: str, parallel: int, jobs: Sequence[Job], specs: Sequence[KubernetesSpec]) -> dict[str, str]:
    """What the points share, and the list of the points."""
    said = {f"dpo-launcher/{one}" for one in _OF_A_RUN}
    given = specs[0].owner["metadata"]["annotations"].items()
    points = [_entry(job, spec) for job, spec in zip(jobs, specs, strict=True)]
    return {
        **{key: value for key, value in given if key in said or not key.startswith("dpo-launcher/")},
        "dpo-launcher/run": name,
        "dpo-launcher/sweep": name,
        PARALLEL: str(parallel),
        POINTS: json.dumps(points, ensure_ascii=False),
    }


def _entry(job: Job, spec: KubernetesSpec) -> dict[str, Any]:
    settings = list(job.notes["sweep"]["settings"])
    given = spec.owner["metadata"]["annotations"]
    copies = {name: given[f"dpo-launcher/{name}"] for name in _COPIES if f"dpo-launcher/{name}" in given}
    known = {"run": spec.run, "folder": str(spec.folder), "settings": settings}
    return {**known, "global_batch": job.experiment.global_batch, **copies}


def _check(jobs: Sequence[Job], specs: Sequence[KubernetesSpec]) -> None:
    launch = jobs[0].experiment.launch
    reasons = {
        "a run on several nodes needs its own Job": any(spec.nodes > 1 or spec.kind == JOBSET.name for spec in specs),
        "each TrainJob is one run (launch.kubernetes.kind)": any(spec.kind == TRAINJOB.name for spec in specs),
        "a queue of Kueue decides how many run at the same time": any(spec.queue is not None for spec in specs),
        "launch.kubernetes.active_deadline would end the whole sweep": launch.kubernetes.active_deadline is not None,
        "each pod would read the spreadsheet again": any(job.experiment.spreadsheet_id is not None for job in jobs),
    }
    for why, is_so in reasons.items():
        if is_so:
            raise UsageError(f"--parallel: {why}; submit the sweep without --parallel")
    pods, inputs = [_alike(spec) for spec in specs], [_contents(spec) for spec in specs]
    for job, pod, data in zip(jobs, pods, inputs, strict=True):
        if pod != pods[0] or data != inputs[0] or job.experiment.launch != launch:
            raise UsageError(
                f"--parallel: {jobs[0].run} and {job.run} differ in their pods (launch, image, data or secrets); "
                "submit the sweep without --parallel: one Job a point"
            )


def _alike(spec: KubernetesSpec) -> dict[str, Any]:
    """The pod of a point with marks where it names its own run, for the entry, and without names of its objects."""
    pod = deepcopy(dict(spec.pod["spec"]))
    pod.pop("subdomain", None)
    container = pod["containers"][0]
    folder = container["args"][-1]
    container["args"] = container["args"][:-1]
    for variable in container["env"]:
        if "value" not in variable:
            continue
        is_name = variable["name"] == "DPO_RUN"
        variable["value"] = OWN_NAME if is_name else variable["value"].replace(folder, OWN_FOLDER)
    for volume in pod["volumes"]:
        if volume["name"] in ("config", *_SUFFIXES):
            volume["configMap"] = {**volume["configMap"], "name": volume["name"]}
    return pod


def _config(spec: KubernetesSpec) -> Mapping[str, str]:
    found: Mapping[str, str] = next(one for one in spec.objects if one["kind"] == "ConfigMap")["data"]
    return found


def _contents(spec: KubernetesSpec) -> Any:
    maps = [one for one in spec.objects if one["kind"] == "ConfigMap"][1:]
    return [(one.get("data"), one.get("binaryData")) for one in maps]


def _shared(spec: KubernetesSpec, named: objects.Named) -> list[dict[str, Any]]:
    """The ConfigMaps that all points read: of the data files, and of the certificates."""
    maps = [one for one in spec.objects if one["kind"] == "ConfigMap"][1:]
    return [{**one, "metadata": named.metadata(one["metadata"]["name"].removeprefix(spec.job))} for one in maps]


def _template(spec: KubernetesSpec, called: str, labels: Mapping[str, str], texts: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The pod: its index chooses the folder with its experiment, whose record names the run's folder."""
    pod = _alike(spec)
    (container,) = pod["containers"]
    own = f"{CONFIG}/$({_INDEX_VARIABLE})"
    # First in the list: only what follows it may name it. The controller adds no second one.
    index = {"name": _INDEX_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}}
    env = [{**one, "value": own} if one["name"] == "DPO_CONFIG" else one for one in container["env"]]
    stop = {"name": "DPO_STOP", "value": f"{_STOPS_FOLDER}/$({_INDEX_VARIABLE}):{STOP_FILE}"}
    container["env"], container["args"] = [index, *env, stop], [*container["args"], f"{own}/{objects.RECORD}"]
    container["volumeMounts"] = [*container["volumeMounts"], {"name": "stops", "mountPath": _STOPS_FOLDER, "readOnly": True}]
    pod["volumes"] = [*pod["volumes"], {"name": "stops", "configMap": {"name": called + STOPS, "optional": True}}]
    for volume in pod["volumes"]:
        if volume["name"] == "config":
            items = [{"key": f"{i}-{file}", "path": f"{i}/{file}"} for i, files in enumerate(texts) for file in files]
            volume["configMap"] = {"name": called, "items": items}
        elif volume["name"] in _SUFFIXES:
            volume["configMap"]["name"] = called + _SUFFIXES[volume["name"]]
    assert container["name"] == CONTAINER, "the exit codes are this container's"
    metadata = spec.pod["metadata"]
    return {"metadata": {**metadata, "labels": {**metadata["labels"], **labels}}, "spec": pod}
