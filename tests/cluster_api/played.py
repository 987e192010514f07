"""A run on the emulator, as submit would have made it, and the reader of its claim; its pods do what a test says."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher.backends.kubernetes.follow.run import ClusterRun
from launcher.runs.run_dir import RunDir
from trainer.processes.attempts import next_attempt, write_start
from trainer.processes.pods.pod import arrive

from . import ClusterApi, controllers

FOLDER = "out/exp_1/model/runs"


class Played:
    """One run of ``nodes`` pods with ``nproc`` ranks each."""

    def __init__(
        self,
        api: ClusterApi,
        name: str = "first",
        *,
        nodes: int = 1,
        nproc: int = 1,
        queue: str | None = None,
        key: str = "demo",
        gpus: int = 0,
        user: str = "eve",
    ):
        self.api, self.name, self.nodes, self.nproc = api, name, nodes, nproc
        labels = {
            "app.kubernetes.io/name": "dpo-launcher",
            "app.kubernetes.io/managed-by": "dpo-launcher",
            "app.kubernetes.io/component": "run",
            "dpo-launcher/run": name,
        }
        said = {
            "run": name,
            "key": key,
            "experiment": "1",
            "user": user,
            "nodes": nodes,
            "gpus": gpus,
            "world": nodes * nproc,
            "global-batch": 8,
        }
        annotations = {f"dpo-launcher/{k}": str(v) for k, v in {**said, "folder": f"{FOLDER}/{name}", "image": "dpo:1"}.items()}
        template = {
            "metadata": {"labels": {**labels, "batch.kubernetes.io/job-name": name}},
            "spec": {
                "containers": [{"name": "trainer", "image": "dpo:1", "terminationMessagePolicy": "FallbackToLogsOnError"}],
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 90,
            },
        }
        head = {"name": name, "labels": labels | ({"kueue.x-k8s.io/queue-name": queue} if queue else {})}
        spec = {"completionMode": "Indexed", "completions": nodes, "parallelism": nodes, "template": template}
        self.obj = api.objects.put(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {**head, "annotations": annotations}, "spec": spec}
        )
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": self.obj["metadata"]["uid"], "controller": True}
        for kind in ("Service", "ConfigMap"):
            metadata = {"name": name, "labels": labels, "ownerReferences": [owner]}
            api.objects.put({"apiVersion": "v1", "kind": kind, "metadata": metadata})

    @property
    def run(self) -> ClusterRun:
        return ClusterRun.of(self.api.objects.get("jobs", self.name))

    def pods(self) -> list[str]:
        """The names of the pods that have not ended, in the order of the nodes."""
        there = [p for p in controllers.pods_of(self.api, self.name) if p["status"].get("phase") in ("Pending", "Running")]
        return [p["metadata"]["name"] for p in sorted(there, key=lambda p: _index(p))]

    def start(self) -> list[str]:
        """A running pod for each node that has none."""
        made = controllers.make_pods(self.api, self.name)
        for pod in made:
            self.api.log(pod)
            controllers.running(self.api, pod)
        return made

    def say(self, text: str, rank: int | None = 0, *, node: int = 0, at: float | None = None) -> None:
        """A line of a rank, or of a node's entry (None)."""
        node = node if rank is None else rank // self.nproc
        prefix = "" if rank is None else f"[rank {rank}] "
        self.api.log(self.pods()[node]).write(f"{prefix}{text}\n", at)

    def step(self, step: int, total: int = 10, *, rank: int = 0, **values: Any) -> None:
        """A line of metrics, a second a step."""
        self.say(metric(step, total, **values), rank)

    def end(self, code: int = 0, sentence: str = "done", state: str = "done", *, nodes: list[int] | None = None) -> None:
        """The pods end with the entry's last word."""
        pods = self.pods()
        for node in range(self.nodes) if nodes is None else nodes:
            said = json.dumps({"code": code, "sentence": sentence, "state": state})
            controllers.terminated(self.api, pods[node], code, message=said)

    def complete(self) -> None:
        self.end()
        controllers.complete(self.api, self.name)

    def fail(self, code: int, sentence: str) -> None:
        self.end(code, sentence, "failed")
        message = f"Container trainer for pod default/{self.name}-0 failed with exit code {code} matching FailJob rule at index 0"
        controllers.fail(self.api, self.name, "PodFailurePolicy", message)


def metric(step: int, total: int = 10, **values: Any) -> str:
    """A line of metrics, a second a step."""
    shown = {"type": "train", "step": step, "total_steps": total, "loss": 0.7 - step / 100, "seconds": float(step)}
    return json.dumps({**shown, **values})


def reader(api: ClusterApi, root: Path, name: str = "reader-1") -> Path:
    """The pod that reads the claim, whose root is ``root``; returns the folder of runs there."""
    labels = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "reader"}
    spec = {"containers": [{"name": "tensorboard", "image": "dpo:1"}]}
    api.objects.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
    controllers.running(api, name)
    api.commands["default", name] = root
    folder = root / "dpo" / "runs" / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def arrived(api: ClusterApi, root: Path, job: str, *, host: str = "node-1", pod: str = "first-0-x7k2p") -> RunDir:
    """What the first pod of a Job that was submitted does when it starts: the run's folder on the claim, and an attempt."""
    owner = api.objects.find("trainjobs", job) or api.objects.get("jobs", job)
    config, run = api.objects.get("configmaps", job)["data"], ClusterRun.of(owner)
    folder = RunDir(root / run.path.relative_to("/"))
    with tempfile.TemporaryDirectory() as mounted:
        for name, text in config.items():
            (Path(mounted) / name).write_text(text)
        arrive(folder, Path(mounted), lambda: False)
    with _named(DPO_POD=pod, DPO_HOST=host):
        write_start(folder, next_attempt(folder))
    return folder


@contextmanager
def _named(**env: str) -> Iterator[None]:
    os.environ.update(env)
    try:
        yield
    finally:
        for name in env:
            del os.environ[name]


def archived(folder: Path, name: str, **files: str) -> Path:
    """The folder of a run on the claim; ``files`` by their names, with ``__`` for a slash and ``_dot_`` for a dot."""
    run = folder / name
    for file, text in files.items():
        path = run / file.replace("__", "/").replace("_dot_", ".").replace("rank_", "rank-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return run


def _index(pod: dict[str, Any]) -> int:
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])
