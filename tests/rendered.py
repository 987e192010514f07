"""Runs on a cluster as tests render them: the cases of the golden files, and one that a test makes of its own settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from launcher.backends.kubernetes.render.placement import Folder, Local
from launcher.backends.kubernetes.render.resources import Sizes
from launcher.backends.kubernetes.render.spec import KubernetesSpec, Place, render
from launcher.experiment.schema import Experiment
from launcher.job.image import Image
from launcher.job.job import plan
from launcher.job.presets import read_parallelism
from launcher.job.topology import DDP

RUN: Final = "exp_1-20261124-101112-beef"
GOLDEN: Final = Path(__file__).parent / "golden" / "kubernetes"
IMAGE: Final = "registry.example.com/team/dpo-launcher@sha256:" + "0123456789abcdef" * 4
CSV: Final = {"training_data.csv": b"prompt,chosen,rejected\nWhy?,Because.,No.\n", "prompt_data.csv": b"name,system,user\n"}


def small(path: str = "/home/you/project/data/answers") -> Local:
    """Data that fit into a ConfigMap."""
    return Local(Folder(Path(path), {name: len(text) for name, text in CSV.items()}, "d" * 64), CSV)


def large() -> Local:
    """Data and a model that must be staged."""
    return Local(
        Folder(Path("/home/you/project/data/answers"), {"training_data.csv": 5_000_000}, "d" * 64),
        {},
        Folder(Path("/home/you/models/tiny"), {"config.json": 700, "model.safetensors": 1_500_000_000}, "e" * 64),
    )


def rendered(
    launch: dict[str, Any] | None = None,
    *,
    run: str = RUN,
    local: Local | None = None,
    namespace: str | None = None,
    has_jobset: bool | None = None,
    own_runtime: bool = False,
    trained: int | None = 10_000_000,
    sizes: Sizes | None = None,
    annotations: dict[str, str] | None = None,
    deadline: int | None = None,
    origins: dict[Any, str] | None = None,
    caller: dict[str, str] | None = None,
    user: str = "you",
    image: str = IMAGE,
    notes: dict[str, Any] | None = None,
    **fields: Any,
) -> KubernetesSpec:
    data = {"experiment_id": "1", "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data/answers", "launch": launch or {}}
    experiment = Experiment.parse({**data, **fields})
    gpus, name = experiment.launch.gpus, experiment.launch.parallelism
    shared = DDP if name == "auto" else read_parallelism(name, Path(__file__).parents[1])
    there = 1 if gpus == "auto" else gpus
    job = plan(experiment, run=run, key="exp_1", gpus_there=there, parallelism=shared, origin="configs/e.yml")
    job = replace(job, notes=notes or {})
    variant = "cuda" if job.gpus else "cpu"
    place = Place(
        user=user,
        image=Image(image, variant),
        local=local or small(),
        namespace=namespace,
        has_jobset=has_jobset,
        own_runtime=own_runtime,
        sizes=Sizes(None, trained) if sizes is None else sizes,
        annotations=annotations,
        deadline=deadline,
        origins=origins or {},
        code={"revision": "c0ffee", "dirty": False},
        caller=caller or {},
    )
    return render(job, place)


_WIDE: Final = {"gpus": 8, "nodes": 4, "global_batch_size": 128}
CASES: Final[dict[str, dict[str, Any]]] = {
    "one-node-cpu": {"launch": {"gpus": 0}},
    "one-node-one-gpu": {"caller": {"HF_TOKEN": "x", "WANDB_API_KEY": "y"}, "launch": {"secrets": ["WANDB_API_KEY"]}},
    "one-node-eight-gpus": {"launch": {"gpus": 8, "global_batch_size": 64, "cpus": 96, "memory": "1000Gi", "shm_size": "64Gi"}},
    "four-nodes-eight-gpus": {"launch": _WIDE},
    "jobset": {"launch": {**_WIDE, "kubernetes": {"kind": "jobset"}}},
    "trainjob": {
        "caller": {"HF_TOKEN": "x"},
        "launch": {
            **_WIDE,
            "kubernetes": {
                "kind": "trainjob", "service_account": "trainer", "node_selector": {"pool": "gpus"}, "active_deadline": "36h",
                "image_pull_secrets": ["registry"],
                "pod": {"spec": {"containers": [{"name": "trainer", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}]}},
            },
        },
    },
    "kueue": {"launch": {"gpus": 2, "kubernetes": {"queue": "research"}}, "namespace": "team-a"},
    "point-of-a-sweep": {
        "run": "grid-2",
        "notes": {
            "sweep": {
                "name": "grid", "point": 2, "settings": ["hyperparameters.beta=0.05", "launch.env={A: 1}"],
                "axes": ["hyperparameters.beta=0.1,0.05", "launch.env={A: 1}"], "experiment": "exp_1", "set": [], "file": None,
            }
        },
        "hyperparameters": {"beta": 0.05},
    },
    "all-options": {
        "local": large(),
        "namespace": "team-a",
        "has_jobset": True,
        "trained": 1_000_000_000,
        "caller": {
            "AWS_ACCESS_KEY": "x", "AWS_SECRET_KEY": "x", "AWS_REGION": "eu-west-1", "HF_TOKEN": "x", "LOGIN": "x",
            "HTTPS_PROXY": "http://proxy:3128",
        },
        "experiment_id": "all-options",
        "topic": "every setting of a cluster",
        "model_name": "../models/tiny",
        "save_processed_dataset": True,
        "hyperparameters": {"model_output_dir": "runs/of me", "full_finetuning": True, "resume_from_checkpoint": True},
        "storage_config": {"upload_to_cloud": True, "bucket_name": "models", "object_prefix": "dpo/", "region": "eu-west-1"},
        "launch": {
            "gpus": 4, "nodes": 2, "parallelism": "zero2", "global_batch_size": 64, "cpus": 31.5, "memory": "250GB",
            "shm_size": "16Gi", "env": {"HTTPS_PROXY": None, "NCCL_DEBUG": "INFO", "GREETING": "it's me: 1e5"},
            "secrets": ["LOGIN"], "max_restarts": 5,
            "kubernetes": {
                "queue": "research", "service_account": "trainer",
                "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
                "tolerations": [{"key": "team", "operator": "Equal", "value": "a", "effect": "NoExecute"}],
                "image_pull_secrets": ["registry"], "volumes": {"runs": "team-runs", "cache": "team-cache", "data": "team-data"},
                "secret": "team-secrets", "runtime_class": "nvidia", "active_deadline": 86400,
            },
        },
    },
}  # fmt: skip
