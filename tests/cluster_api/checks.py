"""What an API server checks of an object once it is read: names, labels, quantities, and what an update may change."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from launcher.backends.kubernetes.render.quantities import number as amount

from .kinds import Kind
from .refusal import bad_request, invalid

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_RFC_1123 = re.compile(_LABEL)
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_RFC_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)?")
_HOLDS = 1024 * 1024  # bytes of a ConfigMap or a Secret

# What an update may change of a spec; None: everything.
_MUTABLE: dict[str, tuple[str, ...] | None] = {
    "Job": ("suspend", "parallelism", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished", "maxFailedIndexes"),
    "JobSet": ("suspend", "ttlSecondsAfterFinished"),
    "TrainJob": ("suspend", "runtimePatches"),
    "Pod": ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"),
    "PersistentVolumeClaim": ("resources", "volumeName", "volumeAttributesClassName"),
}


def new(kind: Kind, obj: dict[str, Any]) -> None:
    """Refuses an object that may not be created; all that is wrong is said at once."""
    name = obj["metadata"]["name"]
    problems = [*_metadata(kind, obj["metadata"]), *_quantities(obj.get("spec"), "spec"), *_of_kind(kind, obj)]
    if problems:
        raise invalid(kind.name, name, problems)


def update(kind: Kind, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuses an update that changes what must stay."""
    name = before["metadata"]["name"]
    for field in ("name", "namespace", "uid", "creationTimestamp"):
        if before["metadata"].get(field) != after["metadata"].get(field):
            raise invalid(kind.name, name, [f"metadata.{field}: Invalid value: field is immutable"])
    if before.get("immutable") and any(before.get(part) != after.get(part) for part in ("data", "binaryData", "immutable")):
        raise invalid(kind.name, name, ["data: Forbidden: field is immutable when `immutable` is set"])
    mutable = _MUTABLE.get(kind.name)
    if mutable is not None:
        old, now = ({k: v for k, v in one.get("spec", {}).items() if k not in mutable} for one in (before, after))
        changed = [field for field in sorted({*old, *now}) if old.get(field) != now.get(field)]
        if changed:
            raise invalid(kind.name, name, [f"spec.{field}: Invalid value: field is immutable" for field in changed])
    problems = [*_metadata(kind, after["metadata"]), *_quantities(after.get("spec"), "spec"), *_of_kind(kind, after)]
    if problems:
        raise invalid(kind.name, name, problems)


def default(kind: Kind, obj: dict[str, Any]) -> None:
    """Fills in what an API server does, as far as anybody here looks at it."""
    spec = obj.setdefault("spec", {}) if kind.name in ("Job", "JobSet", "Service", "Pod") else obj.get("spec", {})
    if kind.name == "Job":
        limit = 6 if spec.get("backoffLimitPerIndex") is None else 2**31 - 1
        for field, value in {"parallelism": 1, "backoffLimit": limit, "completionMode": "NonIndexed", "suspend": False}.items():
            spec.setdefault(field, value)
        spec.setdefault("completions", spec["parallelism"])
        uid, name = obj["metadata"]["uid"], obj["metadata"]["name"]
        spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
        template = spec["template"].setdefault("metadata", {}) or {}
        spec["template"]["metadata"] = template
        template["labels"] = dict(template.get("labels") or {}) | {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "job-name": name,
        }
        obj.setdefault("status", {})
    if kind.name == "Pod":
        spec.setdefault("restartPolicy", "Always")
        spec.setdefault("terminationGracePeriodSeconds", 30)
        obj.setdefault("status", {"phase": "Pending"})
    if kind.name == "Secret":
        obj.setdefault("type", "Opaque")
        if obj.get("stringData"):
            import base64

            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in obj.pop("stringData").items()}
            obj["data"] = {**obj.get("data", {}), **encoded}


def normalised(obj: dict[str, Any]) -> dict[str, Any]:
    """A copy without what is null, as a server keeps it."""
    found: dict[str, Any] = _without_null(copy.deepcopy(obj))
    return found


