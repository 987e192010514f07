"""The objects of a run: Service, ConfigMaps, Job, JobSet, as plain dicts. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ....errors import STAYS_STOPPED
from ....job.topology import PORT
from ....why.codes import FINAL
from .guard import TRAINER
from .kinds import JOB, JOBSET
from .names import REPLICATED
from .pod import CA_FILE, data_keys

QUEUE: Final = "kueue.x-k8s.io/queue-name"
STOPPED: Final = 143
TTL: Final = 7 * 24 * 3600  # seconds; the logs stay on the volume
RECORD: Final = "record.json"


@dataclass(frozen=True)
class Named:
    """The metadata of a run's objects; ``namespace`` is None if it is the context's."""

    name: str
    namespace: str | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    queue: str | None

    def metadata(self, suffix: str = "") -> dict[str, Any]:
        where = {} if self.namespace is None else {"namespace": self.namespace}
        return {"name": self.name + suffix, **where, "labels": dict(self.labels)}

    def owner_metadata(self) -> dict[str, Any]:
        """The metadata of the Job or JobSet: all that lists of runs show, and the queue for Kueue."""
        queue = {} if self.queue is None else {QUEUE: self.queue}
        return {**self.metadata(), "labels": {**self.labels, **queue}, "annotations": dict(self.annotations)}


def service(named: Named) -> dict[str, Any]:
    """Gives the pods of an Indexed Job host names, which they need before they are ready. A JobSet creates its own Service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": named.metadata(),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {JOB.pods: named.name},
            "ports": [{"name": "rendezvous", "port": PORT}],
        },
    }


def config_map(named: Named, files: Mapping[str, str]) -> dict[str, Any]:
    """The rendered files for the pods."""
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named.metadata()}
    return {**head, "immutable": True, "data": dict(files)}


def data_map(named: Named, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """The data files of the run; one that is not UTF-8 is stored in base64."""
    texts: dict[str, str] = {}
    others: dict[str, str] = {}
    for key, file in data_keys(contents).items():
        try:
            texts[key] = contents[file].decode("utf-8")
        except UnicodeDecodeError:
            others[key] = base64.b64encode(contents[file]).decode()
    made: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named.metadata("-data"), "immutable": True}
    return made | ({"data": texts} if texts else {}) | ({"binaryData": others} if others else {})


def ca_map(named: Named, certificates: str, *, immutable: bool = True) -> dict[str, Any]:
    """The certificates that pods trust."""
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named.metadata("-ca")}
    return {**head, **({"immutable": True} if immutable else {}), "data": {CA_FILE: certificates}}


def indexed_job(
    named: Named, template: Mapping[str, Any], *, nodes: int, max_restarts: int, deadline: int | None
) -> dict[str, Any]:
    """One pod per node. A pod that fails takes the others with it, as every rank ends when a peer dies: one restart of all
    pods counts as as many failures as there are nodes.
    """
    spec = {
        **indexed(template, nodes, nodes * max_restarts),
        **({} if deadline is None else {"activeDeadlineSeconds": deadline}),
        "ttlSecondsAfterFinished": TTL,
    }
    ordered = {**{key: value for key, value in spec.items() if key != "template"}, "template": spec["template"]}
    return {"apiVersion": JOB.version, "kind": JOB.name, "metadata": named.owner_metadata(), "spec": ordered}


def points_job(named: Named, template: Mapping[str, Any], *, points: int, parallel: int, max_restarts: int) -> dict[str, Any]:
    """One pod a point of a sweep, ``parallel`` at the same time; each index is retried, and fails, by itself. For the Job one
    that a person has stopped has failed, too.
    """
    rules = _rules("FailIndex", TRAINER, (*FINAL, STAYS_STOPPED))
    spec = {
        "completionMode": "Indexed",
        "completions": points,
        "parallelism": min(parallel, points),
        "backoffLimitPerIndex": max_restarts,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": rules},
        "ttlSecondsAfterFinished": TTL,
        "template": template,
    }
    return {"apiVersion": JOB.version, "kind": JOB.name, "metadata": named.owner_metadata(), "spec": spec}


def jobset(named: Named, template: Mapping[str, Any], *, nodes: int, max_restarts: int, deadline: int | None) -> dict[str, Any]:
    """The same pods in one Job; at its first failure the JobSet restarts all of them."""
    job = {
        **({} if deadline is None else {"activeDeadlineSeconds": deadline}),
        **indexed(template, nodes, 0),
    }
    return {
        "apiVersion": JOBSET.version,
        "kind": JOBSET.name,
        "metadata": named.owner_metadata(),
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": named.name, "publishNotReadyAddresses": True},
            "failurePolicy": failure_policy(max_restarts),
            "ttlSecondsAfterFinished": TTL,
            "replicatedJobs": [
                {"name": REPLICATED, "replicas": 1, "template": {"metadata": {"labels": dict(named.labels)}, "spec": job}}
            ],
        },
    }


def failure_policy(max_restarts: int) -> dict[str, Any]:
    """Of a JobSet: a failure that its Job does not retry ends it."""
    rule = {"name": "final", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return {"maxRestarts": max_restarts, "rules": [rule]}


def indexed(template: Mapping[str, Any], nodes: int, backoff_limit: int, container: str = TRAINER) -> dict[str, Any]:
    """The spec of an Indexed Job; ``container``: the one whose exit codes count."""
    return {
        "completionMode": "Indexed",
        "completions": nodes,
        "parallelism": nodes,
        "backoffLimit": backoff_limit,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _rules("FailJob", container)},
        "template": template,
    }


def _rules(final: str, container: str, codes: Sequence[int] = FINAL) -> list[dict[str, Any]]:
    """``final``: the action for the exit ``codes`` that are not retried."""
    return [
        {"action": final, "onExitCodes": {"containerName": container, "operator": "In", "values": list(codes)}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        # Stopped on request: it resumes from its checkpoint, and this does not count as a restart.
        {"action": "Ignore", "onExitCodes": {"containerName": container, "operator": "In", "values": [STOPPED]}},
    ]


def to_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
