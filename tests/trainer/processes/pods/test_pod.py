"""The entry in a pod: its folder on the claim, what it says to the cluster. torchrun is played by ``tests/fakes``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.runs.processes import kill
from launcher.runs.run_dir import RunDir
from tests.waiting import wait_for
from trainer.processes.entrypoint import folder_of
from trainer.processes.pods.pod import FirstNode, arrive, last_words

REPOSITORY = Path(__file__).parents[4]
FAKES = REPOSITORY / "tests" / "fakes"


@dataclass
class Pod:
    """A claim, a ConfigMap, and the file in which the kubelet looks for last words."""

    home: Path

    @property
    def run(self) -> RunDir:
        return RunDir(self.home / "claim" / "exp_1" / "model" / "runs" / "r")

    @property
    def config(self) -> Path:
        return self.home / "config"

    def start(self, patience: str | None = None, **env: str) -> subprocess.Popen[str]:
        """``patience``: seconds in which a node may find out by itself that the first one has left it."""
        own = {
            "PYTHONPATH": f"{FAKES}{os.pathsep}{REPOSITORY}",
            "DPO_RUN_FOLDER": str(self.run.path),
            "DPO_CONFIG": str(self.config),
            "DPO_TERMINATION_LOG": str(self.home / "last-words"),
        }
        argv = [sys.executable, "-m", "trainer.processes.entrypoint", str(self.run.path)]
        if patience is not None:
            imported = "import sys; from trainer.processes import entrypoint; from trainer.processes.pods import pod"
            argv = [
                sys.executable,
                "-c",
                f"{imported}; pod._ALONE = pod._LOOK = {patience}; sys.exit(entrypoint.main(entrypoint.Path(sys.argv[1])))",
                str(self.run.path),
            ]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(argv, env={**os.environ, **own, **env}, **output)  # type: ignore[call-overload]

    def finish(self, **env: str) -> tuple[int, list[str]]:
        out, code = end(self.start(**env))
        return code, out

    def last_words(self) -> dict[str, object]:
        return json.loads((self.home / "last-words").read_text())


def end(entry: subprocess.Popen[str]) -> tuple[list[str], int]:
    out, _ = entry.communicate(timeout=300)
    return out.splitlines(), entry.returncode


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    (tmp_path / "claim").mkdir()
    (tmp_path / "config" / "..data").mkdir(parents=True)  # as Kubernetes mounts it
    (tmp_path / "config" / "experiment.json").write_text('{"experiment_id": "1"}\n')
    (tmp_path / "config" / "record.json").write_text('{"run": "r", "backend": "kubernetes"}\n')
    (tmp_path / "config" / "deepspeed.json").write_text("{}\n")
    return Pod(tmp_path)


@pytest.fixture
def nobody() -> tuple[int, int]:
    """A user whom modes stop: root they do not."""
    return (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


@contextmanager
def acting_as(user: tuple[int, int]) -> Iterator[None]:
    before = os.geteuid(), os.getegid()
    os.setegid(user[1])
    os.seteuid(user[0])
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])


def _arrive_with(run: RunDir, rendered: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as config:
        for name, text in rendered.items():
            (Path(config) / name).write_text(text)
        arrive(run, Path(config), lambda: False)


def test_a_pod_of_a_sweep_learns_from_its_index_which_run_it_is(pod: Pod) -> None:
    own = pod.config / "3"
    own.mkdir()
    for file in pod.config.glob("*.json"):
        file.rename(own / file.name)
    record = {"run": "r", "backend": "kubernetes", "folder": str(pod.run.path)}
    (own / "record.json").write_text(json.dumps(record))
    marks = {"DPO_RUN": "@run-name@", "DPO_RUN_FOLDER": "@run-folder@", "FAKE_ADAPTER": "of {run}", "DPO_CONFIG": str(own)}
    done = subprocess.run(
        [sys.executable, "-m", "trainer.processes.entrypoint", str(own / "record.json")],
        env={**os.environ, "PYTHONPATH": f"{FAKES}{os.pathsep}{REPOSITORY}", "JOB_COMPLETION_INDEX": "3", **marks},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "r: attempt 1: done, exit 0: done"), done.stderr
    assert (pod.run.read_record()["run"], pod.run.read_record()["outcome"]["state"]) == ("r", "done")


@pytest.mark.parametrize("file", ["stops/3", "tmp/dpo-stop"])
def test_a_file_stops_a_pod_after_a_checkpoint_with_a_code_that_is_not_retried(pod: Pod, file: str) -> None:
    entry = pod.start(FAKE_STEPS="1000", FAKE_PAUSE="0.05", DPO_STOP=f"{pod.home}/stops/3:{pod.home}/tmp/dpo-stop")
    wait_for(lambda: pod.run.steps.is_file() and pod.run.steps.stat().st_size > 0)
    stop = pod.home / file
    stop.parent.mkdir()
    stop.touch()
    out, code = end(entry)
    assert code == 49, out
    assert (pod.last_words()["code"], pod.last_words()["state"]) == (143, "stopped")
    (attempt,) = pod.run.read_record()["attempts"]
    assert (attempt["exit_code"], pod.run.read_record()["outcome"]["state"]) == (143, "stopped")


def test_a_pod_that_finds_its_stop_file_starts_nothing_and_one_whose_run_is_done_is_done(pod: Pod) -> None:
    stop = pod.home / "stop"
    stop.touch()
    code, out = pod.finish(DPO_STOP=str(stop))
    assert (code, pod.last_words()["state"]) == (49, "stopped"), out
    assert not pod.run.path.exists()
    stop.unlink()
    assert pod.finish(DPO_STOP=str(stop))[0] == 0
    stop.touch()
    assert pod.finish(DPO_STOP=str(stop))[0] == 0
    assert len(pod.run.read_record()["attempts"]) == 1


def test_a_run_that_failed_by_itself_keeps_its_code_where_a_stop_was_wanted(pod: Pod) -> None:
    entry = pod.start(FAKE_STEPS="20", FAKE_PAUSE="0.05", FAKE_RANKS="deaf", DPO_GRACE="1", DPO_STOP=str(pod.home / "stop"))
    wait_for(lambda: pod.run.steps.is_file() and pod.run.steps.stat().st_size > 0)
    (pod.home / "stop").touch()
    assert end(entry)[1] == 137, "it did not stop in time"


def test_the_environment_names_the_run_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "record.json").write_text(json.dumps({"run": "grid-2", "folder": "/dpo/runs/out/grid-2"}))
    for name, value in {"DPO_RUN": "@run-name@", "ACCELERATE_DEEPSPEED_CONFIG_FILE": "@run-folder@/deepspeed.json"}.items():
        monkeypatch.setenv(name, value)
    assert folder_of(tmp_path / "record.json") == Path("/dpo/runs/out/grid-2")
    assert (os.environ["DPO_RUN"], os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"]) == (
        "grid-2",
        "/dpo/runs/out/grid-2/deepspeed.json",
    )
    assert folder_of(tmp_path / "runs" / "one") == tmp_path / "runs" / "one"


def test_the_first_node_makes_the_folder_and_says_all_that_its_rank_says(pod: Pod) -> None:
    code, out = pod.finish(FAKE_STEPS="2")
    assert code == 0
    assert out[0] == "[rank 0] loading the model"
    assert [json.loads(line.removeprefix("[rank 0] "))["step"] for line in out[1:3]] == [1, 2]
    assert out[3:] == ["r: attempt 1: done, exit 0: done"]
    assert pod.last_words() == {"code": 0, "sentence": "done", "state": "done"}
    record = pod.run.read_record()
    assert (record["backend"], record["experiment"], record["outcome"]["state"]) == ("kubernetes", {"experiment_id": "1"}, "done")
    assert re.match(r"20\d\d-", record["created"])
    assert pod.run.deepspeed.read_text() == "{}\n"
    assert (pod.run.shelf / "run.json").resolve() == pod.run.record.resolve()


def test_the_record_keeps_in_which_pod_on_which_node_and_how_every_attempt_ended(pod: Pod) -> None:
    first = pod.start(FAKE_RANKS="deaf", FAKE_STEPS="1", DPO_POD="r-0-aaaaa", DPO_HOST="gpu-1")
    wait_for(lambda: pod.run.rank_log(0).exists())
    kill(None, first.pid)
    end(first)
    assert pod.finish(FAKE_RANKS="45", DPO_POD="r-0-bbbbb", DPO_HOST="gpu-2")[0] == 45
    one, two = pod.run.read_record()["attempts"]
    kept = ("pod", "host", "exit_code", "state", "sentence")
    assert [one[key] for key in kept] == [
        "r-0-aaaaa", "gpu-1", 137, "failed",
        "r-0-aaaaa on gpu-1 was killed without a message (SIGKILL), or lost with its node",
    ]  # fmt: skip
    assert [two[key] for key in kept] == ["r-0-bbbbb", "gpu-2", 45, "failed", "rank 0 says 45"]
    assert one["started"] <= one["ended"] <= two["started"] <= two["ended"]


def test_a_burst_of_lines_before_the_end_is_said_to_its_last(pod: Pod) -> None:
    _, out = pod.finish(FAKE_STEPS="20000", FAKE_PAUSE="0")
    assert [json.loads(line.removeprefix("[rank 0] "))["step"] for line in out[1:-1]] == list(range(1, 20001))


def test_an_attempt_that_goes_on_with_smaller_batches_has_no_last_words(pod: Pod) -> None:
    entry = pod.start(FAKE_RANKS="short", FAKE_STEPS="1", FAKE_HOLD="attempt-2/go")
    wait_for(lambda: (pod.run.attempt(2) / "node-0").exists())
    said = (pod.home / "last-words").read_text()
    entry.terminate()
    end(entry)
    assert said == ""


def test_a_restart_goes_on_in_the_same_folder_and_repeats_nothing(pod: Pod) -> None:
    code, _ = pod.finish(FAKE_RANKS="1", FAKE_STEPS="1")
    assert (code, pod.last_words()) == (1, {"code": 1, "sentence": "rank 0 says 1", "state": "failed"})
    created = pod.run.read_record()["created"]
    code, out = pod.finish(FAKE_STEPS="1")
    assert (code, len(out), out[-1]) == (0, 3, "r: attempt 2: done, exit 0: done")
    record = pod.run.read_record()
    assert (record["created"], [a["exit_code"] for a in record["attempts"]]) == (created, [1, 0])


def test_a_folder_that_an_earlier_attempt_only_began_is_made_whole(pod: Pod) -> None:
    pod.run.logs.mkdir(parents=True)
    pod.run.experiment.write_text("{")
    assert pod.finish()[0] == 0
    assert json.loads(pod.run.experiment.read_text()) == {"experiment_id": "1"}


def test_a_run_that_is_done_is_not_done_again(pod: Pod) -> None:
    pod.finish()
    (pod.home / "last-words").unlink()
    assert pod.finish(FAKE_RANKS="42") == (0, [])
    assert pod.last_words() == {"code": 0, "sentence": "done by an earlier attempt", "state": "done"}


def test_another_experiment_under_the_same_name_is_refused_for_good(pod: Pod) -> None:
    pod.finish()
    (pod.config / "experiment.json").write_text('{"experiment_id": "2"}')
    code, out = pod.finish()
    sentence = f"run r exists already, with another experiment: {pod.run.path}; take another --name"
    assert (code, out) == (2, [f"error: {sentence}"])
    assert pod.last_words() == {"code": 2, "sentence": sentence, "state": "failed"}


def test_the_other_nodes_wait_for_the_folder_and_tell_their_own_ranks_apart(pod: Pod) -> None:
    both = {"DPO_NNODES": "2", "DPO_NPROC": "1", "MASTER_ADDR": "localhost", "FAKE_STEPS": "1"}
    second = pod.start(JOB_COMPLETION_INDEX="1", **both)
    time.sleep(0.5)
    assert not pod.run.path.exists()
    first = pod.start(JOB_COMPLETION_INDEX="0", FAKE_PAUSE="600", **both)  # the real one waits for its peers
    out, code = end(second)
    assert (code, out[-1]) == (0, "r: attempt 1: done, exit 0: done")
    kill(None, first.pid)
    end(first)
    assert RunDir(pod.run.path, 1).read_record()["backend"] == "kubernetes"


def test_what_is_trained_is_uploaded_by_the_first_node_alone_as_the_others_may_be_done(pod: Pod) -> None:
    both = {"DPO_NNODES": "2", "DPO_NPROC": "1", "MASTER_ADDR": "localhost", "FAKE_STEPS": "1"}
    assert pod.finish(JOB_COMPLETION_INDEX="0", FAKE_RANKS="47", **both)[0] == 47
    begin = pod.run.entry_log.stat().st_size
    pod.run.adapter.mkdir()
    assert pod.finish(JOB_COMPLETION_INDEX="1", FAKE_RANKS="42", **both) == (0, [])
    assert pod.last_words()["sentence"] == "trained by an earlier attempt; the first node uploads the adapter"
    code, out = pod.finish(JOB_COMPLETION_INDEX="0", **both)
    assert (code, out[-1]) == (0, "r: attempt 2: done, exit 0: done")
    words = pod.run.entry_log.read_text()[begin:]
    assert "--nnodes=1 --nproc-per-node=1 --master-addr=127.0.0.1 " in words, "it waits for nobody"


def test_a_node_that_waits_heeds_a_stop(pod: Pod) -> None:
    entry = pod.start(JOB_COMPLETION_INDEX="1", DPO_NNODES="2", MASTER_ADDR="localhost")
    wait_for(lambda: Path(f"/proc/{entry.pid}/status").read_text().find("SigCgt:\t0000000000000000") < 0)
    wait_for(lambda: int(re.search(r"SigCgt:\t(\w+)", Path(f"/proc/{entry.pid}/status").read_text())[1], 16) & 1 << 14)
    entry.send_signal(signal.SIGTERM)
    assert end(entry) == ([], 143)
    assert pod.last_words() == {"code": 143, "sentence": "stopped before the first step: nothing to resume", "state": "stopped"}


def test_a_node_whose_first_one_was_started_again_before_they_met_begins_anew_too(pod: Pod) -> None:
    both = {"DPO_NNODES": "2", "DPO_NPROC": "1", "MASTER_ADDR": "localhost"}
    first = pod.start(JOB_COMPLETION_INDEX="0", FAKE_RANKS="deaf", FAKE_STEPS="0", **both)
    wait_for(lambda: (pod.run.attempt(1) / "node-0").exists())
    second = pod.start(JOB_COMPLETION_INDEX="1", FAKE_RANKS="deaf", FAKE_STEPS="0", patience="0.2", **both)
    wait_for(lambda: (pod.run.attempt(1) / "node-1").exists())
    kill(None, first.pid)
    end(first)
    again = pod.start(JOB_COMPLETION_INDEX="0", FAKE_RANKS="deaf", FAKE_STEPS="0", patience="0.2", **both)
    _, code = end(second)
    sentence = "the first node restarted while this node waited for it: this node restarts, too"
    assert (code, pod.last_words()) == (1, {"code": 1, "sentence": sentence, "state": "failed", "is_consequence": True})
    assert again.poll() is None, "the first node waits for nobody's attempt but its own"
    kill(None, again.pid)
    end(again)


@pytest.mark.parametrize(("node", "ahead", "is_lost"), [(1, 2, True), (1, 4, True), (1, 1, False), (0, 2, False)])
def test_only_a_newer_attempt_of_the_first_node_leaves_the_others_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: int, ahead: int, is_lost: bool
) -> None:
    monkeypatch.setattr("trainer.processes.pods.pod._LOOK", 0)
    monkeypatch.setattr("trainer.processes.pods.pod._ALONE", 0)
    for number in (1, ahead):
        (tmp_path / f"attempt-{number}").mkdir(exist_ok=True)
        (tmp_path / f"attempt-{number}" / "node-0").touch()
    (tmp_path / f"attempt-{ahead}" / "node-1").touch()
    assert FirstNode(RunDir(tmp_path, node), 1).is_lost() is is_lost


def test_a_first_node_that_never_comes_is_said(pod: Pod) -> None:
    with pytest.raises(LauncherError, match=r"the first node did not create .*/runs/r within 0 s: see the log of its pod"):
        arrive(RunDir(pod.run.path, 1), pod.config, lambda: False, patience=0)


def test_a_claim_that_cannot_be_written_says_which_path_which_group_and_what_to_do(pod: Pod, nobody: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        claim, (uid, gid) = Path(folder), nobody
        claim.chmod(0o555)
        found = claim.stat()
        said = (
            f"{claim} cannot be written by {uid}:{gid} (permission denied; it belongs to {found.st_uid}:{found.st_gid} with "
            f"mode 555): make the volume writable for group {gid}, as `chgrp -R {gid} DIR && chmod -R g+rwX DIR` does on its host"
        )
        config = {name: (pod.config / name).read_text() for name in ("experiment.json", "record.json")}
        with acting_as(nobody), pytest.raises(LauncherError) as error:
            _arrive_with(RunDir(claim / "exp_1" / "m" / "runs" / "r"), config)
        assert str(error.value) == said


def test_a_claim_that_may_not_even_be_entered_is_explained_too(nobody: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "claim").mkdir(mode=0o000)
        Path(folder).chmod(0o755)
        with acting_as(nobody), pytest.raises(LauncherError, match=rf"^{folder}/claim cannot be written by .*mode 0\): make"):
            _arrive_with(
                RunDir(Path(folder) / "claim" / "exp_1" / "m" / "runs" / "r"), {"experiment.json": "{}", "record.json": "{}"}
            )


def test_torchruns_own_words_are_said_where_no_rank_has_any(pod: Pod) -> None:
    code, out = pod.finish(FAKE_RANKS="silent", FAKE_STEPS="0")
    assert code == 1
    assert "  exitcode  : 1 (pid: 1)" in out
    assert out[-1] == "r: attempt 1: failed, exit 1: torchrun failed: see logs/entry.log"


def test_last_words_are_no_longer_than_the_kubelet_keeps_and_hold_no_secret(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DPO_TERMINATION_LOG", str(tmp_path / "words"))
    last_words(42, "ö" * 5000 + " hf_abcdefghijklmnopqrstuvwxyz", "failed")
    written = (tmp_path / "words").read_bytes()
    assert 3000 < len(written) <= 4096
    assert json.loads(written)["code"] == 42
    last_words(44, "token hf_abcdefghijklmnopqrstuvwxyz is refused", "failed")
    assert json.loads((tmp_path / "words").read_text())["sentence"] == "token [hidden] is refused"


def test_last_words_that_cannot_be_left_change_nothing(tmp_path: Path, pod: Pod) -> None:
    code, out = pod.finish(DPO_TERMINATION_LOG=str(tmp_path / "nowhere" / "words"), FAKE_STEPS="0")
    assert code == 0
    assert f"warning: cannot write {tmp_path}/nowhere/words: no such file or directory" in out
