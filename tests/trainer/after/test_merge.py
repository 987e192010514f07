"""The merge of a run's adapter: the files of the model, and the comparison that a wrong one does not pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from launcher.data.pairs import read_pairs, write_processed
from launcher.data.tables.reading import Reading
from launcher.errors import LauncherError
from launcher.experiment.schema import Experiment
from launcher.job.target import Target
from launcher.runs.run_dir import RunDir
from trainer.after import agreement, merge
from trainer.after.merging import Merging

Make = Callable[..., Experiment]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, make_experiment: Make, tiny_model: Path, new_run: Any) -> RunDir:
    """A run with a strong adapter, as if it had been trained, and its pairs."""
    root = tmp_path_factory.mktemp("run")
    experiment = make_experiment(r=4)
    made: RunDir = new_run(root, experiment, "merged")
    write_processed(read_pairs(experiment, Reading(Path())), made.data)
    adapter(tiny_model, made.adapter, std=0.3)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tiny_model / name, made.adapter / name)
    with (made.adapter / "chat_template.jinja").open("a", encoding="utf-8") as file:
        file.write("{# of the run #}")
    (made.adapter / "README.md").write_text("the adapter's card")
    return made


def adapter(base: Path, folder: Path, std: float) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
    torch.manual_seed(3)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=std)
    adapted.save_pretrained(folder)


def merged(target: Target, out: Path, dtype: str | None = None, *, compare: bool = True) -> Mapping[str, Any]:
    out.mkdir()
    return merge.merged(target, out, dtype, compare=compare, cache=out.parent / "cache")


def test_a_merged_run_has_its_tokenizer_its_template_and_the_base_s_settings(
    run: RunDir, tmp_path: Path, tiny_model: Path
) -> None:
    answer = merged(Target.of(run.path), tmp_path / "out")
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found >= {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"}
    assert found.isdisjoint({"adapter_config.json", "adapter_model.safetensors"})
    card = (tmp_path / "out" / "README.md").read_text()
    assert "The weights of `tiny-qwen3`" in card
    assert 'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")' in card
    assert (tmp_path / "out" / "chat_template.jinja").read_text().endswith("{# of the run #}")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == json.loads((tiny_model / "config.json").read_text()) | {"dtype": "bfloat16"}
    assert (answer["dtype"], answer["changed"], answer["base"]) == ("bfloat16", 14, str(tiny_model))
    assert answer["agreement"]["answers"] == 8  # of the run's first four pairs
    assert answer["agreement"]["mean"] < answer["agreement"]["limit"] < 0.1
    assert (answer["warnings"], answer["notices"]) == ([], [])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_right_merge_differs_as_a_second_rounding_does(run: RunDir, tmp_path: Path, dtype: str) -> None:
    found = merged(Target.of(run.path), tmp_path / "out", dtype)["agreement"]
    assert found["mean"] <= max(2 * found["noise"], 1e-5)


FAULTS = {
    "one layer's change is missing": lambda w, base: w.update({MLP: base[MLP]}),
    "one layer's change has twice its size": lambda w, base: w.update({MLP: 2 * w[MLP] - base[MLP]}),
    "nothing was merged": lambda w, base: w.update(base),
}
MLP = "model.layers.0.mlp.down_proj.weight"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_merge_is_found(
    run: RunDir, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    write = Merging.write

    def wrong(self: Merging, folder: Path, *args: Any) -> Any:
        outcome = write(self, folder, *args)
        weights = load_file(folder / "model.safetensors")
        base = {name: tensor.bfloat16() for name, tensor in load_file(tiny_model / "model.safetensors").items()}
        FAULTS[fault](weights, base)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return outcome

    monkeypatch.setattr(Merging, "write", wrong)
    with pytest.raises(
        LauncherError, match=r"the merged model differs from base and adapter: log-probabilities differ by .* \(8 answers"
    ):
        merged(Target.of(run.path), tmp_path / "out")


def test_an_adapter_without_a_run_is_compared_on_short_sentences(run: RunDir, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(run.adapter, alone)
    answer = merged(Target.of(alone), tmp_path / "out")
    assert answer["agreement"]["answers"] == 2 * len(agreement.PLAIN)


def test_the_comparison_does_not_need_the_attention_of_the_training(run: RunDir, tmp_path: Path, make_experiment: Make) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    (folder / "experiment.json").write_text(make_experiment(r=4, attn_implementation="flash_attention_2").model_dump_json())
    assert merged(Target.of(folder), tmp_path / "out")["agreement"]["answers"] == 8


def test_an_adapter_of_a_quantised_training_is_merged_with_a_warning(run: RunDir, tmp_path: Path, make_experiment: Make) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    (folder / "experiment.json").write_text(make_experiment(r=4, load_in_4bit=True).model_dump_json())
    answer = merged(Target.of(folder), tmp_path / "out")
    assert answer["warnings"] == [
        "trained on 4-bit weights, merged into 16-bit ones: log-probabilities differ from those of the run"
    ]


def test_a_full_disk_is_noticed_before_anything_is_written(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))  # type: ignore[attr-defined]
    with pytest.raises(LauncherError, match=r"the merged model needs 0\.0 GiB"):
        merged(Target.of(run.path), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_too_little_memory_to_compare_is_an_error_that_names_the_way_out(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "room", lambda: 1000)
    with pytest.raises(LauncherError, match=r"merge without comparing: --no-compare"):
        merged(Target.of(run.path), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []  # before the weights are written
    assert merged(Target.of(run.path), tmp_path / "other", compare=False)["agreement"] is None


@pytest.mark.parametrize(
    ("mean", "noise", "sentence"),
    [
        (0.0, 0.0, "identical log-probabilities (8 answers, 1,770 tokens, float32 on the CPU)"),
        (
            0.00012,
            0.00017,
            "log-probabilities differ by 0.00012 per token on average (limit 0.00068, 4 times what rounding makes), "
            "of a whole answer by at most 0.0059 (8 answers, 1,770 tokens, float32 on the CPU)",
        ),
        (
            0.00002,
            0.00001,
            "log-probabilities differ by 2e-05 per token on average (limit 0.0001), "
            "of a whole answer by at most 0.0059 (8 answers, 1,770 tokens, float32 on the CPU)",
        ),
    ],
)
def test_the_agreement_is_a_sentence_that_begins_with_what_was_found(mean: float, noise: float, sentence: str) -> None:
    assert str(agreement.Agreement(8, 1770, mean, noise, 0.0059, "float32 on the CPU")) == sentence
