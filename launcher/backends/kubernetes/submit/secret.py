"""The Secret that runs read: made of the caller's own values, which nothing here shows."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ....redact import REDACTOR
from ..api.cluster import ApiError, Cluster

# Those that experiments need without naming them: models of the hub, buckets, spreadsheets.
USUAL: Final = (
    "HF_TOKEN",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_SHEETS_CLIENT_EMAIL",
    "GOOGLE_SHEETS_PRIVATE_KEY",
)
_LABELS: Final = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/managed-by": "dpo-launcher"}


@dataclass(frozen=True)
class Pushed:
    """Names of keys: ``new`` and ``changed`` by this push, ``same`` before and after; ``others`` stay as they are."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    same: tuple[str, ...]
    others: tuple[str, ...]
    is_created: bool


def chosen(caller: Mapping[str, str], named: Iterable[str]) -> dict[str, str]:
    """Of the caller's values those that a Secret is made of: the usual ones, and those that experiments name."""
    return {name: caller[name] for name in sorted({*USUAL, *named}) if caller.get(name)}


def push(cluster: Cluster, namespace: str, name: str, values: Mapping[str, str], *, dry_run: bool) -> Pushed:
    """Makes the Secret, or puts the values into the one that is there; keys that it has beside them stay.

    ``dry_run``: says what would be done. Raises ApiError or ClusterError with the server's words, which hold no value.
    """
    place = f"/api/v1/namespaces/{namespace}/secrets"
    REDACTOR.learn(values, values)
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    before = _there(cluster, f"{place}/{name}")
    if not dry_run and before is None:
        cluster.create(place, _secret(name, data))
    elif not dry_run:
        cluster.patch(f"{place}/{name}", {"metadata": {"labels": _LABELS}, "data": data})
    elif before is None:
        cluster.create(place, _secret(name, data), dry_run=True)
    had: Mapping[str, str] = (before or {}).get("data") or {}
    return Pushed(
        new=tuple(key for key in data if key not in had),
        changed=tuple(key for key in data if key in had and had[key] != data[key]),
        same=tuple(key for key in data if had.get(key) == data[key]),
        others=tuple(sorted(had.keys() - data.keys())),
        is_created=before is None,
    )


def _secret(name: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": dict(_LABELS)},
        "type": "Opaque",
        "data": dict(data),
    }


def _there(cluster: Cluster, path: str) -> dict[str, Any] | None:
    try:
        return cluster.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return None
