"""The objects of the emulator, their versions, and the changes that watches tell. Any thread may use it."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from . import admission, checks, schema
from .kinds import BY_NAME, BY_PLURAL, Kind
from .refusal import Refusal, conflict, exists, expired, forbidden, not_found

Object = dict[str, Any]
Key = tuple[str, str, str]  # plural, namespace or "", name
_RANDOM = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True)
class Change:
    """One event: ``before`` is None when the object is new, ``after`` when it is gone; ``last`` is its last state then."""

    version: int
    plural: str
    before: Object | None
    after: Object | None
    last: Object


@dataclass(frozen=True)
class Admission:
    """A webhook that refuses: ``judge`` gives the words, or None to let an object pass."""

    name: str
    judge: Callable[[str, Object], str | None]
    code: int = 403


class Store:
    """``admissions`` refuse; ``listeners`` are told of every change, after it, by the thread that made it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = 100
        self.oldest = 0  # changes up to this version are forgotten
        self.changes: list[Change] = []
        self.admissions: list[Admission] = []
        self.listeners: list[Callable[[Change], None]] = []
        self.mutate: Callable[[Kind, Object], None] = lambda kind, obj: None  # the webhooks of add-ons
        self.is_graceful = False  # running pods stay, marked, until they are removed
        self._objects: dict[Key, Object] = {}
        self._random = 0
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}, "status": {"phase": "Active"}})

    def put(self, obj: Object) -> Object:
        """Creates or replaces an object as the control plane would, past all checks; the namespace is ``default`` if unset."""
        with self.lock:
            kind, obj = BY_NAME[obj["kind"]], copy.deepcopy(obj)
            metadata = obj["metadata"]
            if kind.namespaced:
                metadata.setdefault("namespace", "default")
            key = (kind.plural, metadata.get("namespace", ""), metadata["name"])
            before = self._objects.get(key)
            obj.setdefault("apiVersion", kind.api_version)
            metadata.setdefault("uid", before["metadata"]["uid"] if before else str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", before["metadata"]["creationTimestamp"] if before else _now())
            return self._commit(key, obj)

    def change(self, plural: str, name: str, edit: Callable[[Object], None], namespace: str = "default") -> Object:
        """Lets ``edit`` change an object, as a controller that writes its status does."""
        with self.lock:
            obj = copy.deepcopy(self.get(plural, name, namespace))
            edit(obj)
            return self._commit(self._key(plural, namespace, name), obj)

    def get(self, plural: str, name: str, namespace: str = "default") -> Object:
        found = self.find(plural, name, namespace)
        if found is None:
            raise not_found(_resource(BY_PLURAL[plural]), name)
        return found

    def find(self, plural: str, name: str, namespace: str = "default") -> Object | None:
        """A copy, or None."""
        with self.lock:
            return copy.deepcopy(self._objects.get(self._key(plural, namespace, name)))

    def list(self, plural: str, namespace: str | None = None) -> list[Object]:
        """Every object of a kind, in the order of their names; None: of all namespaces."""
        with self.lock:
            keys = sorted(key for key in self._objects if key[0] == plural and namespace in (None, key[1]))
            return [copy.deepcopy(self._objects[key]) for key in keys]

    def names(self, plural: str, namespace: str | None = None) -> list[str]:
        return [obj["metadata"]["name"] for obj in self.list(plural, namespace)]

    def create(self, kind: Kind, namespace: str | None, obj: Object, *, dry_run: bool, strict: bool) -> Object:
        """Creates an object as a person would, through every check."""
        with self.lock:
            obj = checks.normalised(obj)
            schema.decode(kind, obj, strict=strict)
            checks.placed(kind, namespace, obj)
            metadata = obj["metadata"]
            if not metadata.get("name"):
                metadata["name"] = metadata["generateName"] + self._suffix()
            if kind.namespaced and self.find("namespaces", namespace or "") is None:
                raise not_found("namespaces", namespace or "")
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 1}
            metadata.pop("resourceVersion", None)
            obj.pop("status", None)
            self.mutate(kind, obj)
            if kind.name == "Pod":
                admission.check_pod(self, namespace or "", metadata["name"], obj.get("spec") or {})
            self._admit(kind, obj)
            checks.new(kind, obj)
            checks.default(kind, obj)
            self._quota(kind, namespace or "", metadata["name"])
            key = self._key(kind.plural, namespace or "", metadata["name"])
            if key in self._objects:
                raise exists(_resource(kind), metadata["name"])
            return obj if dry_run else self._commit(key, obj)

    def admit_pod(self, namespace: str, obj: Object) -> None:
        """Raises Refusal for a pod of a controller that the server does not take."""
        with self.lock:
            admission.check_pod(self, namespace, obj["metadata"]["name"], obj["spec"])
            self._admit(BY_NAME["Pod"], obj)

    def patch(self, kind: Kind, namespace: str | None, name: str, patch: Object, *, strict: bool, dry_run: bool) -> Object:
        """A merge patch (RFC 7386) through every check."""
        with self.lock:
            before = self.get(kind.plural, name, namespace or "")
            after = _merged(before, patch)
            wanted = (patch.get("metadata") or {}).get("resourceVersion")
            if wanted is not None and wanted != before["metadata"]["resourceVersion"]:
                raise conflict(
                    _resource(kind), name, "the object has been modified; please apply your changes to the latest version"
                )
            schema.decode(kind, after, strict=strict)
            checks.update(kind, before, after)
            self._admit(kind, after)
            if dry_run or {**after, "metadata": {**after["metadata"]}} == before:
                return after
            if before.get("spec") != after.get("spec"):
                after["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
            return self._commit(self._key(kind.plural, namespace or "", name), after)

    def delete(
        self, plural: str, name: str, namespace: str = "default", *, propagation: str = "Background", grace: int | None = None
    ) -> Object:
        """Deletes an object and what it owns; with Orphan its own things stay, without an owner."""
        with self.lock:
            obj = self.get(plural, name, namespace)
            is_running = plural == "pods" and (obj.get("status") or {}).get("phase") == "Running"
            if self.is_graceful and is_running and grace != 0:
                seconds = grace if grace is not None else obj.get("spec", {}).get("terminationGracePeriodSeconds", 30)
                obj["metadata"] |= {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": seconds}
                return self._commit(self._key(plural, namespace, name), obj)
            if propagation == "Orphan":
                for key, other in list(self._owned(obj)):
                    other["metadata"].pop("ownerReferences")
                    self._commit(key, other)
            self._remove(self._key(plural, namespace, name))
            return obj

    def forget(self) -> None:
        """Changes up to now can no longer be watched, and lists that were begun not be continued: 410."""
        with self.lock:
            self.oldest = self.version

    def snapshot(self) -> dict[Key, Object]:
        """Every object as it is now, for ``restore``."""
        with self.lock:
            return copy.deepcopy(self._objects)

    def restore(self, objects: dict[Key, Object]) -> None:
        """Puts every object back, without telling watches, of which none may be open."""
        with self.lock:
            self.version += 1
            self.oldest = self.version
            self._objects = copy.deepcopy(objects)

    def since(self, version: int) -> list[Change]:
        """The changes after ``version``; 410 if some of them are forgotten."""
        with self.lock:
            if version < self.oldest:
                raise expired(f"too old resource version: {version} ({self.oldest})")
            return [change for change in self.changes if change.version > version]

    def _commit(self, key: Key, obj: Object) -> Object:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        before, self._objects[key] = self._objects.get(key), obj
        self._tell(Change(self.version, key[0], before, obj, obj))
        owners = obj["metadata"].get("ownerReferences") or []
        is_ending = self.is_graceful and "deletionTimestamp" in obj["metadata"]  # a pod outlives its Job while it ends
        if owners and not is_ending and not any(self._has_uid(owner["uid"]) for owner in owners):
            self._remove(key)  # the collector's, which waits for nobody here
        return copy.deepcopy(obj)

    def _remove(self, key: Key) -> None:
        obj = self._objects.pop(key)
        self.version += 1
        last = copy.deepcopy(obj)
        last["metadata"]["resourceVersion"] = str(self.version)
        self._tell(Change(self.version, key[0], obj, None, last))
        for other, _ in list(self._owned(obj)):
            if other in self._objects:
                self.delete(other[0], other[2], other[1])

    def _owned(self, owner: Object) -> Iterator[tuple[Key, Object]]:
        uid = owner["metadata"]["uid"]
        for key, obj in list(self._objects.items()):
            owners = [one["uid"] for one in obj["metadata"].get("ownerReferences") or []]
            if uid in owners and not any(self._has_uid(one) for one in owners if one != uid):
                yield key, copy.deepcopy(obj)

    def _has_uid(self, uid: str) -> bool:
        return any(obj["metadata"]["uid"] == uid for obj in self._objects.values())

    def _tell(self, change: Change) -> None:
        self.changes.append(change)
        for listener in list(self.listeners):
            listener(change)

    def _admit(self, kind: Kind, obj: Object) -> None:
        for one in self.admissions:
            words = one.judge(kind.plural, obj)
            if words is not None:
                reason = "Forbidden" if one.code == 403 else "BadRequest"
                raise Refusal(one.code, reason, f'admission webhook "{one.name}" denied the request: {words}')

    def _quota(self, kind: Kind, namespace: str, name: str) -> None:
        group = f".{kind.group}" if kind.group else ""
        for quota in self.list("resourcequotas", namespace):
            hard = (quota.get("spec") or {}).get("hard") or {}
            for resource in (f"count/{kind.plural}{group}", kind.plural):
                if resource in hard:
                    used = len(self.list(kind.plural, namespace))
                    if used + 1 > int(hard[resource]):
                        which, limit = quota["metadata"]["name"], hard[resource]
                        why = f"exceeded quota: {which}, requested: {resource}=1, "
                        why += f"used: {resource}={used}, limited: {resource}={limit}"
                        raise forbidden(_resource(kind), name, why)

    def _key(self, plural: str, namespace: str, name: str) -> Key:
        return plural, namespace if BY_PLURAL[plural].namespaced else "", name

    def _suffix(self) -> str:
        """Five letters as the API server takes them, one after the other."""
        self._random += 1
        number, letters = self._random * 7919, ""
        for _ in range(5):
            number, digit = divmod(number, len(_RANDOM))
            letters += _RANDOM[digit]
        return letters


def _merged(before: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    after = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = _merged(after.get(name), value)
    return after


def _resource(kind: Kind) -> str:
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