def placed(kind: Kind, namespace: str | None, obj: dict[str, Any]) -> None:
    """Refuses an object that is sent to another path than its own."""
    if obj.get("apiVersion") != kind.api_version or obj.get("kind") != kind.name:
        raise bad_request(
            f"the API version in the data ({obj.get('apiVersion')}, {obj.get('kind')}) does not match the expected API version "
            f"({kind.api_version}, {kind.name})"
        )
    metadata = obj.setdefault("metadata", {})
    if kind.namespaced and metadata.setdefault("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if not metadata.get("name") and not metadata.get("generateName"):
        raise invalid(kind.name, "", ["metadata.name: Required value: name or generateName is required"])


def _metadata(kind: Kind, metadata: dict[str, Any]) -> Iterator[str]:
    name = metadata["name"]
    if kind.name == "Service":
        if not _RFC_1035.fullmatch(name) or len(name) > 63:
            yield f'metadata.name: Invalid value: "{name}": a DNS-1035 label must consist of lower case letters, digits or "-"'
    elif kind.name == "TrainJob":
        if not _RFC_1035.fullmatch(name) or len(name) > 63:
            yield f'Invalid value: "{name}": metadata.name must match RFC 1035 DNS label format'
    elif kind.name == "Namespace":
        if not _RFC_1123.fullmatch(name) or len(name) > 63:
            yield f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 label must be no more than 63 characters'
    elif not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of such characters'
    yield from _labels(metadata.get("labels") or {}, "metadata.labels")
    for key in metadata.get("annotations") or {}:
        yield from _qualified(key.lower(), "metadata.annotations")
    if sum(len(k) + len(v) for k, v in (metadata.get("annotations") or {}).items()) > 256 * 1024:
        yield "metadata.annotations: Too long: may not be more than 262144 bytes"
    for number, owner in enumerate(metadata.get("ownerReferences") or []):
        yield from (
            f"metadata.ownerReferences[{number}].{field}: Invalid value: must not be empty"
            for field in ("apiVersion", "kind", "name", "uid")
            if not owner.get(field)
        )


def _labels(labels: dict[str, str], where: str) -> Iterator[str]:
    for key, value in labels.items():
        yield from _qualified(key, where)
        if value and (len(value) > 63 or not _QUALIFIED.fullmatch(value)):
            yield (
                f'{where}: Invalid value: "{value}": a valid label must be empty or consist of alphanumeric characters, '
                "'-', '_' or '.', and must be no more than 63 characters"
            )


def _qualified(key: str, where: str) -> Iterator[str]:
    prefix, slash, name = key.rpartition("/")
    if len(name) > 63 or not _QUALIFIED.fullmatch(name) or (slash and not _SUBDOMAIN.fullmatch(prefix)):
        yield f'{where}: Invalid value: "{key}": name part must consist of alphanumeric characters and be at most 63 characters'


def _quantities(value: Any, path: str) -> Iterator[str]:
    """Every map that holds quantities, wherever it is."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _quantities(item, f"{path}[{number}]")
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        here = f"{path}.{name}"
        if name in ("limits", "requests", "capacity", "hard") and isinstance(item, dict):
            for resource, quantity in item.items():
                if not _QUANTITY.fullmatch(str(quantity)):
                    yield f'{here}.{resource}: Invalid value: "{quantity}": quantities must match the regular expression'
        elif name == "sizeLimit" and not _QUANTITY.fullmatch(str(item)):
            yield f'{here}: Invalid value: "{item}": quantities must match the regular expression'
        else:
            yield from _quantities(item, here)


def _of_kind(kind: Kind, obj: dict[str, Any]) -> Iterator[str]:
    name, spec = obj["metadata"]["name"], obj.get("spec") or {}
    if kind.name in ("ConfigMap", "Secret"):
        held = {**(obj.get("data") or {}), **(obj.get("binaryData") or {})}
        for key in held:
            if not _KEY.fullmatch(key) or len(key) > 253:
                yield f'data[{key}]: Invalid value: "{key}": a valid config key must consist of alphanumeric characters'
        if sum(len(value.encode()) for value in held.values()) > _HOLDS:
            yield f"[]: Too long: may not be more than {_HOLDS} bytes"
    if kind.name == "Job":
        yield from _job(name, spec)
        yield from _pod(spec["template"].get("spec") or {}, "spec.template.spec")
        yield from _labels((spec["template"].get("metadata") or {}).get("labels") or {}, "spec.template.metadata.labels")
        if spec["template"].get("spec", {}).get("restartPolicy") not in ("Never", "OnFailure"):
            yield 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    if kind.name == "Pod":
        yield from _pod(spec, "spec")
    if kind.name == "JobSet":
        for number, one in enumerate(spec.get("replicatedJobs") or []):
            inner = one.get("template", {}).get("spec", {})
            last = f"{name}-{one.get('name')}-{one.get('replicas', 1) - 1}-{(inner.get('completions') or 1) - 1}"
            if len(last) > 63 or not _RFC_1035.fullmatch(last):
                yield f"spec.replicatedJobs[{number}]: Invalid value: pod names will be invalid: {last}"
            yield from _pod(
                inner.get("template", {}).get("spec") or {}, f"spec.replicatedJobs[{number}].template.spec.template.spec"
            )


def _job(name: str, spec: dict[str, Any]) -> Iterator[str]:
    if len(name) > 63:
        yield f'spec.template.labels: Invalid value: "{name}": must be no more than 63 characters'
    if spec.get("completionMode") == "Indexed":
        host = f"{name}-{(spec.get('completions') or 1) - 1}"
        if len(host) > 63 or not _RFC_1123.fullmatch(host):
            yield f'metadata.name: Invalid value: "{name}": will not able to create pod with invalid DNS label: {host}'
    per_index = spec.get("backoffLimitPerIndex")
    if per_index is not None and spec.get("completionMode") != "Indexed":
        yield f"spec.backoffLimitPerIndex: Invalid value: {per_index}: requires indexed completion mode"
    for number, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules") or []):
        if rule["action"] == "FailIndex" and per_index is None:
            where = f"spec.podFailurePolicy.rules[{number}].action"
            yield f'{where}: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set'
    if spec.get("podFailurePolicy") and spec["template"].get("spec", {}).get("restartPolicy") != "Never":
        yield 'spec.template.spec.restartPolicy: Invalid value: only "Never" is supported when podFailurePolicy is specified'
    if spec.get("podFailurePolicy") and spec.get("podReplacementPolicy", "Failed") != "Failed":
        yield 'spec.podReplacementPolicy: Unsupported value: supported values: "Failed"'


def _pod(spec: dict[str, Any], path: str) -> Iterator[str]:
    volumes = [one.get("name") for one in spec.get("volumes") or []]
    containers = spec.get("containers") or []
    if not containers:
        yield f"{path}.containers: Required value"
    for number, one in enumerate(containers):
        here = f"{path}.containers[{number}]"
        if not one.get("image"):
            yield f"{here}.image: Required value"
        for index, mount in enumerate(one.get("volumeMounts") or []):
            if mount.get("name") not in volumes:
                yield f'{here}.volumeMounts[{index}].name: Not found: "{mount.get("name")}"'
        paths = [mount.get("mountPath") for mount in one.get("volumeMounts") or []]
        for index, mounted in enumerate(paths):
            if mounted in paths[:index]:
                yield f'{here}.volumeMounts[{index}].mountPath: Invalid value: "{mounted}": must be unique'
        requests, limits = (one.get("resources", {}).get(part) or {} for part in ("requests", "limits"))
        for resource in requests.keys() & limits.keys():
            if "/" not in resource and amount(requests[resource]) > amount(limits[resource]):
                what = f"must be less than or equal to {resource} limit of {limits[resource]}"
                yield f'{here}.resources.requests: Invalid value: "{requests[resource]}": {what}'
        for resource in limits:
            if "/" in resource and resource in requests and str(requests[resource]) != str(limits[resource]):
                yield f"{here}.resources.requests.{resource}: Invalid value: must be equal to {resource} limit"
        yield from (
            f"{here}.resources.limits: Required value: Limit must be set for non overcommitable resources"
            for resource in requests
            if "/" in resource and resource not in limits
        )
    for index, volume in enumerate(spec.get("volumes") or []):
        if len(set(volume) - {"name"}) > 1:
            yield f"{path}.volumes[{index}]: Forbidden: may not specify more than 1 volume type"
    if len(set(volumes)) != len(volumes):
        yield f"{path}.volumes: Duplicate value"


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value
