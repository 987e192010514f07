"""The entry as a real process, over a torchrun that is played by ``tests/fakes``."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.runs.processes import Process, members
from launcher.runs.run_dir import RunDir
from tests.waiting import wait_for
from trainer.processes.entrypoint import write_report

FAKES = Path(__file__).parents[2] / "fakes"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "exp_1" / "model" / "runs" / "r")
    run.create({run.experiment: "{}"}, {"run": "r"})
    return run


def start(run: RunDir, nproc: int = 1, **env: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(FAKES), "DPO_RUN_FOLDER": str(run.path), "DPO_NPROC": str(nproc), **env}
    argv = [sys.executable, "-m", "trainer.processes.entrypoint", str(run.path)]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(entry: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = entry.communicate(timeout=300)
    return entry.returncode, out


def has_stepped(run: RunDir) -> bool:
    return run.steps.is_file() and run.steps.stat().st_size > 0


def test_a_good_run_ends_with_0_and_its_record_says_so(run):
    assert finish(start(run)) == (0, "r: attempt 1: done, exit 0: done\n")
    record = run.read_record()
    assert record["outcome"] == {"state": "done", "exit_code": 0, "sentence": "done", "ended": record["outcome"]["ended"]}
    assert [(a["number"], a["exit_code"], a["ended"] is not None) for a in record["attempts"]] == [(1, 0, True)]
    assert not Process.parse(record["process"]).alive


def test_a_run_leaves_its_page_however_it_ends(run):
    assert finish(start(run, FAKE_RANKS="46"))[0] == 46
    page = (run.path / "report.html").read_text()
    assert "rank 0 says 46" in page
    assert "failed (46)" in page


def test_a_page_that_cannot_be_written_is_a_warning_and_the_run_is_done(run):
    (run.path / "report.html").mkdir()
    code, out = finish(start(run))
    assert code == 0
    assert f"warning: cannot write {run.path}/report.html: is a directory; write it with: launcher report r\n" in out
    assert run.read_record()["outcome"]["state"] == "done"


def test_code_of_the_page_that_has_changed_meanwhile_ends_no_run(run, monkeypatch, capsys):
    monkeypatch.setattr("launcher.report.page.write_own", None)
    write_report(run)
    assert capsys.readouterr().err == "warning: cannot write the run's report: TypeError: 'NoneType' object is not callable\n"


@pytest.mark.parametrize("code", [1, 42, 43, 44, 45, 46, 47, 48])
def test_a_ranks_exit_code_travels_through_torchrun(run, code):
    assert finish(start(run, FAKE_RANKS=str(code), FAKE_STEPS="1"))[0] == code
    assert run.read_record()["outcome"]["sentence"] == f"rank 0 says {code}"


def test_of_several_ranks_the_first_that_failed_gives_the_code(run):
    # rank 0 fails after rank 1, as one does whose collective was cut off
    assert finish(start(run, 2, FAKE_RANKS="survivor,45"))[0] == 45


def test_a_rank_that_was_killed_without_a_word_is_137(run):
    code, out = finish(start(run, 2, FAKE_RANKS="0,killed"))
    assert code == 137
    seen = r"by a user or the system; memory had not run out \(largest process: 0\.\d of \d+\.\d GiB\)"
    unknown = r": often because main memory ran out.*; check `dmesg`"  # a machine without counters
    assert re.fullmatch(rf"r: attempt 1: failed, exit 137: a rank was killed \(SIGKILL\)( {seen}|{unknown})\n", out)
    assert not (run.attempt(1) / "reserve").exists()


def test_a_killed_rank_is_the_reason_and_not_the_words_of_the_one_that_missed_it(run):
    code, out = finish(start(run, 2, FAKE_RANKS="survivor,killed"))
    assert code == 137
    assert "a rank was killed (SIGKILL)" in out


def test_a_rank_that_only_missed_another_is_believed_where_nobody_says_more(run):
    assert finish(start(run, 2, FAKE_RANKS="0,survivor")) == (1, "r: attempt 1: failed, exit 1: a peer is gone\n")


def test_memory_that_runs_out_is_tried_again_with_smaller_micro_batches(run):
    code, out = finish(start(run, FAKE_RANKS="short"))
    assert (code, out.splitlines()) == (
        0,
        [
            "r: attempt 1: failed, exit 45: out of memory",
            "r: attempt 2: failed, exit 45: out of memory",
            "r: attempt 3: done, exit 0: done",
        ],
    )
    assert [(a["number"], a["exit_code"]) for a in run.read_record()["attempts"]] == [(1, 45), (2, 45), (3, 0)]


def test_each_node_of_a_run_keeps_its_own_record_and_they_count_the_same_attempts(run):
    (run.path / "node-1.json").write_text('{"run": "r"}')
    both = {"DPO_NNODES": "2", "MASTER_ADDR": "first", "FAKE_RANKS": "0", "FAKE_STEPS": "1"}
    for attempt in (1, 2):
        for node in ("1", "0"):
            code, out = finish(start(run, NODE_RANK=node, **both))
            assert (code, out) == (0, f"r: attempt {attempt}: done, exit 0: done\n")
    assert len(RunDir(run.path, node=1).read_record()["attempts"]) == len(run.read_record()["attempts"]) == 2
    assert "--node-rank=1 --master-addr=first --master-port=29500" in (run.logs / "entry-1.log").read_text()


def test_a_node_that_comes_late_joins_the_attempt_that_the_others_are_in(run):
    (run.path / "node-1.json").write_text('{"run": "r"}')
    both = {"DPO_NNODES": "2", "MASTER_ADDR": "first", "FAKE_STEPS": "1"}
    assert finish(start(run, NODE_RANK="0", FAKE_RANKS="1", **both))[0] == 1
    code, out = finish(start(run, NODE_RANK="0", FAKE_RANKS="0", **both))
    assert (code, out) == (0, "r: attempt 2: done, exit 0: done\n")
    assert finish(start(run, NODE_RANK="1", FAKE_RANKS="0", **both)) == (0, "r: attempt 2: done, exit 0: done\n")


def test_a_node_that_does_not_know_which_it_is_says_what_it_needs(run):
    code, out = finish(start(run, DPO_NNODES="2"))
    assert (code, out) == (
        2,
        "error: a run on 2 nodes needs NODE_RANK from 0 to 1, not unset (0 is the node of MASTER_ADDR)\n",
    )


def test_a_bus_error_names_shared_memory_and_its_setting(run):
    code, out = finish(start(run, 2, FAKE_RANKS="0,bus"))
    assert (code, out) == (
        135,
        "r: attempt 1: failed, exit 135: a bus error: shared memory (/dev/shm) ran out; raise launch.shm_size\n",
    )


def test_only_the_ranks_have_the_secrets_that_are_files(run, tmp_path):
    (tmp_path / "secrets" / "..data").mkdir(parents=True)  # as Kubernetes mounts them
    (tmp_path / "secrets" / "HF_TOKEN").write_text("hush-hush")
    entry = start(run, DPO_SECRETS=str(tmp_path / "secrets"), FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    wait_for(lambda: has_stepped(run))
    environments = {pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in members(None, entry.pid)}
    assert {pid for pid, env in environments.items() if b"HF_TOKEN=hush-hush" not in env} == {entry.pid}
    entry.terminate()
    finish(entry)


def test_without_a_note_torchruns_code_is_taken(run):
    assert finish(start(run, FAKE_RANKS="silent"))[0] == 1
    assert "exitcode  : 1" in run.entry_log.read_text()


def test_torchrun_gets_a_static_topology_on_a_free_port(run):
    finish(start(run, 2, FAKE_RANKS="0,0"))
    words = run.entry_log.read_text()
    assert re.sub(r"master-port=\d+", "master-port=PORT", words) == (
        "torchrun: --nnodes=1 --nproc-per-node=2 --master-addr=127.0.0.1 --master-port=PORT --max-restarts=0 "
        f"--log-dir=/dev/null -m trainer {run.path}\n"
    )


def test_torchruns_port_is_given_to_nobody_else_and_torchrun_can_listen_there(run):
    entry = start(run, FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    wait_for(lambda: has_stepped(run))
    port = int(re.search(r"master-port=(\d+)", run.entry_log.read_text())[1])
    with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("", port)) as as_torchrun_does, socket.create_connection(("127.0.0.1", port)):
        as_torchrun_does.accept()[0].close()
    entry.terminate()
    assert finish(entry)[0] == 143


def test_attempts_are_counted_on(run):
    finish(start(run, FAKE_RANKS="1"))
    finish(start(run))
    assert [(a["number"], a["exit_code"]) for a in run.read_record()["attempts"]] == [(1, 1), (2, 0)]
    assert json.loads(run.exit_note(2, 0).read_text())["code"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_reaches_the_ranks_and_is_143(run, number):
    entry = start(run, FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    wait_for(lambda: has_stepped(run))
    assert run.read_record()["outcome"] == {"state": "running"}
    entry.send_signal(number)
    assert finish(entry)[0] == 143
    assert run.read_record()["outcome"]["state"] == "stopped"
    assert members(str(run.path)) == []


def test_ranks_that_do_not_stop_are_killed_when_the_grace_is_over(run):
    entry = start(run, FAKE_RANKS="deaf", DPO_GRACE="1")
    wait_for(lambda: has_stepped(run))
    entry.terminate()
    code, out = finish(entry)
    assert code == 137
    assert "did not stop within 1 s and was killed" in out
    assert members(str(run.path)) == []


def test_a_torchrun_that_is_killed_leaves_no_rank_behind(run):
    entry = start(run, FAKE_RANKS="deaf")
    wait_for(lambda: has_stepped(run))
    torchrun = next(pid for pid in members(None, entry.pid) if pid != entry.pid and b"torch.distributed.run" in cmdline(pid))
    os.kill(torchrun, signal.SIGKILL)
    assert finish(entry)[0] == 137
    assert members(str(run.path)) == []


def test_an_entry_that_is_killed_takes_torchrun_with_it(run):
    entry = start(run, FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    wait_for(lambda: has_stepped(run))
    entry.kill()
    wait_for(lambda: members(str(run.path)) == [])
    assert json.loads(run.exit_note(1, 0).read_text())["code"] == 143


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_stop_before_torchrun_is_started_finds_no_log_of_it(tmp_path):
    from trainer.processes.entrypoint import _since

    assert _since(tmp_path / "entry.log", 0) == ""
