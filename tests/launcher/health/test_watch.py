from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.health import RULES, Answers, Facts, Finding, Watch, findings, read_findings, worst

STREAMS = Path(__file__).parent / "streams"  # of real runs of the demo: see record.py
FACTS = Facts(batch=16, pairs=2_000)


def stream(name: str) -> tuple[Facts, list[dict[str, Any]]]:
    head, *events = map(json.loads, (STREAMS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    return Facts.of(head["experiment"], head["work"]), events


def found_in(name: str) -> list[Finding]:
    facts, events = stream(name)
    return findings(events, {}, facts)


def healthy(steps: int = 200, seed: int = 0, **changed: Any) -> Iterator[dict[str, Any]]:
    """A run whose margin grows to 2, step by step with the noise of 16 pairs; ``changed``: functions of the step, or values."""
    draw = random.Random(seed)
    for step in range(1, steps + 1):
        margin = 2 * (1 - math.exp(-step / 40)) + draw.gauss(0, 0.25)
        event = {
            "type": "train",
            "step": step,
            "total_steps": steps,
            "loss": math.log1p(math.exp(-margin)),
            "grad_norm": math.exp(draw.gauss(0, 0.4)),
            "learning_rate": 1e-5 * (1 - (step - 1) / steps),
            "rewards/chosen": 0.2 * margin,
            "rewards/rejected": -0.8 * margin,
            "rewards/accuracies": min(1.0, 0.5 + margin / 4),
            "rewards/margins": margin,
            "rewards/margins_std": 1.0,
            "rewards/margins_skew": draw.gauss(0, 0.5),
            "rewards/length_correlation": draw.gauss(0, 0.25),
            "rewards/reversed": 0.01,
            "logps/chosen": -200.0 + 2 * margin,
            "num_tokens": 3_000.0 * step,
            "seconds": 2.0 * step * math.exp(draw.gauss(0, 0.01)),
        }
        new = {key.replace("__", "/"): value(step) if callable(value) else value for key, value in changed.items()}
        yield {**event, **new}


def rules(events: Iterator[dict[str, Any]], facts: Facts = FACTS, **settings: Any) -> list[str]:
    return [one.rule for one in findings(events, settings, facts)]


@pytest.mark.parametrize("seed", range(1, 6))
def test_five_healthy_runs_of_the_demo_raise_nothing(seed: int) -> None:
    assert found_in(f"healthy-{seed}") == []


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("flipped-labels", ["flipped_labels"]),
        ("learning-rate-x100", ["gradient_spikes", "chosen_falling", "reward_scale"]),
        ("swapped-columns", ["swapped_columns"]),
        ("frozen-adapter", ["loss_stuck"]),
    ],
)
def test_a_fault_planted_in_a_run_of_the_demo_is_named_with_what_follows_from_it_and_nothing_else(
    name: str, rules: list[str]
) -> None:
    found = found_in(name)
    assert [one.rule for one in found] == rules
    assert [one.suggestion for one in found] == [RULES[rule].suggestion for rule in rules]
    if name == "learning-rate-x100":
        assert all("lower learning_rate" in one.suggestion for one in found)


def test_a_finding_has_its_steps_and_the_numbers_that_show_it() -> None:
    (one,) = found_in("swapped-columns")
    assert (one.action, one.first_step, one.last_step) == ("warn", 20, 40)
    assert "validation pairs prefer the rejected answer (accuracy 0.00), training pairs the chosen one (1.00)" in one.sentence
    assert str(one).endswith("(health.swapped_columns)")


