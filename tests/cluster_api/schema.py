"""Strict decoding: unknown fields, wrong types and missing fields, by the schemas of the Kubernetes API that a package brings."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from .kinds import Kind
from .refusal import bad_request, invalid

VERSION = "v1.36.0"
_WORDS = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
_META = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}


def _of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


_TEXT, _NUMBER, _FLAG, _ANY = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"type": "object"}
_RULE = _of(
    name=_TEXT,
    action=_TEXT,
    onJobFailureReasons={"type": "array", "items": _TEXT},
    targetReplicatedJobs={"type": "array", "items": _TEXT},
)


def _core(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/io.k8s.api.core.v1.{name}"}


def _many(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_OF_CONTAINERS = _of(
    name=_TEXT, env=_many(_core("EnvVar")), volumeMounts=_many(_core("VolumeMount")), securityContext=_core("SecurityContext")
)
# What runtimePatches may set in a pod, since Trainer 2.2.
_PATCHED_POD = _of(
    serviceAccountName=_TEXT,
    nodeSelector=_ANY,
    affinity=_core("Affinity"),
    tolerations=_many(_core("Toleration")),
    volumes=_many(_core("Volume")),
    initContainers=_many(_OF_CONTAINERS),
    containers=_many(_OF_CONTAINERS),
    securityContext=_core("PodSecurityContext"),
    imagePullSecrets=_many(_core("LocalObjectReference")),
    schedulingGates=_many(_core("PodSchedulingGate")),
    terminationGracePeriodSeconds=_NUMBER,
)
_PATCHED_JOB = _of(metadata=_META, spec=_of(template=_of(metadata=_META, spec=_PATCHED_POD)))
_PATCH = _of(metadata=_META, spec=_of(replicatedJobs=_many(_of(name=_TEXT, template=_PATCHED_JOB))))
_TRAINJOB = _of(
    runtimeRef=_of(apiGroup=_TEXT, kind=_TEXT, name=_TEXT),
    activeDeadlineSeconds=_NUMBER,
    suspend=_FLAG,
    managedBy=_TEXT,
    trainer=_of(
        image=_TEXT,
        command=_many(_TEXT),
        args=_many(_TEXT),
        env=_many(_core("EnvVar")),
        numNodes=_NUMBER,
        numProcPerNode=_NUMBER,
        resourcesPerNode=_core("ResourceRequirements"),
    ),
    runtimePatches=_many(_of(manager=_TEXT, time=_TEXT, trainingRuntimeSpec=_of(template=_PATCH))),
)
# The fields of the add-ons' objects that a run may use.
_ADDONS = {
    "JobSet": _of(
        replicatedJobs={
            "type": "array",
            "items": _of(
                name=_TEXT,
                groupName=_TEXT,
                replicas=_NUMBER,
                template=_of(metadata=_META, spec={"$ref": "#/$defs/io.k8s.api.batch.v1.JobSpec"}),
            ),
        },
        network=_of(enableDNSHostnames=_FLAG, subdomain=_TEXT, publishNotReadyAddresses=_FLAG),
        successPolicy=_of(operator=_TEXT, targetReplicatedJobs={"type": "array", "items": _TEXT}),
        failurePolicy=_of(maxRestarts=_NUMBER, restartStrategy=_TEXT, rules={"type": "array", "items": _RULE}),
        startupPolicy=_of(startupPolicyOrder=_TEXT),
        suspend=_FLAG,
        coordinator=_of(replicatedJob=_TEXT, jobIndex=_NUMBER, podIndex=_NUMBER),
        managedBy=_TEXT,
        ttlSecondsAfterFinished=_NUMBER,
    ),
    "TrainJob": _TRAINJOB,
    "TrainingRuntime": _ANY,
    "ClusterTrainingRuntime": _ANY,
    "LocalQueue": _of(clusterQueue=_TEXT, stopPolicy=_TEXT),
    "ClusterQueue": _ANY,
    "Workload": _ANY,
}


def decode(kind: Kind, obj: dict[str, Any], *, strict: bool) -> None:
    """Refuses ``obj`` as an API server would while it reads it. Fields that are not there are unknown only if ``strict``."""
    name = str(obj.get("metadata", {}).get("name", ""))
    unknown, wrong, missing = list[str](), list[str](), list[str]()
    _walk(_schema(kind), obj, "", unknown, wrong, missing)
    version = f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}'
    if wrong:
        raise bad_request(f"{version}: {wrong[0]}")
    if unknown and strict:
        said = ", ".join(f'unknown field "{field}"' for field in unknown)
        raise bad_request(f"{version}: strict decoding error: {said}")
    if missing:
        raise invalid(kind.name, name, [f"{field}: Required value" for field in missing])


def _walk(schema: dict[str, Any], value: Any, path: str, unknown: list[str], wrong: list[str], missing: list[str]) -> None:
    while "$ref" in schema:
        schema = _definitions()[schema["$ref"].rpartition("/")[2]]
    if value is None:
        return
    choices = schema.get("oneOf") or [schema]
    types = [one for choice in choices for one in _listed(choice.get("type"))]
    if types and not any(_fits(one, value) for one in types):
        wrong.append(f"json: cannot unmarshal {_go(value)} into Go struct field {path or '.'} of type {types[0]}")
        return
    if "enum" in schema and path in ("apiVersion", "kind") and value not in schema["enum"]:
        wrong.append(f"{path}: {value} is not {schema['enum'][0]}")
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            _walk(schema["items"], item, f"{path}[{number}]", unknown, wrong, missing)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        others = schema.get("additionalProperties")
        missing += [_join(path, name) for name in schema.get("required", []) if value.get(name) is None]
        for name, item in value.items():
            if name in known:
                _walk(known[name], item, _join(path, name), unknown, wrong, missing)
            elif isinstance(others, dict):
                _walk(others, item, _join(path, name), unknown, wrong, missing)
            elif others is False:
                unknown.append(_join(path, name))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _listed(types: Any) -> list[str]:
    return [one for one in ([types] if isinstance(types, str) else types or []) if one != "null"]


def _fits(name: str, value: Any) -> bool:
    return isinstance(value, _WORDS[name]) and not (isinstance(value, bool) and name in ("integer", "number"))  # type: ignore[arg-type]


def _go(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return next(word for word, kind in _WORDS.items() if isinstance(value, kind))  # type: ignore[arg-type]


def _schema(kind: Kind) -> dict[str, Any]:
    if kind.name in _ADDONS:
        return {
            "type": "object",
            "properties": {"apiVersion": _TEXT, "kind": _TEXT, "metadata": _META, "spec": _ADDONS[kind.name], "status": _ANY},
            "additionalProperties": False,
        }
    return next(
        schema
        for schema in _definitions().values()
        for one in schema.get("x-kubernetes-group-version-kind", [])
        if (one["group"], one["version"], one["kind"]) == (kind.group, kind.version, kind.name)
    )


@cache
def _definitions() -> dict[str, Any]:
    found = importlib.util.find_spec("kubernetes_validate")  # its files; importing it costs a second
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "kubernetes-json-schema" / f"{VERSION}-local-strict"
    definitions: dict[str, Any] = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    return definitions
