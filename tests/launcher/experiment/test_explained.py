"""What `launcher explain` tells of a key."""

from __future__ import annotations

import pytest

from launcher.errors import UsageError
from launcher.experiment import explained
from launcher.experiment.hyperparameters import Hyperparameters
from launcher.experiment.trl_fields import REFUSED, trl_fields


def test_a_bare_key_is_found_in_its_section() -> None:
    (beta,) = explained.explain("beta")
    assert (beta.path, beta.type, beta.default) == ("hyperparameters.beta", "number, > 0", "0.1")
    assert "reference" in beta.meaning


def test_a_path_names_one_key_of_several_with_its_last_part() -> None:
    assert len(explained.explain("threshold")) > 1
    (one,) = explained.explain("data_checks.empty_cell.threshold")
    assert one.path == "data_checks.empty_cell.threshold"


def test_a_section_has_its_keys_below() -> None:
    (launch,) = explained.explain("launch")
    assert {"launch.nodes", "launch.kubernetes"} <= {key.path for key in launch.below}
    (kubernetes,) = (key for key in launch.below if key.name == "kubernetes")
    assert "launch.kubernetes.queue" in {key.path for key in kubernetes.below}


def test_a_key_without_a_default_is_required() -> None:
    (model,) = explained.explain("model_name")
    assert (model.is_required, model.default) == (True, "")


def test_every_field_of_trl_that_is_taken_is_explained_once() -> None:
    taken = trl_fields().keys() - REFUSED.keys() - Hyperparameters.model_fields.keys()
    assert sorted(key.name for key in explained.trl_keys()) == sorted(taken)
    (key,) = explained.explain("dataset_num_proc")
    assert key.meaning == "TRL's own field; accepted, no effect: one process tokenizes all pairs"


def test_without_a_key_the_top_of_an_experiment_is_listed() -> None:
    assert {"model_name", "hyperparameters", "launch"} <= {key.path for key in explained.explain("")}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lora_rank", "use hyperparameters.r"),
        ("output_dir", "use model_output_dir"),
        ("launch.node", "did you mean 'launch.nodes'?"),
        ("xyzzy", "launcher explain lists the keys"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_key_that_is_meant(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        explained.explain(name)
    assert f"no key {name!r}" in str(raised.value)
    assert f"hint: {hint}" in str(raised.value)
