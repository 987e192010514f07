"""What `launcher explain` tells of a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from launcher.errors import UsageError
from launcher.experiment.explain import explained
from launcher.experiment.explain.explained import Key
from launcher.experiment.other_tools.trl_fields import REFUSED, trl_fields, why_not_fast
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import LOSS_TYPES, Hyperparameters


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


def every(those: tuple[Key, ...]) -> Iterator[Key]:
    for key in those:
        yield key
        yield from every(key.below)


EVERY: Final = [*every(explained.keys()), *explained.trl_keys()]
BASE: Final[dict[str, Any]] = {"model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data", "validation_filename": "v.csv"}
SHEETS: Final[dict[str, Any]] = {"datasets_path": None, "validation_filename": None, "spreadsheet_id": "1a", "train_sheet": "t"}
# What else an experiment needs for the example of a key to be valid.
TWO: Final = ["response_a", "response_b"]
NEEDS: Final[dict[str, dict[str, Any]]] = {
    **{
        f"{section}.{key}": {section: {"answers": TWO, **({} if key not in ("answers", "winner_values") else {"winner": "w"})}}
        for section in ("dpo_column_mapping_config", "column_mapping_config")
        for key in ("answers", "winner", "winner_values", "ratings", "ranks")
    },
    "validation_split": {"validation_filename": None},
    "adapter_mode": {"adapter": "me/adapter"},
    **dict.fromkeys(("spreadsheet_id", "train_sheet", "validation_sheet"), SHEETS),
    "launch.verify": {"launch": {"signed_by": {"key": "cosign.pub"}}},
    "launch.signed_by.identity": {"launch": {"signed_by": {"issuer": "https://issuer.example.com"}}},
    "launch.signed_by.issuer": {"launch": {"signed_by": {"identity": "me"}}},
    "storage_config.upload_to_cloud": {"storage_config": {"bucket_name": "models"}},
    "hyperparameters.load_best_model_at_end": {"hyperparameters": {"save_steps": 50}},
    "hyperparameters.discopop_tau": {"hyperparameters": {"loss_type": "discopop"}},
    "hyperparameters.f_alpha_divergence_coef": {"hyperparameters": {"f_divergence_type": "alpha_divergence"}},
    "hyperparameters.loss_weights": {"hyperparameters": {"loss_type": ["sigmoid", "sft"]}},
    "hyperparameters.optim_args": {"hyperparameters": {"optim": "galore_adamw"}},
    "hyperparameters.optim_target_modules": {"hyperparameters": {"optim": "galore_adamw"}},
    "hyperparameters.ref_model_mixup_alpha": {"hyperparameters": {"sync_ref_model": True, "full_finetuning": True}},
    "hyperparameters.ref_model_sync_steps": {"hyperparameters": {"sync_ref_model": True, "full_finetuning": True}},
    "hyperparameters.sync_ref_model": {"hyperparameters": {"full_finetuning": True}},
}


def nested(path: str, value: dict[str, Any]) -> dict[str, Any]:
    above, _, _ = path.rpartition(".")
    for name in reversed(above.split(".") if above else []):
        value = {name: value}
    return value


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {name: merged(one[name], value) for name, value in other.items() if isinstance(value, dict) and name in one}
    return {**one, **other, **both}


def test_every_key_has_a_type_and_a_sentence() -> None:
    assert [key.path for key in EVERY if not key.type or not key.meaning] == []


def test_every_key_that_is_no_section_has_an_example_that_is_valid() -> None:
    assert [key.path for key in EVERY if not key.below and not key.example] == []
    for key in EVERY:
        if key.example:
            written = yaml.safe_load(key.example)
            assert list(written) == [key.name]
            Experiment.parse(merged({**BASE, **NEEDS.get(key.path, {})}, nested(key.path, written)))


def test_the_losses_and_optimizers_that_take_the_plain_path_are_those_of_the_trainer() -> None:
    (loss,), (optim,) = explained.explain("hyperparameters.loss_type"), explained.explain("hyperparameters.optim")
    named = set(loss.effects["fast"].replace(",", "").split())
    assert {name for name in LOSS_TYPES if why_not_fast({"loss_type": (name,)})} == named & set(LOSS_TYPES)
    choices = trl_fields()["optim"]["choices"]
    named = set(optim.effects["fast"].replace(",", "").split())
    assert {name for name in choices if why_not_fast({"optim": name})} == named & set(choices) != set()


def test_a_key_of_a_cluster_has_no_effect_on_this_machine() -> None:
    (queue,) = explained.explain("launch.kubernetes.queue")
    assert queue.effects == {"host": "no effect", "docker": "no effect"}


def test_what_only_dpo_or_only_an_adapter_reads_is_told() -> None:
    (beta,), (rank,) = explained.explain("beta"), explained.explain("hyperparameters.r")
    assert (beta.idle_with, rank.idle_with) == (("method: sft",), ("full_finetuning: true",))
