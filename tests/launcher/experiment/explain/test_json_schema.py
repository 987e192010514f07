"""The schema that editors take: what the launcher reads is valid, and a mistake is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from launcher.experiment.explain.json_schema import json_schema
from launcher.experiment.other_tools.trl_fields import REFUSED, trl_fields
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import Hyperparameters

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    found = json_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def wrong(validator: jsonschema.Draft202012Validator, text: str) -> list[str]:
    return [".".join(map(str, error.absolute_path)) for error in validator.iter_errors(yaml.safe_load(text))]


@pytest.mark.parametrize("file", sorted((REPOSITORY / "configs").glob("*.y*ml")), ids=lambda file: file.name)
def test_every_file_of_the_repository_is_valid(validator: jsonschema.Draft202012Validator, file: Path) -> None:
    assert wrong(validator, file.read_text(encoding="utf-8")) == []


def test_what_files_may_write_is_valid(validator: jsonschema.Draft202012Validator) -> None:
    text = """
    block: &conf {anything: 1}
    exp:
      experiment_id: 1
      model_name: ${BASE}
      datasets_path: d
      hyperparameters: {loss_type: sigmoid, target_modules: [q_proj], report_to: none, max_grad_norm: 0.5, packing: false, r: 8}
      health: {loss_spikes: stop, slow: off}
      samples: {prompts: off}
      data_checks: {missing_word: error, huge_cell: {action: warn, threshold: 1}}
      launch: {gpus: auto, kubernetes: {queue: q}}
    """
    assert wrong(validator, text) == []


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("hyperparameters: {bta: 0.1}", "exp.hyperparameters"),
        ("hyperparameters: {beta: much}", "exp.hyperparameters.beta"),
        ("hyperparameters: {dpo_path: quick}", "exp.hyperparameters.dpo_path"),
        ("data_checks: {missing_word: loud}", "exp.data_checks.missing_word"),
        ("launch: {gpus: [1]}", "exp.launch.gpus"),
        ("modelname: m", "exp"),
    ],
)
def test_a_mistake_is_marked_at_its_key(validator: jsonschema.Draft202012Validator, setting: str, place: str) -> None:
    assert wrong(validator, f"exp:\n  experiment_id: 1\n  model_name: m\n  {setting}\n") == [place]


def test_every_key_has_its_sentence_and_trl_s_fields_are_there() -> None:
    definitions: dict[str, Any] = json_schema()["$defs"]
    assert set(definitions["Experiment"]["properties"]) == set(Experiment.model_fields)
    hyper = definitions["Hyperparameters"]["properties"]
    assert set(hyper) >= {*Hyperparameters.model_fields, *trl_fields()} - {*REFUSED, "trl"}
    for name, definition in definitions.items():
        for key, of in definition.get("properties", {}).items():
            assert of.get("description"), f"{name}.{key}"