@pytest.mark.parametrize("seed", range(20))
def test_a_synthetic_healthy_run_raises_nothing_whatever_its_noise(seed: int) -> None:
    assert rules(healthy(seed=seed)) == []


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("loss_stuck", {"loss": 0.6925}),
        ("margin_flat", {"rewards__margins": lambda step: random.Random(step).gauss(0, 0.25)}),
        ("margin_flat", {"rewards__margins": lambda step: 2.0 if step < 100 else 0.8}),
        ("accuracy_low", {"rewards__accuracies": lambda step: random.Random(step).gauss(0.51, 0.1)}),
        ("loss_spikes", {"loss": lambda step: 3.0 if step in (101, 120, 140) else 0.4}),
        ("gradient_spikes", {"grad_norm": lambda step: 40.0 if step in (101, 120) else 1.0}),
        ("chosen_falling", {"rewards__chosen": -8.0, "rewards__rejected": -10.0, "logps__chosen": -280.0}),
        ("reward_scale", {"rewards__rejected": -25.0}),
        ("learning_rate_low", {"learning_rate": lambda step: 1e-5 if step < 100 else 1e-8}),
        ("length_bias", {"rewards__length_correlation": lambda step: min(0.8, step / 200)}),
        ("gpu_idle", {"gpu_use": 12.0}),
        ("not_finite", {"loss": lambda step: "nan" if step == 50 else 0.4}),
        ("slow", {"seconds": lambda step: 20.0 * step if step < 100 else 2000.0 + 60.0 * (step - 100)}),
    ],
)
def test_each_rule_finds_its_fault_and_no_other_rule_does(rule: str, changed: dict[str, Any]) -> None:
    assert rules(healthy(**changed)) == [rule]


def test_a_policy_far_from_its_reference_is_found_by_one_evaluation_of_a_run_too_short_for_a_trend() -> None:
    events = list(healthy(steps=4))
    evaluated = {"type": "eval", "step": 4, "eval_loss": 0.0, "eval_rewards/chosen": 71.3, "eval_rewards/rejected": 23.8}
    (found,) = findings([*events, evaluated], {}, FACTS)
    assert (found.rule, found.steps) == ("reward_scale", "step 4")
    assert found.sentence == "the chosen validation answers' mean reward is +71.3, 713 nats from the reference (beta 0.1)"
    near = {**evaluated, "eval_rewards/chosen": 19.9, "eval_rewards/rejected": -19.9}
    assert findings([*events, near], {}, FACTS) == []
    assert rules(iter([*events, evaluated]), reward_scale={"threshold": 100}) == []


def test_a_spike_is_measured_by_the_median_of_the_first_lines_and_says_so() -> None:
    high = {1: 28.9, 31: 40.0}
    (found,) = findings(healthy(grad_norm=lambda step: high.get(step, 1.0)), {}, FACTS)
    assert found.sentence.endswith("repeatedly: the median of the first 10 logged steps is 1")


@pytest.mark.parametrize(
    "changed",
    [
        {"loss": lambda step: 5.0 if step in (101, 190) else 0.4},
        {"grad_norm": lambda step: 100.0 if step == 101 else 1.0},
        {"learning_rate": lambda step: 1e-5 * max(1e-4, (1 + math.cos(math.pi * (step % 50) / 50)) / 2)},
        {"seconds": lambda step: 2.0 * step + 4.0 * min(40, max(0, step - 100))},  # slow for four minutes
        {"rewards__margins": lambda step: 2.0 if step < 100 else 1.8},
        {"rewards__accuracies": 0.62},
    ],
)
def test_what_may_be_noise_or_a_choice_is_no_finding(changed: dict[str, Any]) -> None:
    assert rules(healthy(**changed)) == []


def test_a_run_that_is_far_behind_its_plan_from_the_first_step_is_slow() -> None:
    planned = replace(FACTS, step_seconds=1.5)
    (one,) = findings(healthy(seconds=lambda step: 20.0 * step), {}, planned)
    assert (one.rule, one.first_step) == ("slow", 1)
    assert one.sentence == "20 s a step since step 1; the plan expects about 1.5 s"
    assert rules(healthy(seconds=lambda step: 20.0 * step), slow="off", facts=planned) == []


