from __future__ import annotations

import importlib.resources
import inspect
import json
import os
import pydoc
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.backends.status.finding import local_run
from launcher.errors import CredentialError, ExperimentError, UsageError
from launcher.experiment.schema import Experiment
from tests.hub.writable import TOKEN, WritableHub
from tests.webhook import SECRET, hook
from trainer import DPOTrainer, StorageConfig, YamlConfigLoader
from trainer.settings import Settings

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


def test_values_of_a_file_are_changed_without_editing_it(tmp_path: Path) -> None:
    text = "e:\n  experiment_id: e\n  model_name: m\n  datasets_path: d\n  hyperparameters: {learning_rate: 1e-6, beta: 0.2}\n"
    (tmp_path / "e.yml").write_text(text, encoding="utf-8")
    loader = YamlConfigLoader(base_dir=tmp_path)
    changed = {"hyperparameters.learning_rate": 5e-6, "topic": "null", "hyperparameters.target_modules": ["q_proj", "v_proj"]}
    found = DPOTrainer(**loader.load("e.yml", "e", changed)).experiment
    h = found.hyperparameters
    assert (h.learning_rate, h.beta, found.topic, h.target_modules) == (5e-6, 0.2, "null", ("q_proj", "v_proj"))
    with pytest.raises(ExperimentError, match="learning_rat"):
        loader.load("e.yml", "e", {"hyperparameters.learning_rat": 1})


def test_names_signature_and_help_load_no_torch() -> None:
    code = (
        "import sys, pydoc; from trainer import DPOTrainer, YamlConfigLoader; pydoc.render_doc(DPOTrainer);"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_loader_gives_what_the_trainer_takes(folder: Path) -> None:
    config = YamlConfigLoader(base_dir=folder).load("experiments.yml", "exp_7")
    assert set(config) == {"key", "experiment_id", "model_name", "datasets_path", "hyperparameters", "storage_config"}
    assert config["hyperparameters"].max_steps == 2
    assert isinstance(config["storage_config"], StorageConfig)
    trainer = DPOTrainer(**config)
    assert (trainer.key, trainer.experiment.experiment_id) == ("exp_7", "7")
    assert dict(trainer.experiment.hyperparameters.trl) == {"adam_beta2": 0.99}


@pytest.mark.parametrize("base", ["configs", "./configs", ".", "absolute"])
def test_the_loader_finds_its_file_wherever_base_dir_is(folder: Path, base: str) -> None:
    place = folder / "configs" if base in ("absolute", "configs", "./configs") else folder
    place.mkdir(exist_ok=True)
    (folder / "experiments.yml").rename(place / "experiments.yml")
    config = YamlConfigLoader(base_dir=place if base == "absolute" else base).load("experiments.yml", "exp_7")
    assert config["experiment_id"] == "7"
    assert YamlConfigLoader(base_dir=base if base != "absolute" else place).load("experiments.yml")["key"] == "exp_7"


def test_help_names_every_key_with_its_type_default_and_sentence() -> None:
    parameters = inspect.signature(DPOTrainer).parameters
    assert list(parameters) == ["model_name", "key", *(name for name in Experiment.model_fields if name != "model_name")]
    assert Settings.__annotations__.keys() == Experiment.model_fields.keys() - {"model_name"}
    text = pydoc.render_doc(DPOTrainer, renderer=pydoc.plaintext)
    assert "train_filename: str = 'training_data.csv'" in text
    assert "datasets_path: str | None (default None): folder, s3://… or hf://owner/name with the data" in text
    assert "learning_rate: float (default 5e-06): peak learning rate" in text
    assert "report_to: list[str] (default ['tensorboard']): tensorboard, wandb, mlflow, trackio, or none" in text


def test_both_packages_say_that_they_are_typed() -> None:
    for package in ("launcher", "trainer"):
        assert importlib.resources.files(package).joinpath("py.typed").is_file()


def test_wrong_arguments_are_named_as_in_a_file() -> None:
    with pytest.raises(ExperimentError) as caught:
        DPOTrainer(model_name="m", datasets_path="d", hyperparameters={"learning_rat": 1e-5})
    assert "DPOTrainer(hyperparameters.learning_rat): unknown key 'learning_rat'" in str(caught.value)
    assert "did you mean 'learning_rate'?" in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert "pydantic" not in shown, "the message is the only thing to read"


def test_a_key_that_cannot_name_a_folder_and_an_unknown_progress_are_refused() -> None:
    with pytest.raises(UsageError, match="key names folders"):
        DPOTrainer(model_name="m", datasets_path="d", key="my exp")
    with pytest.raises(UsageError, match="progress must be one of auto, bar, print, none; found 'loud'"):
        DPOTrainer(model_name="m", datasets_path="d").train(progress="loud")


def test_a_folder_of_an_earlier_run_is_uploaded_without_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: tuple[Any, str]
) -> None:
    client, endpoint = bucket
    monkeypatch.chdir(tmp_path)
    path = Path("data/exp_1/exp_id_1:hyper_1:prompt_1:model:adapter")
    run = Path("data/dpo/model/exp_1/model/runs/first")
    for folder in (path, run / "adapter", run / "checkpoint-2"):
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_text(folder.name)
    (run / "run.json").write_text("{}")
    storage = StorageConfig(
        provider="s3",
        upload_to_cloud=True,
        object_prefix="tuned",
        bucket_name="adapters",
        endpoint_url=endpoint,
        region="us-east-1",
    )
    trainer = DPOTrainer(model_name="some/model", storage_config=storage, hyperparameters={"eval_strategy": "steps"})

    below = "s3://adapters/tuned/exp_default/model"
    assert trainer.save_existing_model(model_path=str(path)) == f"{below}/{path.name}"
    assert trainer.save_model(model_path=f"{path}/") == f"{below}/{path.name}"
    assert trainer.save_model(model_path=run) == f"{below}/first", "of a run its adapter"
    assert trainer.save_model(model_path=run / "checkpoint-2") == f"{below}/first/checkpoint-2"
    keys = {item["Key"] for item in client.list_objects_v2(Bucket="adapters")["Contents"]}
    names = ("manifest.json", "adapter_model.safetensors")
    places = (path.name, "first", "first/checkpoint-2")
    assert keys == {f"tuned/exp_default/model/{place}/{name}" for place in places for name in names}


