"""Sizes of models: read from config.json, counted as transformers counts them, found where they may lie."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError, UnreachableError
from launcher.experiment.schema import StorageConfig
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.planning.sizes.adapter import Adapter
from launcher.planning.sizes.config_file import find_model_config
from launcher.planning.sizes.model_config import ModelConfig
from tests.s3.proxy import FaultProxy
from tests.s3.server import MotoServer

REPOSITORY = Path(__file__).parents[4]
QWEN = REPOSITORY / "configs/models/Qwen/Qwen3-0.6B/config.json"
SMALL: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 96,
    "intermediate_size": 224,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
EXPERTS: dict[str, Any] = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": True},
    "gemma2": {},
    "gemma3_text": {},
    "phi3": {"pad_token_id": 0},
    "olmo2": {},
    "olmo3": {},
    "smollm3": {"pad_token_id": 0},
    "mixtral": {"num_local_experts": 6, "num_experts_per_tok": 2},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 80, "mlp_only_layers": [1]},
    "qwen3_moe": EXPERTS,
}
# Families whose class knows no head_dim of its own.
DERIVED = ("qwen2", "phi3", "olmo2", "olmo3", "smollm3", "qwen2_moe")


def test_the_checked_in_qwen3_has_the_parameters_that_its_card_says():
    config = ModelConfig.parse(json.loads(QWEN.read_text()))
    assert config.parameters == 596_049_920
    assert (config.tied, config.queries, config.keys, config.qk_norm) == (True, 2048, 1024, "head")


@pytest.mark.slow
def test_parameters_and_adapters_are_counted_as_the_libraries_count_them():
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    counted, found = {}, {}
    for family, more in FAMILIES.items():
        sizes = {name: size for name, size in SMALL.items() if name != "head_dim" or family not in DERIVED}
        config = AutoConfig.for_model(family, **sizes, **more)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        mine = ModelConfig.parse(config.to_dict())
        counted[family] = (mine.parameters, Adapter(Hyperparameters(r=4), mine).weights)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        lora = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        found[family] = (parameters, lora.get_nb_trainable_parameters()[0])
        assert mine.is_known
    assert counted == found


def test_named_modules_and_patterns_get_adapters():
    config = ModelConfig.parse(SMALL | {"model_type": "llama"})

    def names(targets: Any) -> list[str]:
        return sorted({name.rpartition(".")[2] for name in Adapter(Hyperparameters(target_modules=targets), config).ranks})

    assert names(["self_attn.q_proj", "v_proj"]) == ["q_proj", "v_proj"]
    assert names(r".*\.(up|down)_proj") == ["down_proj", "up_proj"]


def test_the_text_part_of_a_larger_model_is_looked_through():
    nested = {"model_type": "gemma3", "text_config": SMALL | {"model_type": "gemma3_text"}, "vision_config": {"hidden_size": 7}}
    assert ModelConfig.parse(nested) == ModelConfig.parse(SMALL | {"model_type": "gemma3_text"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "hidden_size is missing\n    expected: a positive integer"),
        ({"vocab_size": "many"}, 'vocab_size is not a size\n    expected: a positive integer\n    found:    "many"'),
        ({"num_hidden_layers": True}, "num_hidden_layers is not a size\n    expected: a positive integer\n    found:    true"),
    ],
)
def test_a_size_that_is_missing_or_wrong_is_named_with_its_file(change: dict[str, Any], message: str):
    with pytest.raises(ExperimentError) as error:
        ModelConfig.parse(SMALL | change, "m/config.json")
    assert str(error.value) == f"m/config.json: {message}"


def test_a_family_that_nobody_has_counted_is_taken_for_a_llama_and_says_so():
    config = ModelConfig.parse(SMALL | {"model_type": "new"})
    assert not config.is_known
    assert config.parameters == ModelConfig.parse(SMALL | {"model_type": "llama"}).parameters


def write(file: Path, **change: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(SMALL | {"model_type": "qwen3"} | change))
    return file


def nowhere(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home"), "HF_ENDPOINT": "http://127.0.0.1:9"}


def test_a_configuration_is_taken_from_the_best_place_that_has_it(tmp_path: Path):
    caller = {"HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    cached = tmp_path / "hf/hub/models--org--model"
    places = [
        write(tmp_path / "home/.cache/huggingface/hub/models--org--model/snapshots/main/config.json", hidden_size=97),
        write(cached / "snapshots/abc/config.json", hidden_size=98),
        write(tmp_path / "configs/models/org/model/config.json", hidden_size=99),
        write(tmp_path / "org/model/config.json", hidden_size=100),
        write(tmp_path / "given.json", hidden_size=101),
    ]
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("abc")
    config, where = find_model_config("org/model", tmp_path, caller, places.pop())
    assert (config.hidden, where) == (101, str(tmp_path / "given.json"))
    while places:
        config, where = find_model_config("org/model", tmp_path, caller)
        assert where == str(places[-1])
        assert config.hidden == 96 + len(places)
        file = places.pop()
        file.unlink()
        if file.parent == tmp_path / "org/model":
            file.parent.rmdir()


def test_a_model_of_this_project_is_known_in_any_directory(tmp_path: Path):
    _, where = find_model_config("Qwen/Qwen3-0.6B", tmp_path, nowhere(tmp_path))
    assert where == str(QWEN)


@contextmanager
def hub(status: int, body: str) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    asked: list[tuple[str, str | None]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_the_hub_is_asked_last_with_the_callers_token(tmp_path: Path):
    with hub(200, json.dumps(SMALL)) as (url, asked):
        config, where = find_model_config("org/model", tmp_path, nowhere(tmp_path) | {"HF_ENDPOINT": url, "HF_TOKEN": "hf_x"})
    assert (config.hidden, where) == (96, f"{url}/org/model/resolve/main/config.json")
    assert asked == [("/org/model/resolve/main/config.json", "Bearer hf_x")]


def test_a_refusal_of_the_hub_says_what_was_tried_and_what_to_do(tmp_path: Path):
    with hub(401, "") as (url, _), pytest.raises(ExperimentError) as error:
        find_model_config("org/model", tmp_path, nowhere(tmp_path) | {"HF_ENDPOINT": url})
    text = str(error.value)
    assert text.startswith("model_name: no config.json found for org/model\n    found:    tried ")
    assert f"{tmp_path}/configs/models/org/model/config.json; " in text
    assert f"{url}/org/model/resolve/main/config.json (401 Unauthorized; set HF_TOKEN in .env)" in text
    assert text.endswith("hint:     pass the file: --model-config FILE")


def test_the_network_is_left_alone_where_nobody_allows_it(tmp_path: Path):
    with hub(200, json.dumps(SMALL)) as (url, asked), pytest.raises(ExperimentError, match="pass the file:"):
        find_model_config("org/model", tmp_path, nowhere(tmp_path) | {"HF_ENDPOINT": url}, network=False)
    assert asked == []


def test_a_model_in_a_bucket_is_known_by_its_config_alone(tmp_path: Path, moto: MotoServer):
    client = moto.emptied("models")
    for name, body in {"config.json": json.dumps(SMALL).encode(), "model.safetensors": bytes(1 << 20)}.items():
        client.put_object(Bucket="models", Key=f"base/small/{name}", Body=body)
    with FaultProxy(moto.url) as proxy:
        storage = StorageConfig(endpoint_url=proxy.url)
        config, where = find_model_config("s3://models/base/small", tmp_path, in_bucket(tmp_path), storage=storage)
        read = [request.path for request in proxy.requests if request.path != "/models"]
        client.delete_object(Bucket="models", Key="base/small/config.json")
        with pytest.raises(ExperimentError) as caught:
            find_model_config("s3://models/base/small", tmp_path, in_bucket(tmp_path), storage=storage)
    assert (config.hidden, where) == (SMALL["hidden_size"], "s3://models/base/small/config.json")
    assert read == ["/models/base/small/config.json"]
    assert "tried s3://models/base/small/config.json (not found)\n" in str(caught.value)


@pytest.mark.parametrize(("status", "why"), [(503, "HTTP 503 (Service Unavailable)"), (429, "HTTP 429 (Too Many Requests)")])
def test_a_hub_that_fails_for_now_is_not_the_experiments_mistake(tmp_path: Path, status: int, why: str):
    with hub(status, "") as (url, _), pytest.raises(UnreachableError) as error:
        find_model_config("org/model", tmp_path, nowhere(tmp_path) | {"HF_ENDPOINT": url})
    assert str(error.value) == (
        f"no config.json found for org/model: the hub ({url}) cannot be reached: {why}\n"
        "    hint:     pass the file: --model-config FILE"
    )


def test_nobody_at_the_hubs_address_is_not_the_experiments_mistake(tmp_path: Path):
    with pytest.raises(UnreachableError, match=r"the hub \(http://127\.0\.0\.1:9\) cannot be reached: connection refused"):
        find_model_config("org/model", tmp_path, nowhere(tmp_path))


def test_a_model_in_a_bucket_that_is_not_reached_needs_the_flag(tmp_path: Path):
    storage = StorageConfig(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(UnreachableError) as caught:
        find_model_config("s3://bucket/model", tmp_path, in_bucket(tmp_path), storage=storage)
    text = str(caught.value)
    assert text.startswith("no config.json found for s3://bucket/model: bucket bucket at http://127.0.0.1:9: cannot connect ")
    assert text.endswith("hint:     pass the file: --model-config FILE")
    config, _ = find_model_config("s3://bucket/model", tmp_path, {}, write(tmp_path / "given.json"))
    assert config.hidden == 96


def in_bucket(home: Path) -> dict[str, str]:
    return {**nowhere(home), "AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}


@pytest.mark.parametrize(("text", "what"), [("{", "not valid JSON"), ("[]", "not a JSON object")])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str, what: str):
    file = tmp_path / "given.json"
    file.write_text(text)
    with pytest.raises(ExperimentError, match=what):
        find_model_config("org/model", tmp_path, {}, file)
    with pytest.raises(ExperimentError, match="not found"):
        find_model_config("org/model", tmp_path, {}, tmp_path / "other.json")
