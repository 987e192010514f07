"""Serves adapters with a real vLLM, as `launcher serve` prints it, and compares its answers with those of `launcher generate`.

    python -m tests.benchmarks.serve_check VLLM [KIND …]

VLLM is the program of an environment of its own (vLLM on a CPU is enough). Each adapter is random and lies on the demo's model;
the server computes in fp32, the answers are greedy, and each must be the same word for word.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

MODEL: Final = Path("data/demo/qwen3-tiny").absolute()
PROMPTS: Final = ("How do I boil an egg?", "What can I do against noise at night?", "Which river flows through Paris?")
TOKENS: Final = 24
PATIENCE: Final = 400  # seconds until the server must answer
LAYERS: Final = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Settings of an adapter; DoRA is merged first.
KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "ranks": {"rank_pattern": {"q_proj": 12, "layers.1.mlp.down_proj": 2}},
    "scales": {"alpha_pattern": {"q_proj": 4, "layers.1.mlp.down_proj": 32}},
    "patterns": {
        "use_rslora": True,
        "init_lora_weights": "gaussian",
        "rank_pattern": {".*layers.0.*up_proj": 12, "self_attn.o_proj": 1},
        "alpha_pattern": {"model.layers.1.self_attn.v_proj": 24, "gate_proj": 2, "self_attn.o_proj": 3},
    },
    "embedding": {"target_modules": [*LAYERS, "embed_tokens"]},
    "dora": {"use_dora": True},
}


def main() -> int:
    program, kinds = sys.argv[1], sys.argv[2:] or list(KINDS)
    with tempfile.TemporaryDirectory() as folder:
        differing = [kind for kind in kinds if not _is_same(program, kind, Path(folder))]
    if differing:
        print(f"other answers: {', '.join(differing)}", file=sys.stderr)
    return 1 if differing else 0


def _is_same(program: str, kind: str, folder: Path) -> bool:
    code = f"from tests.benchmarks.serve_check import make; make({kind!r}, {str(folder / kind)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
    expected, plain = _generated(folder / kind, folder)
    with _server(program, _printed(folder / kind)) as address:
        found = [_asked(address, kind, prompt).strip() for prompt in PROMPTS]
    same = sum(one == other for one, other in zip(found, expected, strict=True))
    changed = sum(one != other for one, other in zip(expected, plain, strict=True))
    print(f"{kind}: {same} of {len(PROMPTS)} answers are the same ({changed} are not the base's)", flush=True)
    for one, other in zip(found, expected, strict=True):
        if one != other:
            print(f"  vLLM:     {one!r}\n  launcher: {other!r}", flush=True)
    return same == changed == len(PROMPTS)


def make(kind: str, folder: str) -> None:
    """Saves an adapter of random weights that change every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": LAYERS, **KINDS[kind]}
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            parameter.data.normal_(std=0.3)
    adapted.save_pretrained(folder)


def _generated(adapter: Path, folder: Path) -> tuple[list[str], list[str]]:
    """The answers of the adapter and of its base."""
    asked, answers = folder / "prompts.txt", folder / f"{adapter.name}.jsonl"
    asked.write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")
    options = ["--data", str(asked), "-o", str(answers), "--base", "--max-tokens", str(TOKENS)]
    _launcher("generate", str(adapter), *options)
    lines = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    return [line["answer"] for line in lines], [line["base"] for line in lines]


def _printed(adapter: Path) -> Sequence[str]:
    """The arguments after ``vllm``."""
    merged = adapter.with_name(f"{adapter.name}-merged")
    if "use_dora" in KINDS[adapter.name]:
        _launcher("merge", str(adapter), "-o", str(merged), "--dtype", "float32")
    options = ["--merged", str(merged)] if merged.is_dir() else []
    return shlex.split(_launcher("serve", str(adapter), "--dtype", "float32", *options).replace("\\\n", " "))[1:]


def _launcher(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "launcher", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"launcher {shlex.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


@contextmanager
def _server(program: str, arguments: Sequence[str]) -> Iterator[str]:
    """Its address, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([program, *arguments, *own], stdout=log, stderr=log, env=env)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def _wait(process: subprocess.Popen[bytes], address: str, log: Any) -> None:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(address, timeout=10):
                return
        except OSError:
            time.sleep(1)
    log.seek(0)
    raise SystemExit(f"vLLM does not answer:\n{log.read().decode(errors='replace')[-4000:]}")


def _asked(address: str, model: str, prompt: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": TOKENS}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        text: str = json.load(answer)["choices"][0]["message"]["content"]
    return text


if __name__ == "__main__":
    raise SystemExit(main())
