from __future__ import annotations

from pathlib import Path

from launcher.experiment.schema import Experiment
from launcher.experiment.sections.watched import Health
from launcher.health import RULES

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "health.md"


def test_every_rule_is_a_setting_with_the_rules_own_action() -> None:
    assert list(Health.model_fields) == list(RULES)
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d"})
    assert experiment.health.model_dump() == {name: rule.action for name, rule in RULES.items()}


def test_a_setting_is_written_in_short_or_with_its_threshold_and_read_again() -> None:
    given = {"loss_stuck": "stop", "slow": False, "reward_scale": {"threshold": 30}}
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "health": given})
    dumped = experiment.health.model_dump()
    assert (dumped["loss_stuck"], dumped["slow"]) == ("stop", "off")
    assert dumped["reward_scale"] == {"action": "warn", "threshold": 30.0}
    assert Experiment.model_validate_json(experiment.model_dump_json()).health == experiment.health


def test_the_page_has_the_table_of_the_rules() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    shown = {row[0].strip("`"): row[1:] for row in rows if len(row) > 2}
    for name, rule in RULES.items():
        holds, _, threshold = rule.about.partition("; threshold: ")
        number = "" if rule.threshold is None else f"{threshold} ({rule.threshold:g})"
        assert shown[name] == [rule.action, holds, number or threshold or "", rule.suggestion], name
    assert shown.keys() == RULES.keys()