def test_training_needs_data_and_says_so_when_it_begins() -> None:
    trainer = DPOTrainer(model_name="m", hyperparameters={"eval_strategy": "steps"})
    with pytest.raises(ExperimentError) as caught:
        trainer.train()
    what = "the experiment has no data; set datasets_path (files) or spreadsheet_id (Google Sheets)"
    assert str(caught.value) == f"DPOTrainer(): {what}"


@pytest.mark.slow
def test_a_training_that_fails_leaves_a_record_that_says_so(
    folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"target_modules": ["nothing"], "model_output_dir": "other/out", "packing": False}
    trainer = DPOTrainer(model_name=str(tiny_model), datasets_path="data", hyperparameters=settings)
    with pytest.raises(ExperimentError, match="nothing"):
        trainer.train()
    assert trainer.run is not None
    record = trainer.run.read_record()
    assert (record["outcome"]["state"], record["outcome"]["exit_code"]) == ("failed", 42)
    assert record["outcome"]["ended"]
    assert [(a["number"], a["exit_code"], a["ended"] is not None) for a in record["attempts"]] == [(1, 42, True)]
    assert record["process"] is None
    assert local_run(trainer.run.name).path == trainer.run.path, "it is found by its name"
    assert "notice: no effect here: packing\n" in capsys.readouterr().out


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
def test_the_quickstart_trains_and_saves_to_s3(
    folder: Path,
    tiny_model: Path,
    bucket: tuple[Any, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    client, endpoint = bucket
    storage = StorageConfig(bucket_name="adapters", object_prefix="dpo", endpoint_url=endpoint, region="us-east-1")
    trainer = DPOTrainer(
        model_name=str(tiny_model), datasets_path="data", hyperparameters={"max_steps": 2}, storage_config=storage, key="first"
    )
    with pytest.raises(UsageError, match=r"no adapter yet; call train\(\) first"):
        trainer.save_model()
    trained = trainer.train()
    adapter = trained.adapter
    assert [str(one.message) for one in recwarn if issubclass(one.category, FutureWarning)] == []
    assert (adapter / "adapter_model.safetensors").is_file()
    out = capsys.readouterr().out
    assert "step 2/2  loss " in out, "short lines where there is no terminal"
    assert "{" not in out, "and no JSON"
    record = trainer.run.read_record() if trainer.run else {}
    assert trained.run.startswith("first-")
    assert record["key"] == "first"
    assert (trained.folder.name, trained.steps, trained.verified) == (trained.run, 2, 28)
    assert trained.logs.is_file()
    assert trained.seconds > 0
    assert Path(trained) == adapter
    last = [line for line in map(json.loads, trained.logs.read_text().splitlines()) if line["type"] == "train"][-1]
    assert {name: trained.metrics[name] for name in ("loss", "rewards/margins")} == {
        name: last[name] for name in ("loss", "rewards/margins")
    }
    assert json.loads(json.dumps(trained.json()))["adapter"] == str(adapter)
    assert "  on the training pairs of these steps; no validation pairs were evaluated:" in str(trained).splitlines()
    assert str(trained).splitlines()[-1] == f"  adapter   {adapter} (28 tensors, read back and compared)"
    shelf = folder / "data" / "dpo" / "model" / "exp_default" / "tiny-qwen3"
    assert (shelf / "adapter").resolve() == adapter.resolve()
    assert (shelf / "logs" / "dpo_train_steps.jsonl").is_file()

    uri = trainer.save_model()
    run = adapter.resolve().parent.name
    assert uri.startswith(f"s3://adapters/dpo/exp_default/tiny-qwen3/{run}")
    keys = [item["Key"] for item in client.list_objects_v2(Bucket="adapters")["Contents"]]
    assert f"dpo/exp_default/tiny-qwen3/{run}/adapter_model.safetensors" in keys
    assert f"dpo/exp_default/tiny-qwen3/{run}/manifest.json" in keys
    assert trainer.save_existing_model(model_path=trained) == uri

    with WritableHub().serving() as hub:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert trained.push("me/first") == f"{hub.url}/me/first"
        sent = hub.repositories["me/first"].files()
    assert sent["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").read_bytes()


def test_a_training_in_this_process_tells_its_webhook_how_it_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CredentialError("the hub refuses the token")

    monkeypatch.setenv("HOOK", "")
    monkeypatch.setattr("trainer.train.train", fail)
    trainer = DPOTrainer("tiny", datasets_path="data", notify="HOOK")
    with pytest.raises(CredentialError, match=r"notify: HOOK not set; set it in your environment or in \.env"):
        trainer.train(progress="none")
    assert trainer.run is None, "nothing was started"
    with hook() as server:
        monkeypatch.setenv("HOOK", server.url)
        with pytest.raises(CredentialError, match="the hub"):
            trainer.train(progress="none")
    (message,) = server.taken
    assert (message["event"], message["exit_code"], message["cause"]) == ("failed", 44, "credential")
    assert message["sentence"] == "a credential is missing or refused: the hub refuses the token"
    assert SECRET not in capsys.readouterr().err + trainer.run.record.read_text()
