from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError, Warned
from launcher.experiment.files import load
from launcher.experiment.resolved import resolved
from launcher.experiment.schema import Experiment
from launcher.job.adapter_config import AdapterConfig, followed
from launcher.job.starting import check_starting, paired, paired_loaded
from launcher.runs.run_dir import RunDir


def experiment(**fields: Any) -> Experiment:
    return Experiment.parse({"model_name": "me/base", "datasets_path": "data", **fields})


def write_adapter(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    config = {"base_model_name_or_path": "me/base", "peft_type": "LORA", "r": 8, "lora_alpha": 32, "target_modules": ["v", "q"]}
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}, indent=2))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def refused(root: Path, **fields: Any) -> str:
    caller = {"HOME": str(root)}
    with pytest.raises(ExperimentError) as caught:
        check_starting(paired(experiment(**fields), root, caller).experiment, root, caller)
    return str(caught.value)


def test_an_adapter_given_as_the_model_is_taken_apart_and_the_pair_is_said(tmp_path: Path) -> None:
    write_adapter(tmp_path / "sft")
    found = paired(experiment(model_name="sft"), tmp_path, {"HOME": str(tmp_path)})
    assert (found.experiment.model_name, found.experiment.adapter) == ("me/base", "sft")
    assert found.said == ("model sft is an adapter: base me/base, adapter sft, continue",)


def test_a_cached_hub_adapter_is_recognised_at_its_revision(tmp_path: Path) -> None:
    hub = tmp_path / ".cache" / "huggingface" / "hub" / "models--me--sft"
    write_adapter(hub / "snapshots" / "abc", r=4)
    (hub / "refs").mkdir()
    (hub / "refs" / "v1").write_text("abc")
    caller = {"HOME": str(tmp_path)}
    assert paired(experiment(adapter="me/sft@v1"), tmp_path, caller).experiment.hyperparameters.r == 4
    assert paired(experiment(adapter="me/sft@abc"), tmp_path, caller).experiment.hyperparameters.r == 4
    assert paired(experiment(adapter="me/sft"), tmp_path, caller).experiment.hyperparameters.r == 16, "the run will know"


def test_unset_settings_follow_the_adapter_that_is_continued_and_a_new_one_has_its_own(tmp_path: Path) -> None:
    write_adapter(tmp_path / "sft", use_rslora=True, rank_pattern={"q": 4}, exclude_modules=None)
    h = paired(experiment(adapter="sft"), tmp_path, {}).experiment.hyperparameters
    assert (h.r, h.lora_alpha, h.target_modules, h.use_rslora, dict(h.rank_pattern)) == (8, 32, ("q", "v"), True, {"q": 4})
    assert paired(experiment(adapter="sft", hyperparameters={"r": 8, "target_modules": ["q", "v"]}), tmp_path, {})
    merged = paired(experiment(adapter="sft", adapter_mode="merge", hyperparameters={"r": 4}), tmp_path, {}).experiment
    assert (merged.hyperparameters.r, merged.hyperparameters.target_modules) == (4, "all-linear")


def test_a_setting_that_contradicts_the_adapter_is_named_with_both_values(tmp_path: Path) -> None:
    write_adapter(tmp_path / "sft")
    assert refused(tmp_path, adapter="sft", hyperparameters={"r": 32, "target_modules": ["q"]}) == (
        "hyperparameters.r: r contradicts the adapter sft, which adapter_mode: continue keeps\n"
        "    expected: unset, or 8 as in sft/adapter_config.json:4\n"
        "    found:    32\n"
        "    hint:     remove it, or train a new adapter with adapter_mode: merge\n"
        "hyperparameters.target_modules: target_modules contradicts the adapter sft, which adapter_mode: continue keeps\n"
        '    expected: unset, or ["q", "v"] as in sft/adapter_config.json:6\n'
        '    found:    ["q"]\n'
        "    hint:     remove it, or train a new adapter with adapter_mode: merge"
    )


def test_a_default_that_is_written_down_contradicts_the_adapter_at_its_line(tmp_path: Path) -> None:
    write_adapter(tmp_path / "sft")
    file = tmp_path / "dpo.yml"
    file.write_text(
        "dpo:\n  experiment_id: 1\n  model_name: me/base\n  datasets_path: data\n  adapter: sft\n  hyperparameters:\n    r: 16\n"
    )
    with pytest.raises(ExperimentError) as caught:
        paired_loaded(load("dpo", file=file), tmp_path, {})
    (mistake,) = caught.value.mistakes
    assert f"{file}:7" in str(mistake)
    assert (mistake.expected, mistake.found) == ("unset, or 8 as in sft/adapter_config.json:4", "16")


def test_a_run_tells_a_default_that_is_written_down_from_an_unset_one(tmp_path: Path) -> None:
    """The adapter of a hub may be known to the run alone, which reads the experiment from its folder."""
    config = AdapterConfig.read("sft", write_adapter(tmp_path / "sft") / "adapter_config.json")
    unset = Experiment.model_validate_json(resolved(experiment(adapter="me/sft")))
    h = followed(unset, config).hyperparameters
    assert (h.r, h.lora_alpha) == (8, 32)
    given = Experiment.model_validate_json(resolved(experiment(adapter="me/sft", hyperparameters={"r": 16})))
    with pytest.raises(ExperimentError, match="r contradicts the adapter sft"):
        followed(given, config)
    known = followed(unset, config)
    again = Experiment.model_validate_json(resolved(known))
    assert again.hyperparameters == known.hyperparameters, "once the adapter was read, the text has its shape"


