"""What the keys of an experiment state about backends, compared with what the backends render."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from launcher.backends.docker.container import Person, Place
from launcher.backends.docker.spec import render
from launcher.backends.host import Host
from launcher.experiment.explain.explained import Key, keys
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.on import BACKENDS, NO_EFFECT
from launcher.job.image import Image
from launcher.job.job import plan
from launcher.job.presets import read_parallelism
from launcher.job.topology import DDP, Node
from tests.rendered import RUN, rendered

ROOT: Final = Path(__file__).parents[3]
HOME: Final = Path("/home/you/p")
CALLER: Final = {"HOME": "/home/you", "HF_TOKEN": "x", "SLACK_WEBHOOK_URL": "x"}
BASE: Final[dict[str, Any]] = {"experiment_id": "1", "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data/answers"}
# What else an experiment needs for the example of a key to have an effect.
NEEDS: Final[dict[str, dict[str, Any]]] = {
    "launch.processes": {"launch": {"gpus": 0}},
    "launch.parallelism": {"launch": {"gpus": 2}},
    "launch.secrets": {"launch": {"secrets": ["OTHER"]}},
    "launch.cpus": {"launch": {"cpus": 4}},
}
# Read by `launcher submit` or `launcher run`, not by what they render: a signature is checked before, the namespace is the
# context's too; certificates and cache folders depend on this machine's files.
NOT_RENDERED: Final = ("launch.signed_by", "launch.verify", "launch.kubernetes.namespace", "launch.ca_bundle")


def leaves(those: tuple[Key, ...]) -> Iterator[Key]:
    for key in those:
        yield from leaves(key.below) if key.below else (key,)


LAUNCH: Final = [key for key in leaves(keys()) if key.path.startswith("launch.") and not key.path.startswith(NOT_RENDERED)]


def nested(path: str, value: Any) -> dict[str, Any]:
    name, _, rest = path.partition(".")
    return {name: nested(rest, value) if rest else value}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: merged(one[name], value) for name, value in other.items() if isinstance(value, dict) and name in one}
    return {**one, **other, **both}


@cache
def started_by(settings: str) -> dict[str, str]:
    """What each backend would start for an experiment, JSON, without the experiment's own file."""
    data = json.loads(settings)
    experiment = Experiment.parse(data)
    launch = experiment.launch
    shared = DDP if launch.parallelism == "auto" else read_parallelism(launch.parallelism, ROOT)
    node = Node.of({"NODE_RANK": "0", "MASTER_ADDR": "first", "MASTER_PORT": "1"}, launch.nodes)
    there = 1 if launch.gpus == "auto" else launch.gpus
    job = plan(experiment, run=RUN, key="exp_1", gpus_there=there, parallelism=shared, node=node)
    image = Image(launch.image or "dpo-launcher:built", "cuda")
    place = Place(HOME, 16, Person(1000, 1000, (1000,), "you", Path("/home/you")), image, Path("/run/s"), CALLER, lambda _: True)
    on_host, in_docker = Host(HOME, "python", 16, CALLER).render(job).json(), render(job, place)
    others = {name: value for name, value in data.items() if name != "launch"}
    pods = rendered(launch.model_dump(exclude_unset=True, mode="json"), caller=CALLER, image=image.reference, **others)
    objects = [one for one in pods.objects if one["kind"] != "ConfigMap"]
    container = {**in_docker.json(), "network": in_docker.is_on_host_network}
    found = {
        "host": {name: on_host[name] for name in on_host if name != "files"},
        "docker": {name: container[name] for name in container if name != "files"},
        "kubernetes": [objects, pods.grace, pods.max_restarts],
    }
    return {backend: json.dumps(one, default=str, sort_keys=True) for backend, one in found.items()}


@pytest.mark.parametrize("key", LAUNCH, ids=lambda key: key.path)
def test_a_key_of_launch_states_no_effect_where_a_backend_renders_the_same_without_it(key: Key) -> None:
    base = merged(BASE, NEEDS.get(key.path, {}))
    value = yaml.safe_load(key.example)[key.name]
    before, after = started_by(json.dumps(base)), started_by(json.dumps(merged(base, nested(key.path, value))))
    unchanged = {backend for backend in BACKENDS if before[backend] == after[backend]}
    assert unchanged - UNSEEN.get(key.path, set()) == {one for one in BACKENDS if key.effects.get(one) == NO_EFFECT}


# The trainer reads it from the experiment's own file.
UNSEEN: Final[dict[str, set[str]]] = {"launch.global_batch_size": {"host", "docker"}}
