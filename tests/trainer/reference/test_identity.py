from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from launcher.errors import ExperimentError
from trainer.inputs.models.model import Precision
from trainer.reference import identity as module
from trainer.reference.identity import LARGE, base_identity, reference_key

FP32 = Precision(torch.float32, bf16=False, fp16=False)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the files that count and some that do not."""
    return _model(tmp_path / "model")


def _model(folder: Path, weights: bytes = b"weights" * 300_000) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"hidden_size": 8}')
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "README.md").write_text("what it is good for")
    return folder


def test_a_copy_under_another_name_is_the_same_model(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(model, copy)
    assert base_identity(str(copy), tmp_path) == base_identity(str(model), tmp_path)


@pytest.mark.parametrize(
    "name", ["README.md", "training_args.bin", "tokenizer.json", "script.py", "checkpoint-1/model.safetensors"]
)
def test_files_that_the_model_is_not_made_of_do_not_count(model: Path, tmp_path: Path, name: str) -> None:
    before = base_identity(str(model), tmp_path)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("new")
    assert base_identity(str(model), tmp_path) == before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_one_byte_of_configuration_or_weights_is_another_model(model: Path, tmp_path: Path, name: str) -> None:
    before = base_identity(str(model), tmp_path)
    path = model / name
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-2] + b"9}")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert base_identity(str(model), tmp_path) != before


def test_every_shard_that_the_index_names_counts(tmp_path: Path) -> None:
    folder = _model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors", "c": "part-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for part in (1, 2):
        (folder / f"part-{part}.safetensors").write_bytes(b"one")
    before = base_identity(str(folder), tmp_path)
    (folder / "part-2.safetensors").write_bytes(b"two")
    assert base_identity(str(folder), tmp_path) != before


def test_remote_code_counts_where_the_configuration_asks_for_it(model: Path, tmp_path: Path) -> None:
    (model / "config.json").write_text('{"auto_map": {"AutoModelForCausalLM": "modeling.Net", "AutoTokenizer": [null, "t.T"]}}')
    (model / "modeling.py").write_text("a = 1")
    before = base_identity(str(model), tmp_path)
    (model / "modeling.py").write_text("a = 2")
    assert base_identity(str(model), tmp_path) != before


def test_large_files_are_read_once_and_again_when_they_change(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, cache = model / "model.safetensors", tmp_path / "cache"
    assert weights.stat().st_size > LARGE
    read: list[str] = []
    whole = hashlib.file_digest

    def watched(file: Any, name: str) -> Any:
        read.append(file.name)
        return whole(file, name)

    monkeypatch.setattr(hashlib, "file_digest", watched)
    later = SimpleNamespace(time=lambda: weights.stat().st_ctime + 2.1)  # what is newer may change again unseen
    monkeypatch.setattr(module, "time", later)
    first = base_identity(str(model), cache)
    assert base_identity(str(model), cache) == first
    assert read == [str(weights.resolve())]

    (note,) = (cache / "identity").iterdir()
    note.write_text("half a no")
    assert base_identity(str(model), cache) == first
    assert len(read) == 2

    stat = weights.stat()
    weights.write_bytes(b"WEIGHTS" * 300_000)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    later.time = lambda: weights.stat().st_ctime + 1.9
    changed = base_identity(str(model), cache)
    assert changed != first
    assert base_identity(str(model), cache) == changed
    assert len(read) == 4, "a file that is still new is read each time"


def test_a_cache_that_cannot_be_written_changes_nothing(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert base_identity(str(model), tmp_path / "file") == base_identity(str(model), tmp_path / "cache")


def test_a_model_of_the_hub_is_the_folder_with_the_same_content_and_its_weights_are_not_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = _hub(tmp_path / "hub", "models--org--net", model)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("the weights were read"))
    found = base_identity("org/net", tmp_path, model_cache_dir=str(hub))
    monkeypatch.undo()
    assert found == base_identity(str(model), tmp_path)


def test_an_adapter_is_its_own_files_and_those_of_its_base(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    (adapter / "adapter_model.safetensors").write_bytes(b"lora")
    first = base_identity(str(adapter), tmp_path)
    (adapter / "adapter_model.safetensors").write_bytes(b"LORA")
    second = base_identity(str(adapter), tmp_path)
    (model / "model.safetensors").write_bytes(b"other")
    assert len({first, second, base_identity(str(adapter), tmp_path), base_identity(str(model), tmp_path)}) == 4


@pytest.mark.parametrize("name", ["org/unknown", "/no/such/folder"])
def test_a_model_that_is_nowhere_is_a_mistake(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        base_identity(name, tmp_path, model_cache_dir=str(tmp_path / "hub"))
    assert str(caught.value) == (
        f"model_name: model not found\n    expected: a model folder, or a model in the hub's cache\n    found:    {name}"
    )


def test_the_key_is_another_one_for_everything_that_changes_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    same: dict[str, Any] = {
        "identity": "a" * 64,
        "precision": FP32,
        "quantization": None,
        "attention": "sdpa",
        "path": "packed",
        "device": "cpu",
    }
    half = torch.bfloat16
    changes: list[dict[str, Any]] = [
        {},
        {"identity": "b" * 64},
        {"precision": Precision(half, bf16=True, fp16=False)},
        {"precision": Precision(torch.float32, bf16=True, fp16=False)},
        {"precision": Precision(torch.float32, bf16=False, fp16=True)},
        {"attention": "eager"},
        {"path": "plain"},
        {"device": "cuda"},
        {"tf32": True},
        {"tf32": False},
    ]

    def keys() -> list[str]:
        found = []
        for change in changes:
            options = {**same, **change}
            found.append(reference_key(options.pop("identity"), **options))
        return found

    before = keys()
    assert before == keys()
    assert len(set(before)) == len(changes)
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0.1" if name == "transformers" else real(name))
    assert not set(before) & set(keys())


def test_quantised_weights_have_a_key_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.48.1" if name == "bitsandbytes" else real(name))

    def key(quantization: dict[str, Any] | None) -> str:
        return reference_key("a", precision=FP32, quantization=quantization, attention="sdpa", path="plain", device="cuda")

    assert len({key(None), key({"load_in_4bit": True}), key({"load_in_8bit": True})}) == 3


def _hub(root: Path, name: str, model: Path) -> Path:
    """The hub's cache as huggingface_hub lays it out: weights as blobs named by their SHA-256, small files by git's hash."""
    snapshot, blobs = root / name / "snapshots" / COMMIT, root / name / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (root / name / "refs").mkdir()
    (root / name / "refs" / "main").write_text(COMMIT)
    for path in (model / "config.json", model / "model.safetensors"):
        data = path.read_bytes()
        blob = blobs / (hashlib.sha256(data) if path.suffix == ".safetensors" else hashlib.sha1(data)).hexdigest()
        blob.write_bytes(data)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", blob.name))
    return root