@pytest.mark.parametrize(("planned", "took"), [(1.5, 11.0), (0.05, 9.0), (3.0, 29.0), (None, 300.0)])
def test_a_gpu_that_is_not_well_filled_is_not_slow(planned: float | None, took: float) -> None:
    assert rules(healthy(seconds=lambda step: took * step), replace(FACTS, step_seconds=planned)) == []


def test_a_rule_that_is_off_is_silent_and_a_threshold_is_the_experiments() -> None:
    assert rules(healthy(rewards__rejected=-25.0), reward_scale="off") == []
    assert rules(healthy(rewards__rejected=-25.0), reward_scale={"action": "warn", "threshold": 30.0}) == []
    (one,) = findings(healthy(rewards__rejected=-25.0), {"reward_scale": "stop"}, FACTS)
    assert one.action == "stop"


def test_few_pairs_are_no_evidence() -> None:
    assert rules(healthy(12, loss=0.6931), Facts(batch=4)) == []


def test_a_validation_loss_that_rises_twice_is_overfitting() -> None:
    def evaluated(losses: list[float]) -> Iterator[dict[str, Any]]:
        at = dict(zip(range(40, 240, 40), losses, strict=False))
        for event in healthy():
            yield event
            if event["step"] in at:
                yield {"type": "eval", "step": event["step"], "eval_loss": at[event["step"]]}

    assert rules(evaluated([0.5, 0.4, 0.5, 0.55])) == ["overfitting"]
    assert rules(evaluated([0.5, 0.4, 0.5, 0.39])) == []
    assert rules(evaluated([0.5, 0.4, 0.42, 0.43])) == []


def test_the_data_alone_show_what_is_cut_repeated_giant_or_mapped_the_wrong_way() -> None:
    facts = Facts(
        answers=Answers(1_000, 90, 60, 2_000, 17, repeated=30), max_seq_length=512, chosen="worse", rejected="better_answer"
    )
    found = {one.rule: one for one in Watch({}, facts).data()}
    assert list(found) == ["swapped_columns", "truncated", "giant_answer", "duplicates"]
    assert found["giant_answer"].sentence == (
        "the answer of 2,000 tokens in row 17 of the training data is 33 times as long as the median (60)"
    )
    assert found["truncated"].sentence.startswith("90 of 1,000 training answers (9 %) are cut at max_seq_length (512)")
    assert found["duplicates"].steps == "data"
    few = Facts(answers=Answers(1_000, 20, 60, 500, 17, repeated=5), chosen="chosen", rejected="rejected")
    assert Watch({}, few).data() == []


@pytest.mark.parametrize(
    ("chosen", "rejected", "is_swapped"),
    [
        ("Bad answer", "Good answer", True),
        ("bad-answer", "good-answer", True),
        ("answer (worse)", "other", True),
        ("Rejected", "chosen", True),
        ("answer", "best2", True),
        ("badge", "goodwill", False),
        ("Good answer", "Bad answer", False),
        ("best_of_bad", "worst_of_good", False),
    ],
)
def test_names_of_columns_contradict_their_mapping_by_whole_words(chosen: str, rejected: str, is_swapped: bool) -> None:
    found = Watch({}, Facts(chosen=chosen, rejected=rejected)).data()
    assert [one.rule for one in found] == ["swapped_columns"] * is_swapped


def test_a_line_costs_the_same_in_a_long_run_and_little() -> None:
    watch, events = Watch({}, FACTS), list(healthy(20_000))
    seconds = []
    for begin in (0, 10_000):
        start = time.process_time()
        for event in events[begin : begin + 10_000]:
            watch.feed(event)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 2 * seconds[0] + 0.1
    assert sum(seconds) / 20_000 < 1e-3, "a step takes a tenth of a second at least"


def test_a_record_keeps_findings_whole_and_an_older_one_has_none() -> None:
    (one,) = found_in("swapped-columns")
    assert read_findings({"health": [one.json()]}) == [one]
    assert read_findings({}) is None
    assert (worst(None), worst([])) == ("-", "ok")
    assert worst([one, one]) == "swapped_columns +1"
