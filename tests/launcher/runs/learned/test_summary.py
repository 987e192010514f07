"""What fits a run that is done next."""

from __future__ import annotations

import re
from typing import Any

import pytest

from launcher.health.rules import RULES
from launcher.runs.learned.summary import Learned, another_rate, loading, may_be_uploaded


def record(**more: Any) -> dict[str, Any]:
    hyperparameters = {"learning_rate": 2e-3, "full_finetuning": False}
    return {"key": "demo", "origin": "configs/demo.yml", "experiment": {"hyperparameters": hyperparameters}, **more}


def result(before: float, after: float) -> dict[str, Any]:
    return {"before": {"eval_loss": before}, "after": {"eval_loss": after}, "verified": {"tensors": 56}}


def test_twice_the_runs_learning_rate_comes_next_and_half_of_it_where_the_loss_has_risen():
    assert another_rate(record(), "run") == ["run demo --set hyperparameters.learning_rate=0.004"]
    assert another_rate(record(result=result(0.69, 0.2)), "run") == ["run demo --set hyperparameters.learning_rate=0.004"]
    assert another_rate(record(result=result(0.69, 0.9)), "run") == ["run demo --set hyperparameters.learning_rate=0.001"]


def finding(rule: str) -> dict[str, Any]:
    text = {"sentence": "x", "suggestion": RULES[rule].suggestion}
    return {"rule": rule, "action": "warn", "first_step": 8, "last_step": 9, **text}


def test_a_rule_that_says_a_lower_learning_rate_is_not_answered_with_a_higher_one():
    for name in [name for name, rule in RULES.items() if re.search(r"(?<!fell, )lower [\w ]*learning_rate", rule.suggestion)]:
        found = another_rate(record(result=result(0.69, 0.2), health=[finding("duplicates"), finding(name)]), "run")
        assert found == ["run demo --set hyperparameters.learning_rate=0.001"], name
    assert another_rate(record(health=[finding("loss_stuck")]), "run") == ["run demo --set hyperparameters.learning_rate=0.004"]


def test_chosen_answers_that_became_less_likely_ask_for_a_lower_learning_rate():
    fallen = {"eval_loss": 0.2, "eval_rewards/chosen": -0.5, "eval_rewards/margins": 1.5}
    assert another_rate(record(result={**result(0.69, 0.2), "after": fallen}), "run") == [
        "run demo --set hyperparameters.learning_rate=0.001"
    ]


@pytest.mark.parametrize("rule", ["flipped_labels", "swapped_columns"])
def test_wrong_labels_are_not_trained_on_once_more(rule):
    assert another_rate(record(health=[finding(rule)]), "run") == []


def test_a_file_that_is_not_among_the_default_ones_is_named():
    assert another_rate(record(origin="mine/exp.yml"), "run --backend host") == [
        "run --backend host demo -f mine/exp.yml --set hyperparameters.learning_rate=0.004"
    ]


def test_what_the_run_itself_changed_in_the_file_is_changed_again_and_its_own_rate_is_replaced():
    given = ["method=sft", "adapter=my runs/warm", "hyperparameters.learning_rate=2e-3"]
    assert another_rate(record(set=given), "run") == [
        "run demo --set method=sft --set 'adapter=my runs/warm' --set hyperparameters.learning_rate=0.004"
    ]


def test_a_run_that_no_file_describes_is_not_started_again_by_the_command_line():
    assert another_rate(record(origin=None), "run") == []


@pytest.mark.parametrize(
    ("storage", "uploaded", "expected"),
    [
        ({"bucket_name": "b"}, None, True),
        ({"bucket_name": "b"}, {"uri": "s3://b/x"}, False),
        ({}, None, False),
        (None, None, False),
    ],
)
def test_an_upload_comes_next_where_a_bucket_is_named_and_nothing_was_uploaded(storage, uploaded, expected):
    assert may_be_uploaded({"experiment": {"storage_config": storage}, "uploaded": uploaded}) is expected


def test_an_adapter_is_loaded_by_peft_and_whole_weights_by_transformers():
    assert loading(record(), "a/b") == (
        "from peft import AutoPeftModelForCausalLM",
        'model = AutoPeftModelForCausalLM.from_pretrained("a/b")',
    )
    whole = {"experiment": {"hyperparameters": {"full_finetuning": True}}}
    assert loading(whole, "a/b")[0] == "from transformers import AutoModelForCausalLM"


def test_what_was_learned_is_a_value():
    found = Learned.of(record(result=result(0.69, 0.2)), "/runs/x", "x", ("tensorboard x",))
    assert (found.adapter, found.tensors, found.uploaded) == ("/runs/x/adapter", 56, None)
    assert found.json()["after"] == {"eval_loss": 0.2}
    assert Learned.of({}, "/runs/x", "x", ()).before is None
