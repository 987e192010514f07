"""The Secret that cluster runs read, made of the caller's own values. No value is printed, logged or returned."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ....errors import LauncherError, UsageError
from ....experiment.variables import VARIABLES, Kind, secret_proxies
from ....redact import REDACTOR
from ..api.cluster import ApiError, Cluster
from ..api.permissions import SECRET
from ..api.upsert import create_or_patch

# Keys that experiments need without naming them: for the Hub, buckets and spreadsheets.
USUAL: Final = tuple(one.name for one in VARIABLES if one.kind is Kind.SECRET)
_LABELS: Final = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/managed-by": "dpo-launcher"}


@dataclass(frozen=True)
class Wanted:
    """What experiments want: the keys that they name, and the Secret's name and namespace, None where they differ."""

    keys: tuple[str, ...]
    secret: str | None
    namespace: str | None


@dataclass(frozen=True)
class Pushed:
    """The Secret ``name`` after a push. Names of keys: ``new`` and ``changed`` by it, ``same`` before and after, and ``others``,
    which it left alone."""

    name: str
    namespace: str
    new: tuple[str, ...]
    changed: tuple[str, ...]
    same: tuple[str, ...]
    others: tuple[str, ...]
    is_created: bool
    is_dry_run: bool = False


def push_secrets(
    caller: Mapping[str, str],
    experiment: str | None = None,
    file: Path | None = None,
    *,
    namespace: str | None = None,
    name: str | None = None,
    dry_run: bool = False,
) -> Pushed:
    """Pushes the caller's values of the usual keys and of those that ``experiment``, or any experiment, names.

    ``namespace`` and ``name`` win over those of the experiments. Raises UsageError where a named key has no value, or no key has.
    """
    wanted = wanted_by(experiment, file)
    missing = [key for key in wanted.keys if not caller.get(key)]
    if missing:
        raise UsageError(f"launch.secrets, notify: {', '.join(missing)} not found in the environment or .env")
    values = chosen(caller, wanted.keys)
    if not values:
        raise UsageError(f"nothing to push: the environment and .env have none of {', '.join(USUAL)}")
    cluster = Cluster.connect(caller, namespace or wanted.namespace)
    return push(cluster, cluster.namespace, name or wanted.secret or SECRET, values, dry_run=dry_run)


def wanted_by(experiment: str | None, file: Path | None) -> Wanted:
    """What one experiment, or all of the experiment files together, want of the Secret."""
    from ....experiment.files import check_files, load

    if experiment is not None:
        loaded = [load(experiment, file=file)]
    else:
        try:
            loaded = [one.loaded for one in check_files(Path(), file).experiments if one.loaded is not None]
        except LauncherError:  # no file: the usual keys alone
            loaded = []
    launches = [one.experiment.launch for one in loaded]
    keys = sorted({key for one in loaded for key in one.experiment.named_secrets})
    return Wanted(
        keys=tuple(keys),
        secret=_only({launch.kubernetes.secret for launch in launches}),
        namespace=_only({launch.kubernetes.namespace for launch in launches}),
    )


def _only(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else None


def chosen(caller: Mapping[str, str], named: Iterable[str]) -> dict[str, str]:
    """The caller's values that a Secret is made of: of the usual keys, of proxies with a password, and of those that experiments
    name.
    """
    return {name: caller[name] for name in sorted({*USUAL, *secret_proxies(caller), *named}) if caller.get(name)}


def push(cluster: Cluster, namespace: str, name: str, values: Mapping[str, str], *, dry_run: bool) -> Pushed:
    """Creates the Secret, or adds the values to an existing one, whose other keys stay.

    ``dry_run``: changes nothing. Raises ApiError or ClusterError with the server's message, in which values are redacted.
    """
    place = f"/api/v1/namespaces/{namespace}/secrets"
    REDACTOR.learn(values, values)
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    before = _existing(cluster, f"{place}/{name}")
    changed = {"metadata": {"labels": _LABELS}, "data": data}
    if not dry_run and before is None:
        create_or_patch(cluster, place, _secret(name, data), changed)
    elif not dry_run:
        cluster.patch(f"{place}/{name}", changed)
    elif before is None:
        cluster.create(place, _secret(name, data), dry_run=True)
    had: Mapping[str, str] = (before or {}).get("data") or {}
    return Pushed(
        name=name,
        namespace=namespace,
        new=tuple(key for key in data if key not in had),
        changed=tuple(key for key in data if key in had and had[key] != data[key]),
        same=tuple(key for key in data if had.get(key) == data[key]),
        others=tuple(sorted(had.keys() - data.keys())),
        is_created=before is None,
        is_dry_run=dry_run,
    )


def _secret(name: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": dict(_LABELS)},
        "type": "Opaque",
        "data": dict(data),
    }


def _existing(cluster: Cluster, path: str) -> dict[str, Any] | None:
    try:
        return cluster.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return None
