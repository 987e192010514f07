"""The host backend with real processes; torchrun is played by ``tests/fakes``."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.backends import Status
from launcher.backends.host import Host, gpus_there, notices
from launcher.errors import CredentialError, ExperimentError, LauncherError, UsageError
from launcher.experiment.schema import Experiment
from launcher.job.job import Job, plan
from launcher.runs.processes import Process, kill, members
from launcher.runs.run_dir import RunDir
from tests.waiting import wait_for

TESTS = Path(__file__).parents[2]
GOLDEN = TESTS / "golden"


def job(there: int = 0, run: str = "demo-1", notify: str | None = None, **launch: Any) -> Job:
    data = {"experiment_id": 1, "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data", "launch": launch, "notify": notify}
    return plan(Experiment.parse(data), run=run, key="demo", gpus_there=there, origin="configs/demo.yml")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host.here(tmp_path, {**os.environ, "PYTHONPATH": str(TESTS / "fakes"), "FAKE_PAUSE": "0.02"})
    yield made
    for record in tmp_path.rglob("run.json"):
        kill(str(record.parent))


def with_env(host: Host, **env: str) -> Host:
    return replace(host, caller={**host.caller, **env})


def over(host: Host, run: RunDir) -> Status:
    wait_for(lambda: host.status(run).is_over)
    return host.status(run)


def test_what_render_prints():
    host = Host(
        Path("/home/you/my project"), "/home/you/.venv/bin/python", 16, {"HOME": "/home/you", "HTTPS_PROXY": "http://p:1"}
    )
    launch = {"env": {"HTTPS_PROXY": None, "GREETING": "it's me"}, "secrets": ["HF_TOKEN"], "shm_size": "1Gi", "max_restarts": 0}
    spec = host.render(job(2, **launch))
    for golden, full in ((GOLDEN / "host.sh", True), (GOLDEN / "host-command.sh", False)):
        if os.environ.get("REWRITE_GOLDEN"):
            golden.write_text(host.text(spec, full=full))
        assert host.text(spec, full=full) == golden.read_text()


def test_what_render_prints_does_what_submit_does(host):
    script = host.text(host.render(job()))
    done = subprocess.run(
        ["bash", "-e"], input=script, env=dict(host.caller), capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "demo-1: attempt 1: done, exit 0: done\n")


def test_a_gpu_run_is_not_told_to_use_the_cpu():
    env = Host(Path("/w"), "python", 16, {}).render(job(4)).env
    assert (env["DPO_NPROC"], env["OMP_NUM_THREADS"]) == ("4", "4")
    assert not {"ACCELERATE_USE_CPU", "CUDA_VISIBLE_DEVICES"} & set(env)


@pytest.mark.parametrize(
    ("caller", "cache", "hf_home"),
    [
        ({"HOME": "/h"}, "/h/.cache/dpo-launcher", "/h/.cache/dpo-launcher/huggingface"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/dpo-launcher", "/x/dpo-launcher/huggingface"),
        ({"HOME": "/h", "DPO_CACHE_ROOT": "/c", "HF_HOME": "/hf"}, "/c", "/hf"),
    ],
)
def test_the_cache_root_is_the_callers_choice(caller, cache, hf_home):
    env = Host(Path("/w"), "python", 1, caller).render(job()).env
    assert (env["DPO_CACHE_ROOT"], env["HF_HOME"]) == (cache, hf_home)


def test_a_user_without_a_home_directory_is_asked_where_the_cache_is(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 2)  # a user whom no passwd file knows
    with pytest.raises(LauncherError, match="set DPO_CACHE_ROOT or HOME"):
        Host(Path("/w"), "python", 1, {}).render(job())
    assert Host(Path("/w"), "python", 1, {"DPO_CACHE_ROOT": "/c"}).render(job()).env["DPO_CACHE_ROOT"] == "/c"


def test_a_name_that_the_caller_does_not_have_is_a_mistake_before_anything_is_made(host, tmp_path):
    with pytest.raises(ExperimentError, match="NO_SUCH_NAME is not set"):
        host.render(job(env=["NO_SUCH_NAME"]))
    with pytest.raises(CredentialError, match="NO_SUCH_TOKEN"):
        host.submit(host.render(job(secrets=["NO_SUCH_TOKEN"])))
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_in_no_file_of_the_run(host):
    host = with_env(host, HF_TOKEN="hush-hush")
    spec = host.render(job(secrets=["HF_TOKEN"]))
    run = host.submit(spec)
    over(host, run)
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if "hush-hush" in path.read_text()] == []
    assert "hush-hush" not in host.text(spec) + repr(host) + repr(spec)


def test_a_run_gets_the_secrets_that_its_experiment_needs_and_no_others(host):
    host = with_env(host, HF_TOKEN="hf-hush", AWS_SECRET_KEY="aws-hush", GOOGLE_SHEETS_PRIVATE_KEY="key-hush", LOGIN_TOKEN="mine")
    spec = host.render(job(secrets=["LOGIN_TOKEN"]))
    assert {"AWS_SECRET_KEY", "GOOGLE_SHEETS_PRIVATE_KEY"} <= set(spec.left_out)
    assert "  --unset=AWS_SECRET_KEY \\\n" in host.text(spec)
    run = host.submit(spec)
    pid = run.read_record()["process"]["pid"]
    names = {entry.partition(b"=")[0].decode() for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}
    assert {"HF_TOKEN", "LOGIN_TOKEN", "PATH"} <= names
    assert not names & {"AWS_SECRET_KEY", "GOOGLE_SHEETS_PRIVATE_KEY"}
    over(host, run)


def test_settings_without_effect_are_named_once():
    assert notices(job(image="i", memory="1Gi")) == [
        "launch.image has no effect on the host backend",
        "launch.memory has no effect on the host backend",
    ]
    assert notices(job(gpus=0)) == []


def test_a_repeated_run_whose_record_has_every_setting_is_told_of_those_alone_that_are_not_the_default():
    recorded = Experiment.model_validate_json(job(image="i").experiment.model_dump_json())
    assert notices(replace(job(), experiment=recorded)) == ["launch.image has no effect on the host backend"]


def test_a_run_is_recorded_from_its_start_to_its_end(host):
    run = host.submit(host.render(job()))
    assert Process.parse(run.read_record()["process"]).is_here
    assert over(host, run) == Status("done", 0, "done")
    record = run.read_record()
    assert {name: record[name] for name in ("run", "key", "experiment_id", "model_name", "backend", "origin")} == {
        "run": "demo-1",
        "key": "demo",
        "experiment_id": "1",
        "model_name": "Qwen/Qwen3-0.6B",
        "backend": "host",
        "origin": "configs/demo.yml",
    }
    assert Experiment.model_validate(record["experiment"]) == job().experiment
    assert Experiment.model_validate_json(run.experiment.read_text()) == job().experiment
    assert set(record["code"]) in ({"revision", "dirty", "content"}, {"version", "content"})


def test_a_run_lives_in_a_session_of_its_own_without_standard_input(host):
    run = with_env(host, FAKE_STEPS="10000").submit(host.render(job()))
    pid = run.read_record()["process"]["pid"]
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")


def test_follow_gives_the_log_from_its_first_byte_to_its_last(host):
    run = host.submit(host.render(job()))
    text = "".join(host.follow(run))
    assert text == run.rank_log(0).read_text()
    assert [json.loads(line)["step"] for line in text.splitlines()[1:]] == [1, 2, 3, 4, 5]


def test_follow_of_a_finished_run_gives_all_of_it(host):
    run = host.submit(host.render(job()))
    over(host, run)
    assert "".join(host.follow(run)) == run.rank_log(0).read_text()


def test_a_stop_is_after_a_checkpoint_and_leaves_nobody(host):
    run = with_env(host, FAKE_STEPS="10000").submit(host.render(job()))
    wait_for(run.steps.is_file)
    assert host.stop(run) == Status("running")
    assert over(host, run) == Status("stopped", 143, "stopped after a checkpoint")
    assert members(str(run.path)) == []


def test_a_stop_at_once_kills_all_and_says_aborted(host):
    run = with_env(host, FAKE_RANKS="deaf").submit(host.render(job()))
    wait_for(run.steps.is_file)
    assert len(members(str(run.path))) == 3
    host.stop(run)
    assert host.stop(run, now=True) == Status("aborted", 130, "killed on request")
    assert members(str(run.path)) == []


def test_a_stop_at_once_kills_what_a_dead_entry_has_left(host):
    run = with_env(host, FAKE_RANKS="deaf").submit(host.render(job()))
    wait_for(run.steps.is_file)
    os.kill(run.read_record()["process"]["pid"], signal.SIGKILL)
    wait_for(lambda: host.status(run).state == "lost")
    assert host.stop(run, now=True).state == "aborted"
    assert members(str(run.path)) == []


def test_a_stop_does_not_touch_another_run_of_the_same_name(host, tmp_path):
    (tmp_path / "other").mkdir()
    mine = with_env(host, FAKE_RANKS="deaf")
    other = replace(mine, cwd=tmp_path / "other")
    one, two = mine.submit(mine.render(job())), other.submit(other.render(job()))
    host.stop(one, now=True)
    assert (host.status(one).state, host.status(two).state) == ("aborted", "running")
    host.stop(two, now=True)


def test_a_killed_run_is_lost(host):
    run = with_env(host, FAKE_STEPS="10000").submit(host.render(job()))
    os.kill(run.read_record()["process"]["pid"], signal.SIGKILL)
    assert over(host, run).state == "lost"


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "another boot"}, {"pid": 2**22 + 1}])
def test_a_process_that_only_shares_the_pid_is_not_believed_and_not_signalled(host, change):
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        process = Process.of(stranger.pid)
        run = RunDir.of(host.cwd, "out", "1", "m", "r")
        run.create({run.experiment: "{}"}, {"process": {**process.record(), **change}, "outcome": {"state": "running"}})
        assert host.status(run).state == "lost"
        host.stop(run)
        time.sleep(0.1)
        assert stranger.poll() is None
        run.update_record(process=process.record())
        assert host.status(run).state == "running"
    finally:
        stranger.kill()
        stranger.wait()


def test_a_run_of_another_machine_is_neither_believed_dead_nor_killed(host):
    run = RunDir.of(host.cwd, "out", "1", "m", "r")
    process = replace(Process.of(os.getpid()), host="elsewhere").record()
    run.create({run.experiment: "{}"}, {"process": process, "outcome": {"state": "running"}})
    assert host.status(run) == Status("unknown", None, "running on elsewhere when last seen")
    with pytest.raises(LauncherError, match="stop it there"):
        host.stop(run, now=True)


def test_a_start_that_fails_is_not_left_as_running(host):
    broken = replace(host, python="/no/such/python")
    spec = broken.render(job())
    with pytest.raises(LauncherError, match=r"the run did not start: .*No such file"):
        broken.submit(spec)
    assert host.status(spec.run_dir).state == "failed"


def test_an_entry_that_dies_before_it_speaks_is_a_start_that_failed(host):
    spec = replace(host.render(job()), argv=(sys.executable, "-c", "import sys; sys.exit('no such thing')"))
    with pytest.raises(LauncherError, match=r"the run did not start \(exit 1\):\nno such thing"):
        host.submit(spec)
    assert host.status(spec.run_dir).state == "failed"


def test_a_run_is_not_started_twice(host):
    over(host, host.submit(host.render(job())))
    with pytest.raises(UsageError, match=r"run .* exists"):
        host.submit(host.render(job()))


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, 3), ("", 0), ("-1", 0), ("1", 1), ("0,1", 2), ("0,-1,1", 1), ("0,1,2,3", 3)]
)
def test_gpus_are_those_that_the_caller_may_see(tmp_path, monkeypatch, visible, expected):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nfor i in 0 1 2; do echo \"GPU $i: NVIDIA H100 (UUID: GPU-$i)\"; echo '  MIG device'; done\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpus_there({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_the_address_that_notify_names_reaches_the_process_and_no_file(host, tmp_path):
    with pytest.raises(CredentialError) as missing:
        host.submit(host.render(job(secrets=["LOGIN"], notify="HOOK")))
    assert str(missing.value) == "launch.secrets: LOGIN not set; notify: HOOK not set; set it in your environment or in .env"
    host = with_env(host, HOOK="http://127.0.0.1:9/planted-hook")
    spec = host.render(job(notify="HOOK"))
    run = host.submit(spec)
    pid = run.read_record()["process"]["pid"]
    assert b"HOOK=http://127.0.0.1:9/planted-hook" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    over(host, run)
    assert "planted-hook" not in "".join(path.read_text() for path in run.path.rglob("*") if path.is_file())
    assert "planted-hook" not in host.text(spec) + repr(host) + repr(spec)
