"""Where a run's inputs lie in a pod, and how they come there. Pure; ``local.look`` reads the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Folder:
    """A folder of this machine, or some files of it. ``files`` maps names relative to ``path`` (``/`` between parts) to bytes.

    ``digest``: SHA-256 in hex over names and contents.
    """

    path: Path
    files: Mapping[str, int]
    digest: str

    @property
    def size(self) -> int:
        return sum(self.files.values())


@dataclass(frozen=True)
class Local:
    """What an experiment's paths are on this machine.

    ``data``: the CSV files that are read; ``texts``: their contents, where they fit into a ConfigMap; ``model``: a local model.
    """

    data: Folder | None = None
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: Folder | None = None


@dataclass(frozen=True)
class Staged:
    """What is put where the pods find it, once: ``target`` is ``s3://…`` or a path in the pod, and ends in the digest."""

    setting: str  # datasets_path or model_name
    folder: Folder
    target: str
