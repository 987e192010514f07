"""How a run is: its status, its explanation and its end agree, over every state in which a run can be over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.backends.host import Host
from launcher.backends.spec.record import started
from launcher.backends.status.state import ended, explained, known, run_status
from launcher.backends.status.usage import local_usage
from launcher.runs.run_dir import RunDir

STEP = json.dumps({"type": "train", "step": 6, "total_steps": 40, "loss": 0.5})
NOTHING = "start it again with: launcher resume x (from the beginning: it has no checkpoint)"
FROM_6 = "resume it with: launcher resume x (from checkpoint-6)"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.chdir(tmp_path)
    return Host.here(tmp_path, {})


def over(root: Path, outcome: dict[str, Any], *, steps: bool, checkpoint: bool, **record: Any) -> RunDir:
    """A run of this machine, as its folder shows it."""
    run = RunDir.of(root, "data/dpo/model", "1", "m", "x")
    run.create({run.experiment: "{}"}, {"run": "x", "key": "demo", "backend": "host", "outcome": outcome, **record})
    if steps:
        run.steps.write_text(STEP + "\n")
        run.rank_log(0).write_text(STEP + "\n")
    if checkpoint:
        (run.path / "checkpoint-6").mkdir()
    return run


def outcome(state: str, code: int, sentence: str) -> dict[str, Any]:
    return {"state": state, "exit_code": code, "sentence": sentence, "ended": "2026-11-24T12:00:00+00:00"}


STATES = [
    (outcome("stopped", 143, "stopped before the first step"), False, False,
     "x was stopped on request before its first step", NOTHING),
    (outcome("stopped", 143, "stopped at step 6"), True, True, "x was stopped on request after step 6", FROM_6),
    (outcome("aborted", 130, "killed on request"), True, False, "killed on request", NOTHING),
    ({"state": "running"}, True, True, None, FROM_6),  # its process is gone: lost
    (outcome("failed", 45, "out of memory: lower max_seq_length (CUDA out of memory)"), True, True,
     "out of memory on the device: CUDA out of memory", None),
    (outcome("failed", 42, "unknown key"), False, False, "the experiment is wrong: unknown key", None),
]  # fmt: skip


@pytest.mark.parametrize(("last", "steps", "checkpoint", "sentence", "suggestion"), STATES)
def test_status_why_and_the_end_of_a_run_say_the_same(host, tmp_path, last, steps, checkpoint, sentence, suggestion):
    run = over(tmp_path, last, steps=steps, checkpoint=checkpoint)
    why = explained(host, run).why
    assert run_status(host, run).why == why == ended(host, run).why
    assert sentence is None or why.sentence == sentence
    assert suggestion is None or why.suggestion == suggestion


def test_a_run_that_is_done_has_nothing_to_explain_and_says_what_it_has_learned(host, tmp_path):
    result = {"before": {"eval_loss": 0.69}, "after": {"eval_loss": 0.2}, "verified": {"tensors": 56}}
    run = over(tmp_path, outcome("done", 0, "done"), steps=True, checkpoint=True, result=result)
    end = ended(host, run)
    assert run_status(host, run).why is end.why is None
    assert end.learned is not None
    assert (end.code, end.learned.tensors, end.learned.next) == (0, 56, ("chat x", "tensorboard x"))
    assert end.learned.python[1] == ('model = AutoPeftModelForCausalLM.from_pretrained("data/dpo/model/exp_1/m/runs/x/adapter")')


def test_the_status_of_a_run_is_a_value_for_programs(host, tmp_path):
    run = over(tmp_path, outcome("stopped", 143, "stopped at step 6"), steps=True, checkpoint=True)
    told = json.loads(json.dumps(run_status(host, run).json()))
    assert (told["run"], told["state"], told["step"], told["total_steps"]) == ("x", "stopped", 6, 40)
    assert told["why"] == {"cause": "stopped", "sentence": "x was stopped on request after step 6", "suggestion": FROM_6}
    assert told["record"]["key"] == "demo"


def test_a_run_took_the_time_that_its_attempts_trained(host, tmp_path):
    day = "2026-11-24T"
    attempts = [
        {"number": 1, "started": f"{day}10:00:00+00:00", "ended": f"{day}10:02:00+00:00", "exit_code": 143},
        {"number": 2, "started": f"{day}11:58:50+00:00", "ended": f"{day}12:00:00+00:00", "exit_code": 0},
    ]
    run = over(
        tmp_path, outcome("done", 0, "done"), steps=True, checkpoint=True, attempts=attempts, created=f"{day}10:00:00+00:00"
    )
    assert known(run).took == "3 min 10 s, paused 1 h 56 min"


def test_runs_of_this_machine_are_summed_with_the_gpus_and_attempts_of_their_records(host: Host, tmp_path: Path) -> None:
    spans = (("08:00:00", "09:30:00"), ("10:00:00", "10:30:00"))
    attempts = [{"started": f"2026-11-24T{a}+00:00", "ended": f"2026-11-24T{b}+00:00"} for a, b in spans]
    last = outcome("done", 0, "done")
    run = over(tmp_path, last, steps=True, checkpoint=False, attempts=attempts, gpus=4, user="dana")
    assert (known(run).gpu_hours, known(run).user) == (8.0, "dana")
    (row,) = local_usage("user").rows
    assert (row.name, row.runs, row.active, row.gpu_hours, row.seconds) == ("dana", 1, 0, 8.0, 7200.0)
    assert local_usage("experiment").rows[0].name == "demo"


def test_who_starts_a_run_is_in_its_record_and_stays_there_when_another_one_resumes_it(host: Host, tmp_path: Path) -> None:
    assert started({"DPO_USER": "dana@example.com", "USER": "root"})["user"] == "dana@example.com"
    assert started({"USER": "eve"})["user"] == "eve"
    run = over(tmp_path, outcome("stopped", 143, "stopped"), steps=True, checkpoint=True, user="dana")
    run.reopen({"run": "x", "user": "eve", "outcome": {"state": "starting"}})
    assert run.read_record()["user"] == "dana"
