"""Archive: the folders of runs on their claim, read through the reader pod, which mounts it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ....errors import LauncherError
from ... import Status
from ..api.cluster import ApiError, Cluster, ExecError
from .beside import DEPLOYMENT, READER, explain
from .run import RUNS_ROOT, ClusterRun

CONTAINER: Final = "tensorboard"
_MISSING: Final = 1  # exit code of cat and tail for a missing file; that of ls is 2
_TAIL: Final = 1 << 16  # bytes at the end of a metrics file that hold its last lines


class NoReader(LauncherError):
    """No pod in the namespace can read the claim with the runs. ``reason`` and ``hint``: its parts."""

    def __init__(self, namespace: str, why: str = ""):
        self.reason = f"no TensorBoard pod runs in namespace {namespace}{why}"
        self.hint = f"print the command that adds it with: launcher doctor --cluster -n {namespace}"
        super().__init__(f"cannot read the folders of runs: {self.reason}\n    hint:     {self.hint}")


class Archive:
    """The claim with the runs of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str):
        self._cluster, self.namespace = cluster, namespace
        self._found: str | None = None

    def reader(self) -> str:
        """The name of the reader pod; raises NoReader if none runs."""
        if self._found is None:
            pods = list(self._cluster.list(f"/api/v1/namespaces/{self.namespace}/pods", READER))
            running = [
                pod["metadata"]["name"]
                for pod in pods
                if (pod.get("status") or {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
            ]
            if not running:
                why = explain(self._cluster, self.namespace, pods, "reader", DEPLOYMENT) if pods else None
                raise NoReader(self.namespace, f": {why.sentence}" if why is not None else "")
            self._found = running[0]
        return self._found

    def stream(self, command: Sequence[str]) -> Iterator[bytes]:
        """Standard output of ``command`` in the reader. Raises NoReader, ExecError, ApiError or ClusterError."""
        try:
            yield from self._cluster.exec(self.reader(), CONTAINER, command, self.namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            self._found = None  # the pod was replaced
            yield from self._cluster.exec(self.reader(), CONTAINER, command, self.namespace)

    def output(self, command: Sequence[str]) -> bytes | None:
        """The same in one piece; None if the command exited with 1 or 2, as for a missing file."""
        try:
            return b"".join(self.stream(command))
        except ExecError as error:
            if error.code not in (_MISSING, 2):
                raise
            return None

    def log(self, run: ClusterRun, rank: int, begin: int = 0) -> bytes | None:
        """The rank's log from byte ``begin``; None if it has none."""
        return self.output(["tail", "-c", f"+{begin + 1}", str(run.path / "logs" / f"rank-{rank}.log")])

    def entry_log(self, run: ClusterRun, lines: int) -> str:
        """The last lines of torchrun's output; empty if missing."""
        said = self.output(["tail", "-n", str(lines), str(run.path / "logs" / "entry.log")])
        return (said or b"").decode("utf-8", "replace").rstrip("\n")

    def steps(self, run: ClusterRun) -> list[str]:
        """The last lines of the run's metrics."""
        said = self.output(["tail", "-c", str(_TAIL), str(run.path / "logs" / "dpo_train_steps.jsonl")])
        return (said or b"").decode("utf-8", "replace").splitlines()

    def record(self, run: ClusterRun) -> dict[str, Any]:
        """The run's record; empty if missing."""
        said = self.output(["cat", str(run.path / "run.json")])
        with suppress(ValueError):
            found = json.loads(said or b"{}")
            return found if isinstance(found, dict) else {}
        return {}

    def file(self, run: ClusterRun, path: str) -> str | None:
        """The text of the file ``path`` in the run's folder; None if missing."""
        said = self.output(["cat", str(run.path / path)])
        return None if said is None else said.decode("utf-8", "replace")

    def copied(self, aside: Path) -> Path | None:
        """The new folder ``aside`` with all of the run's copies in a bucket; None for a run whose folder is on a claim."""
        return None

    def ranks(self, run: ClusterRun) -> list[int]:
        """The ranks that have a log."""
        return sorted(int(m[1]) for name in self._names(run.path / "logs") if (m := re.fullmatch(r"rank-(\d+)\.log", name)))

    def checkpoints(self, run: ClusterRun) -> list[str]:
        """The names of complete checkpoints, oldest first."""
        found = [m for name in self._names(run.path) if (m := re.fullmatch(r"checkpoint-(\d+)", name))]
        return [m[0] for m in sorted(found, key=lambda m: int(m[1]))]

    def find(self, name: str) -> ClusterRun | None:
        """The run with exactly this name, whose Job is deleted but whose folder exists; the newest one if there are several."""
        pattern = shlex.quote(f"./*/runs/{_literal(name)}/run.json")
        # find exits with 1 for any folder that another run removes meanwhile, or that it may not read.
        named = f"find . -name 'checkpoint-*' -prune -o -path {pattern} -exec ls -t {{}} +"
        command = ["sh", "-c", f"cd {RUNS_ROOT} && {named} || :"]
        paths = (self.output(command) or b"").decode("utf-8", "replace").splitlines()
        if not paths:
            return None
        folder = PurePosixPath(paths[0]).parent
        return run_of(self.namespace, folder, self.record(run_of(self.namespace, folder, {})))

    def _names(self, folder: PurePosixPath) -> list[str]:
        return (self.output(["ls", "-1", str(folder)]) or b"").decode("utf-8", "replace").splitlines()


def run_of(namespace: str, folder: PurePosixPath, record: Mapping[str, Any]) -> ClusterRun:
    """The run of a folder, relative to the claim, as its Job or JobSet described it, which is deleted."""
    from ....runs.known import pairs_a_step

    cluster, sweep = record.get("cluster") or {}, record.get("sweep") or {}
    launch = (record.get("experiment") or {}).get("launch") or {}
    nodes, gpus = int(launch.get("nodes") or 1), launch.get("gpus")
    ranks = (record.get("hardware") or {}).get("ranks") or nodes * max(1, gpus if isinstance(gpus, int) else 1)
    return ClusterRun(
        name=folder.name,
        namespace=namespace,
        job=str(cluster.get("object") or ""),
        kind=str(cluster.get("kind") or "Job"),
        key=str(record.get("key", "-")),
        experiment_id=str(record.get("experiment_id", "-")),
        nodes=nodes,
        folder=folder,
        created=str(record.get("created", "")),
        uid="",
        world=int(ranks),
        global_batch=pairs_a_step(record),
        user=record.get("user"),
        image=record.get("image"),
        sweep=sweep.get("name"),
        point=sweep.get("point"),
        settings=tuple(sweep.get("settings") or ()),
    )


def said(record: Mapping[str, Any]) -> Status | None:
    """How a run ended according to its record; None if the record has no end."""
    last = record.get("outcome") or {}
    status = Status(str(last.get("state", "unknown")), last.get("exit_code"), last.get("sentence"))
    return status if status.is_over else None


def _literal(name: str) -> str:
    """``name``, escaped for `find -path`."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", name)
