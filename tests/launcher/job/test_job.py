from typing import Any

import pytest

from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment
from launcher.job.job import Job, plan
from launcher.job.topology import Parallelism


def experiment(launch: dict[str, Any] | None = None, **hyperparameters: Any) -> Experiment:
    return Experiment.parse(
        {"model_name": "a/b", "datasets_path": "data", "hyperparameters": hyperparameters, "launch": launch or {}}
    )


def planned(there: int = 0, launch: dict[str, Any] | None = None, **hyperparameters: Any) -> Job:
    return plan(experiment(launch, **hyperparameters), run="r", key="k", gpus_there=there)


def refused(there: int = 0, launch: dict[str, Any] | None = None, **hyperparameters: Any) -> str:
    with pytest.raises(ExperimentError) as caught:
        planned(there, launch, **hyperparameters)
    return str(caught.value)


@pytest.mark.parametrize(
    ("there", "gpus", "expected"),
    [(0, "auto", (0, 1, 8)), (1, "auto", (1, 1, 8)), (4, "auto", (4, 4, 2)), (4, 2, (2, 2, 4)), (4, 0, (0, 1, 8))],
)
def test_the_global_batch_is_the_same_on_any_number_of_devices(there, gpus, expected):
    job = planned(there, {"gpus": gpus}, per_device_train_batch_size=2, gradient_accumulation_steps=8)
    assert (job.gpus, job.topology.nproc, job.accumulation) == expected
    assert job.per_device * job.accumulation * job.world == 16


def test_global_batch_size_overrides_the_accumulation_steps():
    assert planned(2, {"global_batch_size": 32}, per_device_train_batch_size=4).accumulation == 4


def test_a_batch_that_does_not_divide_lists_what_would():
    assert refused(3, {"global_batch_size": 24}, per_device_train_batch_size=5) == (
        "launch.global_batch_size: a global batch of 24 pairs cannot be split evenly: 5 per device × 3 devices = 15\n"
        "    expected: per_device_train_batch_size 1, 2, 4 or 8 with 3 devices\n"
        "    found:    24 / 15 = 1.6 accumulation steps"
    )
    assert refused(3, {}, per_device_train_batch_size=4, gradient_accumulation_steps=2) == (
        "per_device_train_batch_size: a global batch of 8 pairs cannot be split evenly: 4 per device × 3 devices = 12\n"
        "    expected: 1 or 2 devices with per_device_train_batch_size 4\n"
        "    found:    8 / 12 = 0.6667 accumulation steps"
    )
    assert "with 3 devices, or 1 device with per_device_train_batch_size 6" in refused(
        3, {}, per_device_train_batch_size=6, gradient_accumulation_steps=1
    )


def test_the_global_batch_is_the_same_on_any_number_of_nodes():
    job = planned(4, {"gpus": 4, "nodes": 2, "global_batch_size": 64}, per_device_train_batch_size=2)
    assert (job.world, job.accumulation, job.batch) == (8, 4, "64 pairs = 2 per device × 4 accumulation × 8 devices")
    assert job.devices == "2 nodes × 4 GPUs, ddp"


def test_all_that_is_beyond_the_machine_is_said_at_once():
    zero3 = Parallelism("zero3", {"zero_optimization": {"stage": 3}})
    with pytest.raises(ExperimentError) as caught:
        plan(experiment({"gpus": 2, "processes": 3}, load_in_4bit=True), run="r", key="k", gpus_there=1, parallelism=zero3)
    assert str(caught.value) == (
        "launch.gpus: requests 2 GPUs, but this machine has 1\n"
        "    expected: at most 1, or auto for all of them\n"
        "launch.processes: each GPU runs one process\n"
        "    expected: 2, or unset\n"
        "    found:    3\n"
        "launch.parallelism: ZeRO-3 shards the weights, and quantised weights cannot be sharded\n"
        "    expected: ddp, zero1 or zero2\n"
        "    found:    zero3"
    )


def test_a_reference_that_moves_is_not_sharded():
    zero3 = Parallelism("zero3", {"zero_optimization": {"stage": 3}})
    hyper = {"full_finetuning": True, "sync_ref_model": True}
    with pytest.raises(ExperimentError) as caught:
        plan(experiment({"gpus": 2}, **hyper), run="r", key="k", gpus_there=2, parallelism=zero3)
    assert str(caught.value) == ("launch.parallelism: does not work with sync_ref_model\n    expected: ddp\n    found:    zero3")


def test_without_a_gpu_there_are_as_many_ranks_as_are_asked_for():
    job = planned(0, {"processes": 2}, per_device_train_batch_size=2)
    assert (job.topology.nproc, job.accumulation, job.devices) == (2, 2, "2 processes on the CPU, ddp")


def test_env_is_fixed_values_or_names_of_the_caller():
    job = planned(0, {"env": {"A": 1, "B": True, "C": None, "D": "x y"}})
    assert (dict(job.env), job.env_names) == ({"A": "1", "B": "true", "D": "x y"}, ("C",))
    assert planned(0, {"env": ["HTTPS_PROXY"]}).env_names == ("HTTPS_PROXY",)
    assert "DPO_RUN is set by the launcher" in refused(0, {"env": ["DPO_RUN"]})
