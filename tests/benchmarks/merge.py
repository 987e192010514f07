"""Merges a LoRA of rank 16 into a 0.6B-shaped model of random weights: seconds, those of the CPU, and the largest memory.

python -m tests.benchmarks.merge [FOLDER]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .models import QWEN3_06B, config, tokenizer


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(sys.argv[1] if len(sys.argv) > 1 else folder)
        if not (root / "adapter").is_dir():
            subprocess.run([sys.executable, "-c", f"from tests.benchmarks.merge import make; make({str(root)!r})"], check=True)
        for part in ("merge", "merge and compare"):
            found = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.merge", "--one", str(root), part], check=True, stdout=subprocess.PIPE
            )
            print(part, found.stdout.decode().splitlines()[-1])


def make(folder: str) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3ForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = Qwen3ForCausalLM(config(QWEN3_06B))
    model.save_pretrained(f"{folder}/base")
    tokenizer(QWEN3_06B["vocab_size"]).save_pretrained(f"{folder}/base")
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=16, target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    adapted.save_pretrained(f"{folder}/adapter")


def one(root: Path, part: str) -> dict[str, Any]:
    import torch

    from trainer.after.agreement import compare
    from trainer.after.merging import Merging

    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    began = time.monotonic()
    base, adapter = root / "base", root / "adapter"
    with tempfile.TemporaryDirectory(dir=root) as out:
        merging = Merging(base, [adapter])
        merging.write(Path(out), None)
        found = {
            "merge_s": time.monotonic() - began,
            "imports_gib": imported,
            "largest_file_gib": merging.files.largest_file / 2**30,
        }
        if part != "merge":
            for name in ("config.json", "generation_config.json"):
                (Path(out) / name).write_bytes((base / name).read_bytes())
            random = torch.Generator().manual_seed(3)
            ids = [torch.randint(2, 150_000, (128,), generator=random).tolist() for _ in range(8)]
            from launcher.experiment.schema import Experiment

            experiment = Experiment.parse({"model_name": str(base)}, needs_data=False)
            sequences = [(one[:64], one[64:]) for one in ids]
            said = compare(experiment, base, [adapter], Path(out), sequences, (torch.bfloat16, merging.changed))
            found |= {"all_s": time.monotonic() - began, "agreement": str(said), "holds": said.holds}
    used = resource.getrusage(resource.RUSAGE_SELF)
    found["cpu_s"] = used.ru_utime + used.ru_stime
    return found | {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(one(Path(sys.argv[2]), sys.argv[3])))
    else:
        main()
