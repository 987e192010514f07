"""Creating an object that somebody else may create at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .cluster import ApiError, Cluster


def create_or_patch(cluster: Cluster, path: str, obj: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
    """Creates ``obj`` in the collection at ``path``, or merges ``patch`` into it where somebody has just created it."""
    try:
        cluster.create(path, obj)
    except ApiError as error:
        if error.status != 409:
            raise
        cluster.patch(f"{path}/{obj['metadata']['name']}", patch)
