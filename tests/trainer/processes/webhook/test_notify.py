"""What runs tell a real server: the entry as a process over a played torchrun, and the health rules of a rank."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.sections.watched import Health
from launcher.health import Answers, Facts
from launcher.runs.run_dir import RunDir
from tests.waiting import wait_for
from tests.webhook import SECRET, Hook, hook

FAKES = Path(__file__).parents[3] / "fakes"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "exp_1" / "model" / "runs" / "r")
    run.create({run.experiment: json.dumps({"notify": "HOOK"})}, {"run": "r", "key": "demo", "model_name": "tiny"})
    return run


def start(run: RunDir, **env: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(FAKES), "DPO_RUN_FOLDER": str(run.path), **env}
    argv = [sys.executable, "-m", "trainer.processes.entrypoint", str(run.path)]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(run: RunDir, **env: str) -> tuple[int, str]:
    entry = start(run, **env)
    out, _ = entry.communicate(timeout=300)
    return entry.returncode, out


def left(run: RunDir) -> str:
    """Everything that the run has written."""
    return "".join(path.read_text(errors="replace") for path in run.path.rglob("*") if path.is_file())


def test_a_run_that_is_done_is_told_once_with_its_figures_though_the_server_stumbles(run: RunDir) -> None:
    with hook(500) as server:
        code, out = finish(run, HOOK=server.url)
    assert (code, out) == (0, "r: attempt 1: done, exit 0: done\n")
    assert len(server.taken) == 2, "500, then 200"
    message = server.taken[1]
    assert message == server.taken[0]
    text = message.pop("text").splitlines()
    assert text[0] == message["sentence"] == "r is done: step 5 of 5"
    assert text[2] == "accuracy 0.75, margin +0.500, loss 0.6000 (training pairs, step 5)"
    assert message.pop("time").endswith("+00:00")
    assert message == {
        "run": "r",
        "experiment": "demo",
        "model": "tiny",
        "event": "done",
        "exit_code": 0,
        "cause": "done",
        "sentence": "r is done: step 5 of 5",
        "suggestion": "see what it learned with: launcher learned r",
        "figures": {"accuracy": 0.75, "margin": 0.5, "loss": 0.6, "pairs": "training", "step": 5},
    }
    assert SECRET not in left(run) + out


@pytest.mark.parametrize(
    ("ranks", "code", "cause", "sentence", "suggestion"),
    [
        ("42", 42, "experiment", "the experiment is wrong: rank 0 says 42", "correct it, start a new run"),
        ("killed", 137, "killed", "a rank was killed (SIGKILL) by a user or the system", "find out who killed it"),
    ],
)
def test_a_failure_is_told_in_the_words_of_why(
    run: RunDir, ranks: str, code: int, cause: str, sentence: str, suggestion: str
) -> None:
    with hook() as server:
        assert finish(run, HOOK=server.url, FAKE_RANKS=ranks)[0] == code
    (message,) = server.taken
    assert (message["event"], message["exit_code"], message["cause"]) == ("failed", code, cause)
    assert message["sentence"].startswith(sentence)
    assert message["suggestion"].startswith(suggestion)
    assert message["text"].startswith(f"r failed with exit code {code}: {message['sentence']}\n{message['suggestion']}\naccuracy")


def test_a_run_that_is_stopped_says_how_to_resume(run: RunDir) -> None:
    with hook() as server:
        entry = start(run, HOOK=server.url, FAKE_STEPS="1000", FAKE_SAVES="3")
        wait_for(run.checkpoints)
        entry.send_signal(signal.SIGTERM)
        entry.communicate(timeout=300)
    (message,) = server.taken
    assert (entry.returncode, message["event"], message["exit_code"]) == (143, "stopped", 143)
    assert message["text"].startswith("r was stopped on request after step ")
    assert "launcher resume r" in message["suggestion"]


def test_a_secret_of_a_container_is_a_file_and_slack_gets_its_own_form(run: RunDir, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    with hook() as server:
        (secrets / "HOOK").write_text(f"{server.url}/slack\n")
        assert finish(run, DPO_SECRETS=str(secrets))[0] == 0
    ((name, text),) = server.taken[0].items()
    assert (name, text.splitlines()[0]) == ("text", "r is done: step 5 of 5")
    assert SECRET not in left(run)


def test_only_the_first_node_speaks(run: RunDir) -> None:
    with hook() as server:
        # No DPO_CONFIG: the nodes do not meet, and the played torchrun has one rank.
        env = {"DPO_NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
        RunDir(run.path, 1).update_record(run="r")
        finish(run, HOOK=server.url, **env)
        assert server.taken == []
        finish(run, HOOK=server.url, DPO_NNODES="1", JOB_COMPLETION_INDEX="3")
        assert [message["event"] for message in server.taken] == ["done"], "the point of a sweep is a run of its own"


@pytest.mark.parametrize("value", [f"http://127.0.0.1:9/{SECRET}", ""])
def test_a_message_that_is_not_sent_is_a_warning_and_the_run_ends_as_it_did(run: RunDir, value: str) -> None:
    code, out = finish(run, HOOK=value)
    assert (code, run.read_record()["outcome"]["state"]) == (0, "done")
    why = "HOOK: connection refused (3 tries)" if value else "notify: HOOK is not set in .env or the environment"
    assert f"warning: notification not sent: {why}\n" in out
    assert SECRET not in left(run) + out


def test_an_experiment_without_notify_tells_nobody(run: RunDir) -> None:
    run.experiment.write_text("{}")
    with hook() as server:
        assert finish(run, HOOK=server.url) == (0, "r: attempt 1: done, exit 0: done\n")
        assert server.taken == []


def _begun(run: RunDir, server: Hook, monkeypatch: pytest.MonkeyPatch, **health: Any) -> Any:
    """The health rules of the first rank, over data with a giant answer and repeated pairs."""
    from trainer.health import HealthCallback
    from trainer.logs import StepLog

    monkeypatch.setenv("HOOK", server.url)
    facts = Facts(pairs=100, batch=8, answers=Answers(count=200, cut=0, median=20.0, longest=4000, longest_row=7, repeated=40))
    callback = HealthCallback(Health.model_validate(health), facts, run="r", notify="HOOK")
    callback.begin(run, StepLog(run, resume_step=0, attempt=1, events=False))
    return callback


def _sent(server: Hook) -> list[dict[str, Any]]:
    from trainer.processes.webhook.notify import OUTBOX

    assert OUTBOX.wait(120)
    return server.taken


def test_each_finding_is_told_once_and_a_restarted_run_does_not_repeat_it(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with hook() as server:
        _begun(run, server, monkeypatch)
        sent = {message["rule"]: message for message in _sent(server)}
        assert list(sent) == ["giant_answer", "duplicates"]
        message = sent["duplicates"]
        found = {one["rule"]: one for one in run.read_record()["health"]}["duplicates"]
        assert (message["event"], message["run"], message["experiment"], message["steps"]) == ("health", "r", "demo", [0, 0])
        assert (message["sentence"], message["suggestion"]) == (found["sentence"], found["suggestion"])
        assert message["text"] == f"r: warning: {found['sentence']} (health.duplicates, data)\n{found['suggestion']}"
        assert "exit_code" not in message
        _begun(run, server, monkeypatch)
        assert len(_sent(server)) == 2
    assert SECRET not in left(run) + capsys.readouterr().out


def test_a_rule_that_stops_the_run_is_told_with_its_end_and_not_twice(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    with hook() as server:
        callback = _begun(
            run, server, monkeypatch, giant_answer="off", duplicates="off", reward_scale={"action": "stop", "threshold": 1e-9}
        )
        state, control = TrainerState(max_steps=100), TrainerControl()
        for step in range(1, 60):
            state.global_step = step
            line = {
                "loss": 0.6,
                "grad_norm": 1.0,
                "learning_rate": 1e-5,
                "rewards/chosen": 3.0,
                "rewards/rejected": 1.0,
                "rewards/margins": 2.0,
            }
            callback.on_log(TrainingArguments(use_cpu=True, report_to="none"), state, control, line)
            if callback.stopped:
                break
        assert callback.stopped is not None
        assert _sent(server) == []


def test_a_finding_that_is_not_sent_is_a_warning_in_the_log(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with hook(404, 404) as server:
        _begun(run, server, monkeypatch)
        assert len(_sent(server)) == 2
    assert capsys.readouterr().out.count("warning: notification not sent: HOOK: the server answered HTTP 404\n") == 2


def test_a_run_of_sft_tells_its_loss_though_it_has_no_rewards(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    from launcher.health import Finding
    from trainer.processes.webhook.notify import tell_findings

    run.update_record(method="sft")
    run.logs.mkdir(exist_ok=True)
    lines = [{"type": "eval", "step": 2, "eval_loss": 2.25}, {"type": "train", "step": 3, "loss": 2.5}]
    run.steps.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with hook() as server:
        monkeypatch.setenv("HOOK", server.url)
        tell_findings(run, "HOOK", [Finding("slow", "warn", 1, 3, "it is slow", "look")])
        (message,) = _sent(server)
    assert message["text"].splitlines()[-1] == "loss 2.2500 (validation pairs, step 2)"
