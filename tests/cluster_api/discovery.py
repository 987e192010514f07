"""What an API server says of itself: its version, and the groups and kinds that it serves."""

from __future__ import annotations

from typing import Any

from .kinds import ALSO, Kind


def discovery(path: str, served: list[Kind], minor: str) -> dict[str, Any] | None:
    """The answer to ``path`` if it asks for versions, groups or kinds, else None."""
    if path == "/version":
        return {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = sorted({(kind.group, kind.version) for kind in served if kind.group})
        listed = [{"name": g, "versions": [{"groupVersion": f"{g}/{v}", "version": v}]} for g, v in groups]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    group = path.removeprefix("/apis/")
    versions = sorted({kind.version for kind in served if kind.group == group})
    if versions:
        listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
        return {"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": listed, "preferredVersion": listed[-1]}
    place = ALSO.get(path, path)
    found = [kind for kind in served if kind.place == place]
    if not found:
        return None
    resources = [{"name": kind.plural, "kind": kind.name, "namespaced": kind.namespaced} for kind in found]
    version = path.removeprefix("/apis/").removeprefix("/api/")
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
