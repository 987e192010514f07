"""`launcher explain`: what a person reads of a key."""

from __future__ import annotations

import json

from click.testing import CliRunner

from launcher.cli import launcher


def explain(*arguments: str) -> str:
    done = CliRunner().invoke(launcher, ["explain", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_key_is_its_path_type_default_meaning_example_and_what_differs_by_backend() -> None:
    assert explain("launch.nodes") == (
        "launch.nodes\n"
        "type        integer, ≥ 1\n"
        "default     1\n"
        "meaning     number of nodes\n"
        "example     nodes: 2\n"
        "host        start the run on each node, with NODE_RANK, MASTER_ADDR and the same --name\n"
        "Docker      as on the host; the container uses the network of its machine\n"
        "Kubernetes  pods of one Job or JobSet\n"
    )  # fmt: skip


def test_without_a_key_the_top_is_listed_and_the_way_down_is_told() -> None:
    output = explain()
    assert "\nhyperparameters " in output
    assert output.endswith("\n\nExplain one with: launcher explain KEY, for example launcher explain hyperparameters\n")


def test_a_section_lists_its_keys() -> None:
    output = explain("storage_config")
    assert output.startswith("storage_config\ntype        mapping\n")
    assert "\nkeys\n" in output
    assert "\nbucket_name " in output


def test_each_rule_has_its_action_and_its_keys_a_sentence() -> None:
    assert "\nempty_cell " in explain("data_checks")
    assert "(default error)" in explain("data_checks")
    lines = explain("data_checks.empty_cell").splitlines()
    assert lines[-2:] == [
        "action     what a finding does (default error)",
        "threshold  from which value on something is found; unset: the rule's own",
    ]


def test_json_has_the_same_facts() -> None:
    (key,) = json.loads(explain("beta", "--json"))
    assert (key["path"], key["type"], key["default"]) == ("hyperparameters.beta", "number, > 0", "0.1")
