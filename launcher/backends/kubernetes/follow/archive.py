"""Archive: what runs have left on their claim, read through the one other pod that has it mounted."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, Final

from ....errors import LauncherError
from ... import Status
from ..api.cluster import ApiError, Cluster, ExecError
from .run import RUNS_ROOT, ClusterRun

_LABELS: Final = "app.kubernetes.io/name=dpo-launcher,app.kubernetes.io/component=reader"
CONTAINER: Final = "tensorboard"
_MISSING: Final = 1  # what cat, tail and ls end with where there is no such file; ls says 2
_TAIL: Final = 1 << 16  # bytes of a file of metrics that hold its last lines


class NoReader(LauncherError):
    """Nothing in the namespace can read the claim with the runs."""

    def __init__(self, namespace: str):
        super().__init__(
            f"what runs have left on their claim is read through the reader pod of k8s/, and namespace {namespace} has none that"
            f" runs\n    hint:     `launcher doctor --cluster -n {namespace}` says which command adds it"
        )


class Archive:
    """The claim with the runs of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str):
        self._cluster, self.namespace = cluster, namespace
        self._found: str | None = None

    def reader(self) -> str:
        """The name of the pod that reads the claim; raises NoReader where none runs."""
        if self._found is None:
            pods = self._cluster.list(f"/api/v1/namespaces/{self.namespace}/pods", _LABELS)
            running = [
                pod["metadata"]["name"]
                for pod in pods
                if (pod.get("status") or {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
            ]
            if not running:
                raise NoReader(self.namespace)
            self._found = running[0]
        return self._found

    def stream(self, command: Sequence[str]) -> Iterator[bytes]:
        """What ``command`` prints in the reader. Raises NoReader, ExecError, or what the cluster says."""
        try:
            yield from self._cluster.exec(self.reader(), CONTAINER, command, self.namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            self._found = None  # it was replaced meanwhile
            yield from self._cluster.exec(self.reader(), CONTAINER, command, self.namespace)

    def output(self, command: Sequence[str]) -> bytes | None:
        """The same as a whole; None where the command ended with 1 or 2, as for a file that is not there."""
        try:
            return b"".join(self.stream(command))
        except ExecError as error:
            if error.code not in (_MISSING, 2):
                raise
            return None

    def log(self, run: ClusterRun, rank: int, begin: int = 0) -> bytes | None:
        """The rank's log from byte ``begin``; None where it has none."""
        return self.output(["tail", "-c", f"+{begin + 1}", str(run.path / "logs" / f"rank-{rank}.log")])

    def entry_log(self, run: ClusterRun, lines: int) -> str:
        """The last lines of what torchrun said; empty where there are none."""
        said = self.output(["tail", "-n", str(lines), str(run.path / "logs" / "entry.log")])
        return (said or b"").decode("utf-8", "replace").rstrip("\n")

    def steps(self, run: ClusterRun) -> list[str]:
        """The last lines of the run's metrics."""
        said = self.output(["tail", "-c", str(_TAIL), str(run.path / "logs" / "dpo_train_steps.jsonl")])
        return (said or b"").decode("utf-8", "replace").splitlines()

    def record(self, run: ClusterRun) -> dict[str, Any]:
        """The run's record, empty where there is none."""
        said = self.output(["cat", str(run.path / "run.json")])
        with suppress(ValueError):
            found = json.loads(said or b"{}")
            return found if isinstance(found, dict) else {}
        return {}

    def ranks(self, run: ClusterRun) -> list[int]:
        """The ranks that have a log."""
        return sorted(int(m[1]) for name in self._names(run.path / "logs") if (m := re.fullmatch(r"rank-(\d+)\.log", name)))

    def checkpoints(self, run: ClusterRun) -> list[str]:
        """The names of complete checkpoints, oldest first."""
        found = [m for name in self._names(run.path) if (m := re.fullmatch(r"checkpoint-(\d+)", name))]
        return [m[0] for m in sorted(found, key=lambda m: int(m[1]))]

    def find(self, name: str) -> ClusterRun | None:
        """The run of this whole name, whose Job is gone but whose folder is there; the newest one if there are more."""
        pattern = shlex.quote(f"./*/runs/{_literal(name)}/run.json")
        command = ["sh", "-c", f"cd {RUNS_ROOT} && find . -path {pattern} -exec ls -t {{}} +"]
        paths = (self.output(command) or b"").decode("utf-8", "replace").splitlines()
        if not paths:
            return None
        run = ClusterRun(name, self.namespace, "", "Job", "-", "-", 1, PurePosixPath(paths[0]).parent, "", "")
        return described(run, self.record(run))

    def _names(self, folder: PurePosixPath) -> list[str]:
        return (self.output(["ls", "-1", str(folder)]) or b"").decode("utf-8", "replace").splitlines()


def described(run: ClusterRun, record: Mapping[str, Any]) -> ClusterRun:
    """``run`` with what its record says of it."""
    from dataclasses import replace

    experiment = record.get("experiment") or {}
    launch = experiment.get("launch") or {}
    return replace(
        run,
        key=str(record.get("key", run.key)),
        experiment_id=str(record.get("experiment_id", run.experiment_id)),
        nodes=int(launch.get("nodes") or run.nodes),
        created=str(record.get("created", run.created)),
    )


def said(record: Mapping[str, Any]) -> Status | None:
    """How a run has ended by its record, if that is its last word."""
    last = record.get("outcome") or {}
    status = Status(str(last.get("state", "unknown")), last.get("exit_code"), last.get("sentence"))
    return status if status.is_over else None


def _literal(name: str) -> str:
    """``name`` for `find -path`, where some characters are patterns."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", name)