def test_a_run_is_named_instead_of_its_folder(tmp_path: Path) -> None:
    run = RunDir.of(tmp_path, "data/dpo/model", "sft", "base", "sft-20261128-101112-beef")
    run.create({run.experiment: json.dumps({"model_name": "models/base"})}, {"run": run.name, "key": "exp_sft"})
    assert "has no adapter yet" in refused(tmp_path, adapter=run.name)
    write_adapter(run.adapter, base_model_name_or_path="/dpo/data/models/base")
    folder = str(run.adapter.relative_to(tmp_path))
    for name in (run.name, "exp_sft"):
        assert paired(experiment(adapter=name), tmp_path, {}).experiment.adapter == folder
    assert paired(experiment(model_name=folder), tmp_path, {}).experiment.model_name == "models/base", "as the run named it"
    (run.adapter / "adapter_config.json").unlink()
    assert f"hint:     start from its weights: model_name: {folder}" in refused(tmp_path, adapter=run.name)
    assert refused(tmp_path, adapter="other").startswith("adapter: other is neither a folder nor a run\n")


@pytest.mark.parametrize(
    ("changes", "fields", "says"),
    [
        ({"base_model_name_or_path": None}, {"model_name": "sft"}, "model_name: sft is an adapter, and its adapter_config"),
        ({}, {"model_name": "sft", "adapter": "sft"}, "model_name: sft is an adapter, and adapter names another one"),
        ({}, {"model_name": "sft", "hyperparameters": {"full_finetuning": True}}, "model_name: sft is an adapter: full_fine"),
        ({}, {"model_name": "sft", "hyperparameters": {"ld_alpha": 0.5}}, "model_name: sft is an adapter: ld_alpha cannot"),
        ({"peft_type": "IA3"}, {"adapter": "sft"}, "adapter: sft is an adapter of another kind"),
        ({"init_lora_weights": "lora_ga"}, {"adapter": "sft"}, "adapter: sft has init_lora_weights: lora_ga, which subtracts"),
        ({"use_dora": True}, {"adapter": "sft", "adapter_mode": "merge"}, "adapter: sft has use_dora: true: it cannot be joined"),
        ({"lora_bias": True}, {"adapter": "sft", "adapter_mode": "merge"}, "adapter: sft has lora_bias: true: it cannot be"),
        ({"alora_invocation_tokens": [5]}, {"adapter": "sft"}, "adapter: sft has alora_invocation_tokens, which is not supp"),
        ({"layer_replication": [[0, 1]]}, {"model_name": "sft"}, "adapter: sft has layer_replication, which is not supported"),
        (
            {},
            {"adapter": "sft", "adapter_mode": "merge", "hyperparameters": {"use_dora": True}},
            "hyperparameters.use_dora: an adapter with use_dora cannot be joined",
        ),
        ({}, {"adapter": "there/is/none"}, "adapter: folder there/is/none not found"),
    ],
)  # fmt: skip
def test_a_pair_that_cannot_be_trained_is_refused(tmp_path: Path, changes: Any, fields: Any, says: str) -> None:
    write_adapter(tmp_path / "sft", **changes)
    assert refused(tmp_path, **fields).startswith(says)


def test_a_missing_adapter_is_looked_for_in_the_run_of_the_checkpoint_and_in_the_copies(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    (run / "checkpoint-2").mkdir(parents=True)
    for wish in (run, run / "checkpoint-2"):
        about = {"adapter": "away/team/sft", "hyperparameters": {"resume_from_checkpoint": str(wish)}}
        assert "hint" not in refused(tmp_path, **about)
        copy = write_adapter(run / "start")
        copied = f"    hint:     the run of this checkpoint has a copy of its adapter: set adapter: {copy}"
        assert refused(tmp_path, **about).splitlines() == [
            "adapter: folder away/team/sft not found",
            "    expected: a hub id, s3://…, a run or an existing folder",
            copied,
        ]
        shutil.rmtree(copy)
    said = refused(tmp_path, adapter="away/team/sft", checkpoint_to="s3://models/ckpt").splitlines()
    assert said[-1] == "    hint:     a run with copies in checkpoint_to brings its own: launcher resume RUN"


def test_a_folder_without_an_adapter_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert refused(tmp_path, adapter="model") == (
        "adapter: no adapter in model\n"
        "    expected: a folder with adapter_config.json\n"
        "    found:    config.json\n"
        "    hint:     start from whole weights with model_name: model"
    )


def test_another_base_than_the_adapter_s_is_a_warning(tmp_path: Path) -> None:
    write_adapter(tmp_path / "sft")
    (said,) = paired(experiment(model_name="me/other", adapter="sft"), tmp_path, {}).said
    assert isinstance(said, Warned)
    assert said == "the adapter sft was trained on me/base, and model_name is me/other"
    assert paired(experiment(model_name="/models/Base/", adapter="sft"), tmp_path, {}).said == ()
