from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError, UsageError
from trainer import DPOTrainer, StorageConfig, YamlConfigLoader

EXPERIMENTS = """
fine_tune_hyperparam_1: &conf
  learning_rate: 1e-3
  max_steps: 2
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 1
  save_strategy: no
  adam_beta2: 0.99
s3_storage_config: &s3
  bucket_name: adapters
  object_prefix: dpo
exp_7:
  experiment_id: 7
  model_name: {model}
  datasets_path: {data}
  hyperparameters: *conf
  storage_config: *s3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    rows = "".join(f"Question {i}?,Answer {i} says what to do.,It is hard to say {i}.\n" for i in range(6))
    (data / "training_data.csv").write_text("prompt,chosen,rejected\n" + rows)
    (tmp_path / "experiments.yml").write_text(
        EXPERIMENTS.format(model=json.dumps(str(tiny_model)), data="data"), encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPO_CACHE_ROOT", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_SECRET_KEY", "testing")
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    client.create_bucket(Bucket="adapters")
    yield client, endpoint
    server.stop()


def test_the_names_are_imported_without_torch() -> None:
    code = "import sys; from trainer import YamlConfigLoader; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_loader_gives_what_the_trainer_takes(folder: Path) -> None:
    config = YamlConfigLoader(base_dir=folder).load("experiments.yml", "exp_7")
    assert set(config) == {"experiment_id", "model_name", "datasets_path", "hyperparameters", "storage_config"}
    assert config["hyperparameters"].max_steps == 2
    assert isinstance(config["storage_config"], StorageConfig)
    experiment = DPOTrainer(**config).experiment
    assert experiment.experiment_id == "7"
    assert dict(experiment.hyperparameters.trl) == {"adam_beta2": 0.99}


def test_wrong_arguments_are_named_as_in_a_file() -> None:
    with pytest.raises(ExperimentError) as caught:
        DPOTrainer(model_name="m", datasets_path="d", hyperparameters={"learning_rat": 1e-5})
    assert "DPOTrainer(hyperparameters.learning_rat): unknown key 'learning_rat'" in str(caught.value)
    assert "did you mean 'learning_rate'?" in str(caught.value)


@pytest.mark.slow
def test_a_training_that_fails_leaves_a_record_that_says_so(folder: Path, tiny_model: Path) -> None:
    trainer = DPOTrainer(model_name=str(tiny_model), datasets_path="data", hyperparameters={"target_modules": ["nothing"]})
    with pytest.raises(ExperimentError, match="nothing"):
        trainer.train()
    assert trainer.run is not None
    record = trainer.run.read_record()
    assert (record["outcome"]["state"], record["outcome"]["exit_code"]) == ("failed", 42)
    assert record["outcome"]["ended"]
    assert [(a["number"], a["exit_code"], a["ended"] is not None) for a in record["attempts"]] == [(1, 42, True)]
    assert record["process"] is None


@pytest.mark.slow
def test_a_batch_that_cannot_be_split_is_a_mistake_and_the_hub_s_token_is_taken_from_env(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.delenv("HF_TOKEN")
    (folder / ".env").write_text("HF_TOKEN=hf_of_the_file\n")
    settings = {"hyperparameters": {"per_device_train_batch_size": 2}, "launch": {"global_batch_size": 3}}
    trainer = DPOTrainer(model_name=str(tiny_model), datasets_path="data", **settings)
    with pytest.raises(ExperimentError, match="a global batch of 3 pairs cannot be split evenly"):
        trainer.train()
    assert os.environ["HF_TOKEN"] == "hf_of_the_file"


@pytest.mark.slow
def test_the_quickstart_trains_and_saves_to_s3(folder: Path, tiny_model: Path, bucket: tuple[Any, str]) -> None:
    client, endpoint = bucket
    storage = StorageConfig(bucket_name="adapters", object_prefix="dpo", endpoint_url=endpoint, region="us-east-1")
    trainer = DPOTrainer(
        model_name=str(tiny_model), datasets_path="data", hyperparameters={"max_steps": 2}, storage_config=storage
    )
    with pytest.raises(UsageError, match="nothing was trained yet"):
        trainer.save_model()
    adapter = trainer.train()
    assert (adapter / "adapter_model.safetensors").is_file()
    shelf = folder / "data" / "dpo" / "model" / "exp_default" / "tiny-qwen3"
    assert (shelf / "adapter").resolve() == adapter.resolve()
    assert (shelf / "logs" / "dpo_train_steps.jsonl").is_file()

    uri = trainer.save_model()
    run = adapter.resolve().parent.name
    assert uri.startswith(f"s3://adapters/dpo/exp_default/tiny-qwen3/{run}")
    keys = [item["Key"] for item in client.list_objects_v2(Bucket="adapters")["Contents"]]
    assert f"dpo/exp_default/tiny-qwen3/{run}/adapter_model.safetensors" in keys
    assert f"dpo/exp_default/tiny-qwen3/{run}/manifest.json" in keys
    assert trainer.save_existing_model(model_path=adapter) == uri
