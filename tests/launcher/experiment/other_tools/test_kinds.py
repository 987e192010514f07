from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import ExperimentError
from launcher.experiment.files import check_files, load
from launcher.experiment.other_tools.kinds import other_kind
from launcher.experiment.shown import list_experiments

FILE = """\
conf: &conf
  learning_rate: 1e-5
exp_1:
  experiment_id: 1
  model_name: m
  datasets_path: d
  hyperparameters: *conf
sft_1:
  experiment_id: 2
  model_name: m
  datasets_path: d
  sft_column_mapping_config: {input_columns: {a: b}, label_columns: c}
grpo_1:
  experiment_id: 3
  model_name: m
  hyperparameters: {<<: *conf, num_generations: 4}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "e.yml"
    path.write_text(FILE)
    return path


def test_experiments_of_other_kinds_are_listed_and_no_mistakes(file: Path) -> None:
    survey = check_files(file=file)
    assert survey.mistakes == ()
    assert [one.found.key for one in survey.experiments] == ["exp_1"]
    expected = [
        "sft_1: not for this tool: sft_column_mapping_config belongs to SFT",
        "grpo_1: not for this tool: hyperparameters.num_generations belongs to GRPO",
    ]
    assert [str(one) for one in survey.others] == expected
    listed = list_experiments(file=file)
    assert ([row.key for row in listed.rows], [str(one) for one in listed.others]) == (["exp_1"], expected)


@pytest.mark.parametrize("name", ["grpo_1", "3", "exp_3"])
def test_one_that_is_named_is_an_error_at_the_key_that_shows_it(name: str, file: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        load(name, file=file)
    assert str(caught.value).splitlines() == [
        f"{file}:16:32: grpo_1 is not for this tool: hyperparameters.num_generations belongs to GRPO",
        "    |   hyperparameters: {<<: *conf, num_generations: 4}",
        "    |                                ^^^^^^^^^^^^^^^",
        "    expected: an experiment of DPO or SFT (method: dpo or sft)",
        "    hint:     grpo learns from a reward function; dpo-launcher trains on preferences: use dpo",
    ]


def test_without_a_name_the_only_experiment_of_dpo_is_meant(file: Path) -> None:
    assert load(None, file=file).key == "exp_1"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"reward_funcs": ["a"]}, "GRPO"),
        ({"trainer": "GRPOTrainer"}, "GRPO"),
        ({"stage": "sft"}, "SFT"),
        ({"rl": "kto"}, "KTO"),
        ({"grpo_column_mapping_config": {"a": "b"}}, "GRPO"),
        ({"hyperparameters": {"desirable_weight": 1.0}}, "KTO"),
        ({"hyperparameters": {"completion_only_loss": True}}, "SFT"),
        ({"trainer": "dpo"}, None),
        ({"hyperparameters": {"num_generations": None}}, None),
        ({"dpo_column_mapping_config": {}, "reward_funcs": ["a"]}, None),
        ({"hyperparameters": None}, None),
    ],
)
def test_a_kind_is_known_by_keys_that_only_it_has(fields: dict[str, object], kind: str | None) -> None:
    found = other_kind({"experiment_id": 1, **fields})
    assert (found[0] if found is not None else None) == kind
