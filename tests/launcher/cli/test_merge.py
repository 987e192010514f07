"""`launcher merge` as a person types it, with the trainer's process on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

SCRIPT = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {here!r})
from transformers import Qwen3Config, Qwen3ForCausalLM
from peft import LoraConfig, get_peft_model
from trainer.inputs.demo.model import train_tokenizer
tokenizer = train_tokenizer(["When does the library open? At nine, and it closes at eight in the evening."] * 4)
sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
sizes |= dict(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=True)
model = Qwen3ForCausalLM(Qwen3Config(**sizes))
model.save_pretrained("base")
tokenizer.save_pretrained("base")
adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))
for name, parameter in adapted.named_parameters():
    if "lora_B" in name:
        parameter.data.normal_(std=0.2)
adapted.peft_config["default"].base_model_name_or_path = str(Path("base").absolute())
adapted.save_pretrained("adapter")
"""


def test_an_adapter_s_folder_becomes_a_model_that_transformers_loads(tmp_path: Path) -> None:
    repository = str(Path(__file__).parents[3])
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": repository, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    env["KUBECONFIG"] = str(tmp_path / "none")
    made = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(here=repository)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    argv = [sys.executable, "-m", "launcher", "merge", "./adapter", "-o", "merged", "--backend", "host", "--json"]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["name"], answer["place"], answer["changed"]) == ("adapter", str(tmp_path / "merged"), 14)
    assert answer["agreement"]["mean"] <= answer["agreement"]["limit"]
    assert sorted(path.name for path in (tmp_path / "merged").iterdir())[:2] == ["chat_template.jinja", "config.json"]
    again = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert again.returncode == 2
    assert "is not empty; name a new one with -o DIR" in again.stderr
