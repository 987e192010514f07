"""`launcher health` as a person types it, and where other verbs show what it finds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.cli.health import drawn
from launcher.health import Facts, Finding, findings, read_findings
from launcher.runs.run_dir import RunDir
from tests.run_folders import Made

STREAMS = Path(__file__).parents[1] / "health" / "streams"


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "/no/such/file")
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/engine")


def left(
    home: Path, stream: str, *, code: int = 0, health: dict[str, Any] | None = None, recorded: bool = True, sentence: str = "x"
) -> RunDir:
    """A run that is over, with the log of ``stream``."""
    head, *lines = (STREAMS / f"{stream}.jsonl").read_text().splitlines()
    facts = json.loads(head)
    events = [json.loads(line) for line in lines]
    found = findings(events, health or {}, Facts.of(facts["experiment"], facts["work"]))
    run = RunDir.of(home, "data/dpo/model", "1", "m", stream)
    outcome = {"state": "failed" if code else "done", "exit_code": code, "sentence": sentence if code else None}
    record = {"run": stream, "key": "exp_1", "backend": "host", "created": "2026-11-24T11:00:00+00:00", "outcome": outcome}
    record |= {**facts, "experiment": {**facts["experiment"], "health": health or {}}}
    run.create({run.experiment: "{}"}, record | ({"health": [one.json() for one in found]} if recorded else {}))
    run.rank_log(0).write_text("")
    run.steps.write_text("".join(f"{line}\n" for line in lines))
    return run


def typed(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    return int(ended.value.code or 0)


def test_health_names_the_rule_its_steps_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left(tmp_path, "frozen-adapter", recorded=False)
    assert typed("health", "frozen") == 0
    assert capsys.readouterr().out.splitlines() == [
        "warning: loss_stuck (steps 11-40): the loss is still 0.6931 at step 30: ln 2 means that nothing is learned",
        "    what to do: raise learning_rate, and check that target_modules are trained",
    ]
    assert typed("health", "frozen", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["run"], shown["step"], [one["rule"] for one in shown["findings"]]) == ("frozen-adapter", 40, ["loss_stuck"])


def test_a_healthy_run_has_no_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left(tmp_path, "healthy-1")
    assert typed("health", "latest") == 0
    assert capsys.readouterr().out == "no findings up to step 40 (43 lines of the log)\n"


def test_ps_status_and_why_show_what_the_run_has_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left(tmp_path, "healthy-1")
    left(tmp_path, "swapped-columns")
    assert typed("ps") == 0
    cells = {line.split()[0]: line.split()[5] for line in capsys.readouterr().out.splitlines()}
    assert cells == {"RUN": "HEALTH", "healthy-1": "ok", "swapped-columns": "swapped_columns"}
    for key, expected in (("accuracy", ["healthy-1", "swapped-columns"]), ("-accuracy", ["swapped-columns", "healthy-1"])):
        assert typed("ps", "--sort", key) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][1:] == expected
    assert typed("ps", "--sort", "-loss") == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[0][3] == "LOSS"
    losses = [float(row[3]) for row in table[1:]]
    assert len(losses) == 2
    assert losses == sorted(losses, reverse=True)
    for verb in ("status", "why"):
        assert typed(verb, "swapped") == 0
        assert "health      swapped_columns (steps 20-40): validation pairs prefer the rejected answer" in capsys.readouterr().out
    assert typed("status", "healthy") == 0
    assert "health      no findings\n" in capsys.readouterr().out


def test_status_has_the_method_the_adapter_to_start_from_and_a_validation_loss_without_rewards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Made("warm").write(tmp_path)
    run.steps.write_text('{"type": "train", "step": 40, "total_steps": 40, "loss": 1.5}\n')
    experiment = {**run.read_record()["experiment"], "method": "sft", "adapter": "me/first"}
    run.update_record(experiment=experiment, result={"after": {"eval_loss": 1.25}})
    assert typed("status", "warm") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("method", "starts from", "loss", "validation"))] == [
        "method      sft",
        "starts from me/first (continue)",
        "loss        1.5000",
        "validation  loss 1.2500",
    ]
    run.steps.write_text('{"type": "eval", "step": 20, "total_steps": 40, "eval_loss": 1.75}\n')
    run.update_record(result={})
    assert typed("status", "warm", "--json") == 0
    assert json.loads(capsys.readouterr().out)["validation_loss"] == 1.75


def test_why_a_rule_stopped_a_run_ends_with_the_advice_of_that_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left(tmp_path, "frozen-adapter", code=46, health={"loss_stuck": "stop"})
    assert typed("why", "frozen") == 0
    advice = "raise learning_rate, and check that target_modules are trained; see its last steps with: "
    assert advice in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["why", "status"])
def test_a_run_that_a_rule_stopped_prints_what_was_found_and_the_advice_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    run = left(tmp_path, "frozen-adapter", code=46, health={"loss_stuck": "stop"})
    (found,) = read_findings(run.read_record()) or ()
    run.update_record(outcome={**run.read_record()["outcome"], "sentence": f"{found}; stopped at step 200 of 400"})
    assert typed(verb, "frozen-adapter") == 0
    shown = capsys.readouterr().out
    assert (shown.count(found.sentence), shown.count(found.suggestion)) == (1, 1), shown
    assert f"health      loss_stuck ({found.steps})\n" in shown


def test_on_a_narrow_terminal_every_finding_is_wrapped_in_the_same_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    sentence = "the gradient's norm is 7.48 at step 9, and has such spikes repeatedly"
    one = Finding("gradient_spikes", "warn", 8, 24, sentence, "lower learning_rate, or raise warmup_ratio")
    drawn([one, one])
    lines = capsys.readouterr().out.splitlines()
    first, again = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    assert first[0].startswith("health      gradient_spikes (steps 8-24): the ")
    assert [line.removeprefix("health").strip() for line in first] == [line.strip() for line in again]
    assert all(line[:12].isspace() and line[12] != " " for line in (*first[1:], *again)), lines


def test_on_a_narrow_terminal_the_table_of_runs_leaves_out_what_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = left(tmp_path, "frozen-adapter")
    name = "a-run-with-a-long-name-20261129-111747-41be"
    run.path.rename(run.path.with_name(name))
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert typed("ps") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) <= 60 for line in lines] == [True, True], lines
