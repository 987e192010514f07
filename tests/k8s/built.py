"""The folders of k8s/ as kubectl builds them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
_KUBECTL = Path(sys.executable).parent / "kubectl"


@cache
def built(folder: str) -> tuple[Mapping[str, Any], ...]:
    """The objects of ``k8s/<folder>``, in kubectl's order."""
    return build(REPOSITORY / "k8s" / folder)


def build(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """The objects that the kustomization in ``folder`` builds."""
    done = subprocess.run([_KUBECTL, "kustomize", "."], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return tuple(yaml.safe_load_all(done.stdout))
