"""The card of what a run trained, from folders of runs without a training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from launcher.experiment.schema import Experiment
from launcher.redact import REDACTOR
from launcher.runs.run_dir import RunDir
from tests.run_folders import Made, evaluate
from trainer.card.base import Base
from trainer.card.card import write_card

LOCAL = Base("qwen3-tiny", identity="ab" * 32)
HUB = Base("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "c" * 40, "ab" * 32, {"license": "apache-2.0"})


def run_of(home: Path, *, samples: str = "Open the window.", **made: Any) -> RunDir:
    run = Made("steady", **{"learned": True, **made}).write(home)
    evaluate(run, text=samples)
    return run


def card_of(run: RunDir, base: Base = HUB, *, is_merged: bool = False) -> str:
    folder = run.path / ".adapter"
    folder.mkdir()
    (folder / "README.md").write_text("---\nbase_model: /home/me/models/tiny\n---\n[More Information Needed]\n")
    write_card(run, Experiment.model_validate_json(run.experiment.read_text()), folder, base, is_merged=is_merged)
    return (folder / "README.md").read_text(encoding="utf-8")


def loading(card: str) -> list[str]:
    return card.partition("```python\n")[2].partition("\n```")[0].splitlines()


def test_the_metadata_tell_a_hub_what_the_adapter_is_for(tmp_path: Path) -> None:
    card = ModelCard(card_of(run_of(tmp_path)))
    assert card.data.to_dict() == {
        "base_model": "Qwen/Qwen3-0.6B",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": ["dpo", "dpo-launcher", "lora", "transformers", "trl"],
    }


def test_a_data_set_of_the_hub_is_named_with_its_commit(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    about = {"role": "train", "name": "org/prefs: train", "sha256": "a" * 64, "rows": 420}
    run.update_record(data=[{**about, "hub": {"name": "org/prefs", "revision": "d" * 40, "config": "default", "split": "train"}}])
    card = card_of(run)
    assert ModelCard(card).data.to_dict()["datasets"] == ["org/prefs"]
    assert f"`org/prefs` is a dataset on the hub, at revision `{'d' * 40}`." in card
    assert "| train | `org/prefs: train` | 420 |" in card


def test_a_base_that_is_on_no_hub_is_named_by_its_folder_and_its_hash(tmp_path: Path) -> None:
    card = card_of(run_of(tmp_path), LOCAL)
    assert "base_model" not in ModelCard(card).data.to_dict()
    assert "`qwen3-tiny`, a local model whose configuration and weights have the hash `abababababababab`" in card
    assert loading(card) == [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'base = AutoModelForCausalLM.from_pretrained("BASE")',
        'model = PeftModel.from_pretrained(base, "path/to/this/folder")',
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
    ]


def test_all_weights_are_a_finetune_that_transformers_loads(tmp_path: Path) -> None:
    card = card_of(run_of(tmp_path, settings={"full_finetuning": True}))
    found = ModelCard(card).data.to_dict()
    assert (found["base_model_relation"], found["library_name"]) == ("finetune", "transformers")
    assert "lora" not in found["tags"]
    assert loading(card)[2] == 'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")'
    assert "All weights of `Qwen/Qwen3-0.6B` (revision `cccccccccccc`), trained with DPO" in card


def test_a_merged_model_is_loaded_by_transformers_and_says_what_is_in_it(tmp_path: Path) -> None:
    card = card_of(run_of(tmp_path), is_merged=True)
    found = ModelCard(card).data.to_dict()
    assert (found["base_model_relation"], found["library_name"]) == ("finetune", "transformers")
    assert loading(card)[2] == 'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")'
    weights = (
        "The weights of `Qwen/Qwen3-0.6B` (revision `cccccccccccc`), with a LoRA adapter (rank 16, alpha 16) merged into them."
    )
    assert f"{weights} The adapter was trained with DPO" in card
    assert card.count("revision `cccccccccccc`") == 1, "the base is described once"


def test_a_supervised_warm_up_counts_answers_and_has_no_beta(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    experiment = json.loads(run.experiment.read_text())
    run.experiment.write_text(json.dumps({**experiment, "method": "sft"}))
    card = card_of(run)
    assert (
        "trained with supervised fine-tuning on the chosen answers. The training took 40 steps of 16 answers: 420 answers."
        in card
    )
    assert "sft" in ModelCard(card).data.tags


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("continue", "The training continued the adapter `sft-1`."),
        (
            "merge",
            "The adapter `sft-1` was merged into the base before the training and is part of this one, "
            "which therefore has rank 24.",
        ),
    ],
)
def test_an_adapter_that_the_run_started_from_is_named_with_its_mode(tmp_path: Path, mode: str, sentence: str) -> None:
    start = {"name": "/home/me/runs/sft-1", "mode": mode, "sha256": {}, "revision": None, "base": "Qwen/Qwen3-0.6B"}
    start |= {"joined": {"ranks": [24], "modules": 14}} if mode == "merge" else {}
    card = card_of(run_of(tmp_path, record={"adapter": start}))
    assert sentence in card
    assert loading(card)[3] == 'model = AutoPeftModelForCausalLM.from_pretrained("path/to/this/folder")'
    assert "/home/me" not in card


@pytest.mark.parametrize(
    "name", ["data/dpo/model/exp_1/tiny/runs/sft-1/adapter", "s3://ours/exp_1/sft-1/adapter/", "/home/me/sft-1"]
)
def test_an_adapter_in_the_folder_of_a_run_has_the_name_of_the_run(tmp_path: Path, name: str) -> None:
    start = {"name": name, "mode": "continue", "sha256": {}, "revision": None, "base": "Qwen/Qwen3-0.6B"}
    assert "The training continued the adapter `sft-1`." in card_of(run_of(tmp_path, record={"adapter": start}))


def test_figures_data_and_settings_are_those_of_the_record(tmp_path: Path) -> None:
    run = run_of(tmp_path, settings={"beta": 0.3, "seed": 7})
    record = run.read_record()
    storage = {"bucket_name": "our-bucket", "endpoint_url": "http://store.internal:9000"}
    experiment = {**record["experiment"], "datasets_path": "/srv/team/pairs", "storage_config": storage}
    run.experiment.write_text(Experiment.parse(experiment).model_dump_json())
    data = [{**record["data"][0], "name": "s3://our-bucket/pairs/train.csv"}, *record["data"][1:]]
    run.update_record(data=data)
    card = card_of(run)
    after = record["result"]["learned"]["after"]["margin"]
    assert f"| margin | {after['value']:+.3f} | {after['low']:+.3f} to {after['high']:+.3f} |" in card
    assert f"| train | `train.csv` | 420 | `{'c' * 64}` |" in card
    assert "2 of 420 training pairs look mislabelled." in card
    (settings,) = yaml.safe_load(card.partition("```yaml\n")[2].partition("```")[0]).values()
    assert settings["datasets_path"] == "pairs"
    assert settings["hyperparameters"]["beta"] == 0.3
    assert "lora_dropout" not in settings["hyperparameters"]
    assert not [word for word in ("our-bucket", "store.internal", "/srv", str(tmp_path)) if word in card]
    assert "launcher again steady" in card


def test_the_answers_of_the_saved_weights_are_cut_and_are_no_html(tmp_path: Path) -> None:
    card = card_of(run_of(tmp_path, samples="<img src=x>\n# " + "word " * 200))
    blocks = [line for line in card.splitlines() if line.startswith("> **Trained:** 40: &lt;img src=x&gt; # word")]
    assert len(blocks) == 2
    assert all(line.endswith("…") and len(line) < 450 for line in blocks)
    assert "> **Trained:** 20:" not in card


def test_the_prompt_of_the_training_stands_in_the_card_as_it_is(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.prompt.write_text(json.dumps({"system": "Use ``` for code.\nBe brief.", "user": ["", "question", ""], "place": None}))
    card = card_of(run)
    assert "````text\nUse ``` for code.\nBe brief.\n````" in card
    assert "User messages" not in card
    shutil.rmtree(run.path / ".adapter")
    user = ["Answer in ", "language", ": ", "question", "", [" (", "note", ")"], ""]
    run.prompt.write_text(json.dumps({"system": None, "user": user, "place": None}))
    assert "User messages were made by this template:\n\n```text\nAnswer in {language}: {question}{? ({note})}\n```" in card_of(
        run
    )


def test_a_secret_in_the_data_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REDACTOR, "_names", {})
    monkeypatch.setattr(REDACTOR, "_learned", None)
    REDACTOR.learn({"HF_TOKEN": "hf-very-secret"})
    card = card_of(run_of(tmp_path, samples="say hf-very-secret"))
    assert "very-secret" not in card
    assert "[hidden: HF_TOKEN]" in card


def test_what_cannot_be_written_is_a_warning_and_the_rest_of_the_card_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path, record={"data": [{"role": "train"}]})
    card = card_of(run)
    assert "## Data" not in card
    assert "## Figures" in card
    assert "warning: the model card has no section 'data': KeyError: 'name'\n" in capsys.readouterr().out


def test_without_a_record_there_is_a_warning_and_no_card_of_another_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path)
    run.record.write_text("not JSON")
    with pytest.raises(FileNotFoundError):
        card_of(run)
    assert "warning: no model card: LauncherError" in capsys.readouterr().out
