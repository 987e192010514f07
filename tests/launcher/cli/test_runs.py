"""The verbs as a person types them, in processes of their own; torchrun is played by ``tests/fakes``."""

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.runs.processes import kill, members
from tests.launcher.cli.typed import LAUNCHER, begin, environment, has_stepped, launcher, run_dir, with_demo
from tests.waiting import wait_for


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with with_demo(tmp_path) as home:
        yield home


def test_a_cache_that_cannot_be_written_is_named_before_a_run_is_made(home: Path) -> None:
    (home / "cache").write_text("")
    done = launcher(home, "run", "demo", "--backend", "host", DPO_CACHE_ROOT=str(home / "cache"))
    assert (done.returncode, (home / "out").exists()) == (1, False)
    assert done.stderr.endswith(
        f"error: cannot write the cache {home}/cache: {home}/cache is a file, not a folder\n"
        "    hint:     set DPO_CACHE_ROOT to another folder\n"
    )


def test_a_run_says_what_it_derived_follows_and_ends_with_the_runs_code(home):
    done = launcher(home, "run", "demo", "--local", "--name", "first", FAKE_STEPS="3")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == f"""\
backend     host (no Docker engine: /no/such/engine not found)
run         first
experiment  demo (configs/demo.yml)
model       ./model
data        2 training, 1 validation pairs (rows: 2 train, 1 validation)
tokens      ≤ 291 per epoch (upper bound: one token per byte, sequences cut at 1024)
devices     the CPU
a step      8 pairs = 2 per device × 4 accumulation × 1 device
steps       3 (3 epochs)
evaluations 2, 1 validation pair each: before the first step, every 50 steps and at the end
output      {run_dir(home, "first").path}
memory      unknown: model/config.json: hidden_size is missing; `launcher plan` shows more
loading the model
step 1/3  loss 0.6667  margin +0.167  accuracy 0.75
step 2/3  loss 0.6333  margin +0.333  accuracy 0.75  16.0 pairs/s
step 3/3  loss 0.6000  margin +0.500  accuracy 0.75  16.0 pairs/s
done: {run_dir(home, "first").path}
adapter     {run_dir(home, "first").adapter}
report      {run_dir(home, "first").report}
next        launcher chat first
            launcher tensorboard first
            launcher run --backend host demo --set hyperparameters.learning_rate=1e-05
in Python   from peft import AutoPeftModelForCausalLM
            model = AutoPeftModelForCausalLM.from_pretrained("out/exp_1/model/runs/first/adapter")
"""
    )


def test_the_suggested_next_run_has_what_this_one_changed_by_set(home):
    done = launcher(home, "run", "demo", "--local", "--name", "first", "--set", "topic=a b", FAKE_STEPS="1")
    assert "launcher run --backend host demo --set 'topic=a b' --set hyperparameters.learning_rate=1e-05\n" in done.stdout


def test_the_exit_code_and_the_sentence_of_a_failed_run_reach_the_caller(home):
    done = launcher(home, "run", "demo", "--name", "bad", FAKE_RANKS="45")
    assert done.returncode == 45
    assert done.stderr == (
        "failed (exit 45): out of memory on the device: rank 0 says 45\n"
        "what to do: lower max_seq_length or use gradient checkpointing; list the cheapest changes with: launcher plan demo\n"
        f"logs: {run_dir(home, 'bad').logs}\n"
    )


def test_a_run_that_never_had_a_rank_shows_torchruns_words(home, tmp_path):
    (tmp_path / "torch" / "distributed").mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "distributed" / "__init__.py").touch()
    (tmp_path / "torch" / "distributed" / "run.py").write_text("raise SystemExit('no libcuda here')")
    done = launcher(home, "run", "demo", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("no libcuda here\n")
    assert "failed (exit 1): torchrun failed: see logs/entry.log" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["demo", "--backend", "docker"], 48, "no Docker engine: unix:///no/such/engine not found"),
        (["demo", "--backend", "kubernetes", "--local"], 2, "--cluster excludes --local and every other --backend"),
        (["demo", "--name", "a/b"], 2, "--name 'a/b'"),
        (["demo", "--set", "model_name=./none"], 42, "folder ./none not found"),
        (["demo", "--set", "model_name=data"], 42, "no model in data"),
        (["demo", "--set", "launch.gpus=2"], 42, "--set: launch.gpus: requests 2 GPUs, but this machine has 0"),
        (["demo", "--set", "launch.global_batch_size=3"], 42, "cannot be split evenly"),
        (["demo", "--set", "train_filename=none.csv"], 43, "none.csv"),
        (["demo", "--set", "launch.secrets=[NO_SUCH_TOKEN]"], 44, "NO_SUCH_TOKEN"),
        (
            ["demo", "--set", "hyperparameters.model_output_dir=data/training_data.csv/x"],
            42,
            "training_data.csv is a file, not a",
        ),
        (
            ["demo", "--set", "hyperparameters.model_output_dir=/proc/out"],
            42,
            "model_output_dir: cannot write /proc/out/exp_1/model",
        ),
        (["domo"], 42, "demo"),
    ],
)
def test_a_mistake_ends_it_before_anything_is_made(home, args, code, message):
    done = launcher(home, "run", *args)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "out").exists()


def test_a_run_without_a_standard_output_ends_with_its_own_code(home):
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *LAUNCHER, "run", "demo", "--name", "x"]
    done = subprocess.run(closed, cwd=home, env=environment(FAKE_RANKS="46"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (46, "failed (exit 46): a health rule stopped it: rank 0 says 46")


def test_a_name_is_given_once(home):
    assert launcher(home, "run", "demo", "--name", "x", FAKE_STEPS="1").returncode == 0
    again = launcher(home, "run", "demo", "--name", "x", "--set", "experiment_id=2")
    assert (again.returncode, again.stderr) == (2, "error: --name x: a run with this name exists\n")


def test_render_and_dry_run_print_the_same_and_make_nothing(home):
    one, two = launcher(home, "render", "demo", "--name", "x"), launcher(home, "run", "demo", "--dry-run", "--name", "x")
    assert one.returncode == two.returncode == 0
    assert one.stdout == two.stdout
    first, second, *others = one.stdout.splitlines()
    assert (first, second) == ("# x: experiment demo on this machine: the CPU", f"cd {home}")
    assert others[-1].startswith(f"# needs {run_dir(home, 'x').experiment} (")
    assert "experiment_id" not in one.stdout
    assert not (home / "out").exists()


def test_full_prints_the_files_that_the_run_reads(home):
    one = launcher(home, "render", "demo", "--name", "x", "--full")
    assert one.stdout == launcher(home, "run", "demo", "--dry-run", "--full", "--name", "x").stdout
    assert '\n  "experiment_id": "1",\n' in one.stdout


def test_dot_env_reaches_the_run(home):
    (home / ".env").write_text("FAKE_RANKS=46\n")
    assert launcher(home, "run", "demo").returncode == 46


def test_ps_finds_a_running_a_finished_and_a_killed_run(home):
    assert launcher(home, "ps").stdout == "no runs yet; start one with: launcher run EXP\n"
    launcher(home, "run", "demo", "--name", "finished", FAKE_STEPS="2")
    for name in ("killed", "running"):
        done = launcher(home, "run", "demo", "--name", name, "--detach", FAKE_RANKS="deaf", FAKE_STEPS="2")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"Started {name}. Follow it with: launcher logs -f {name}")
        wait_for(lambda name=name: has_stepped(run_dir(home, name)))
    os.kill(run_dir(home, "killed").read_record()["process"]["pid"], signal.SIGKILL)
    wait_for(lambda: "lost" in launcher(home, "status", "killed").stdout)
    wait_for(lambda: launcher(home, "ps").stdout.count("2/2") == 3)
    table = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "yyyy-mm-dd hh:mm", launcher(home, "ps").stdout)
    assert re.sub(r"(?:\d+ min )?\d+ s\b", "N s", table) == (
        "RUN       STATE       STEP  ACCURACY      MARGIN  HEALTH  STARTED (UTC)     TOOK\n"
        "running   running     2/2   0.75 (train)  +0.500  -       yyyy-mm-dd hh:mm  N s\n"
        "killed    lost (137)  2/2   0.75 (train)  +0.500  -       yyyy-mm-dd hh:mm  N s\n"
        "finished  done        2/2   0.75 (train)  +0.500  -       yyyy-mm-dd hh:mm  N s\n"
    )
    assert [(r["run"], r["state"]) for r in json.loads(launcher(home, "ps", "--json").stdout)] == [
        ("running", "running"),
        ("killed", "lost"),
        ("finished", "done"),
    ]


def test_a_run_is_found_by_name_beginning_experiment_and_latest(home):
    for name in ("alpha-1", "alpha-2", "beta"):
        launcher(home, "run", "demo", "--name", name, FAKE_STEPS="1")
    for word, expected in [("alpha-1", "alpha-1"), ("b", "beta"), ("demo", "beta"), ("1", "beta"), ("latest", "beta")]:
        assert json.loads(launcher(home, "status", word, "--json").stdout)["run"] == expected
    ambiguous, missing = launcher(home, "status", "alpha"), launcher(home, "status", "betta")
    assert ambiguous.returncode == missing.returncode == 2
    assert ambiguous.stderr == (
        "error: 'alpha' matches several runs; type more of the name:\n"
        f"    {run_dir(home, 'alpha-2').path}\n    {run_dir(home, 'alpha-1').path}\n"
    )
    assert missing.stderr == "error: run 'betta' not found: did you mean 'beta'?\n"


def test_a_run_is_found_by_its_name_wherever_set_put_it_and_after_its_file_is_gone(home):
    put = ["--set", "hyperparameters.model_output_dir=other/out"]
    begun = launcher(home, "run", "demo", "--backend", "host", "--name", "afar", "--detach", *put, FAKE_STEPS="2")
    assert begun.stdout.splitlines()[-1] == "Started afar. Follow it with: launcher logs -f afar"
    (home / "configs" / "demo.yml").unlink()
    folder = home / "other" / "out" / "exp_1" / "model" / "runs" / "afar"
    followed = launcher(home, "logs", "-f", "afar")
    assert (followed.returncode, '"step": 2' in followed.stdout or "step 2/2" in followed.stdout) == (0, True), followed.stdout
    listed = json.loads(launcher(home, "ps", "-a", "--json").stdout)
    assert [(one["run"], one["state"], one["folder"]) for one in listed] == [("afar", "done", str(folder))]
    again = launcher(home, "resume", "demo")
    assert (again.returncode, again.stderr) == (
        2,
        "error: afar is done: nothing to resume\n"
        "    hint:     to train longer from its last checkpoint: launcher run EXP --set hyperparameters.num_train_epochs=N "
        "--set hyperparameters.resume_from_checkpoint=true\n",
    )


def test_logs_follow_from_the_first_line_to_the_end(home):
    launcher(home, "run", "demo", "--name", "x", "--detach", FAKE_STEPS="20", FAKE_PAUSE="0.1")
    wait_for(lambda: has_stepped(run_dir(home, "x")))
    followed = launcher(home, "logs", "-f", "x")
    assert followed.returncode == 0
    lines = followed.stdout.splitlines()
    assert [line.split("  loss")[0] for line in lines] == ["loading the model", *(f"step {n:>2}/20" for n in range(1, 21))]
    assert launcher(home, "logs", "x").stdout == followed.stdout
    assert "has the logs of ranks 0" in launcher(home, "logs", "x", "--rank", "3").stderr


def test_logs_of_all_ranks_have_their_ranks_before_them(home):
    launcher(home, "run", "demo", "--name", "x", FAKE_STEPS="1")
    (run_dir(home, "x").logs / "rank-1.log").write_text("one\rtwo\nthree")
    shown = ["[rank 0] loading the model", "[rank 0] step 1/1  loss 0.6000", "[rank 1] one", "[rank 1] two", "[rank 1] three"]
    lines = launcher(home, "logs", "x", "--rank", "all").stdout.splitlines()
    assert [line.split("  margin")[0] for line in lines] == shown
    assert launcher(home, "logs", "-f", "x", "--rank", "all").stdout.splitlines() == lines
    wrong = launcher(home, "logs", "x", "--rank", "-1")
    assert (wrong.returncode, "expected a number from 0 on, or all; found '-1'" in wrong.stderr) == (2, True)


def test_ctrl_c_in_logs_leaves_the_run_alone(home):
    launcher(home, "run", "demo", "--name", "x", "--detach", FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    logs = begin(home, "logs", "-f", "x")
    assert logs.stdout.readline() == "loading the model\n"
    logs.send_signal(signal.SIGINT)
    out, _ = logs.communicate(timeout=300)
    assert (logs.returncode, out.splitlines()[-1]) == (130, "x continues")
    assert json.loads(launcher(home, "status", "x", "--json").stdout)["state"] == "running"


STOPPED = """\
stopped (exit 143): x was stopped on request after step N
what to do: start it again with: launcher resume x (from the beginning: it has no checkpoint)
"""


def test_stop_waits_for_the_checkpoint(home):
    launcher(home, "run", "demo", "--name", "x", "--detach", FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    wait_for(lambda: has_stepped(run_dir(home, "x")))
    done = launcher(home, "stop", "x")
    assert (done.returncode, re.sub(r"step \d+", "step N", done.stdout)) == (
        0,
        "x: waiting for the current step and a checkpoint (at most 120 s; kill it now with: launcher stop --now x)\n" + STOPPED,
    )
    assert members(str(run_dir(home, "x").path)) == []
    again = launcher(home, "stop", "x").stdout
    assert re.sub(r"step \d+", "step N", again) == "x has already ended\n" + STOPPED


def test_stop_now_kills_what_does_not_listen(home):
    launcher(home, "run", "demo", "--name", "x", "--detach", FAKE_RANKS="deaf")
    wait_for(lambda: has_stepped(run_dir(home, "x")))
    assert launcher(home, "stop", "x", "--now").stdout.startswith("aborted (exit 130): killed on request\n")
    assert members(str(run_dir(home, "x").path)) == []


def test_the_follower_of_a_run_that_is_stopped_elsewhere_ends_with_143(home):
    follower = begin(home, "run", "demo", "--name", "x", FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    wait_for(lambda: has_stepped(run_dir(home, "x")))
    launcher(home, "stop", "x")
    follower.communicate(timeout=300)
    assert follower.returncode == 143


def test_a_run_that_is_stopped_before_its_first_step_has_nothing_to_resume_wherever_it_is_asked(home):
    follower = begin(home, "run", "demo", "--name", "x", FAKE_STEPS="0", FAKE_WAIT="600")
    wait_for(lambda: run_dir(home, "x").rank_log(0).is_file())
    stopped = launcher(home, "stop", "x")
    sentence = "x was stopped on request before its first step"
    nothing = "start it again with: launcher resume x (from the beginning: it has no checkpoint)"
    end = f"stopped (exit 143): {sentence}\nwhat to do: {nothing}\n"
    assert stopped.stdout == (
        "x: waiting for its end; it has not trained a step and writes no checkpoint "
        f"(at most 120 s; kill it now with: launcher stop --now x)\n{end}"
    )
    assert follower.communicate(timeout=300)[0].endswith(end)
    assert f"because     {sentence}\nwhat to do  {nothing}\n" in launcher(home, "status", "x").stdout
    assert launcher(home, "why", "x").stdout == f"why         {sentence}\nwhat to do  {nothing}\n"


def test_resume_starts_a_run_again_in_its_own_folder(home):
    assert launcher(home, "run", "demo", "--name", "x", FAKE_RANKS="1").returncode == 1
    done = launcher(home, "resume", "x", FAKE_STEPS="2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "x starts from the beginning: it has no checkpoint"
    assert "rank 0 says 1" not in done.stdout, "what the first attempt said is not said again"
    assert [(a["number"], a["exit_code"]) for a in run_dir(home, "x").read_record()["attempts"]] == [(1, 1), (2, 0)]
    again = launcher(home, "resume", "x")
    longer = "--set hyperparameters.num_train_epochs=N --set hyperparameters.resume_from_checkpoint=true"
    hint = f"    hint:     to train longer from its last checkpoint: launcher run EXP {longer}\n"
    assert (again.returncode, again.stderr) == (2, f"error: x is done: nothing to resume\n{hint}")


def test_a_run_that_was_killed_says_how_to_go_on_and_one_that_runs_is_not_started_twice(home):
    launcher(home, "run", "demo", "--name", "x", "--detach", FAKE_RANKS="deaf")
    wait_for(lambda: has_stepped(run_dir(home, "x")))
    twice = launcher(home, "resume", "x")
    assert (twice.returncode, twice.stderr) == (2, "error: x is running. Follow it with: launcher logs -f x\n")
    kill(str(run_dir(home, "x").path))
    (run_dir(home, "x").path / "checkpoint-2").mkdir()
    done = launcher(home, "resume", "x", "--detach")
    assert done.stdout == "x resumes from checkpoint-2\nStarted x. Follow it with: launcher logs -f x\n"
    wait_for(lambda: "done" in launcher(home, "status", "x").stdout)


@pytest.mark.parametrize("step", ["0", "6", "soon"])
def test_a_drill_kills_at_a_step_that_it_reaches(home, step):
    done = launcher(home, "drill", "demo", "--kill-at", step)
    assert done.returncode == 2
    assert done.stderr == f"error: --kill-at: expected random or a step from 1 to 5, found {step!r}\n"


NVIDIA_SMI = """\
#!/bin/sh
for gpu in 0 1 2 3 4 5 6 7; do
  case "$1" in -L) echo "GPU $gpu: NVIDIA GeForce RTX 4090" ;; *) echo "NVIDIA GeForce RTX 4090, 24564" ;; esac
done
"""
EIGHT_BILLION = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    ("settings", "stage", "words"),
    [
        ([], None, "parallelism: ddp, the whole model on every rank"),
        (["hyperparameters.full_finetuning=true"], "2", "parallelism: zero2_offload, optimizer offloaded to main memory"),
        (["launch.parallelism=zero1"], "1", None),
    ],
)
def test_auto_takes_the_simplest_way_to_share_the_work_that_fits_the_gpus(home, settings, stage, words):
    (home / "model" / "config.json").write_text(json.dumps(EIGHT_BILLION))
    smi = home / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(NVIDIA_SMI)
    smi.chmod(0o755)
    more = [f"--set={setting}" for setting in ("launch.gpus=8", "launch.global_batch_size=16", *settings)]
    path = f"{smi.parent}:{os.environ['PATH']}"
    done = launcher(home, "render", "demo", *more, PATH=path, CUDA_VISIBLE_DEVICES="0,1,2,3,4,5,6,7")
    assert done.returncode == 0, done.stderr
    assert ("ACCELERATE_DEEPSPEED_ZERO_STAGE=" in done.stdout) == (stage is not None)
    assert stage is None or f"ACCELERATE_DEEPSPEED_ZERO_STAGE={stage} " in done.stdout
    assert words is None or words in done.stdout


class Terminal:
    """The launcher on a real terminal."""

    def __init__(self, home: Path, *args: str, **env: str):
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            os.chdir(home)
            os.execve(LAUNCHER[0], [*LAUNCHER, *args], environment(TERM="xterm", **env))
        self.text = ""

    def read_until(self, words: str) -> None:
        while words not in self.text:
            self.text += self._read()

    def type(self, keys: bytes) -> None:
        os.write(self._end, keys)

    def close(self) -> int:
        """Reads to the end; the exit code."""
        try:
            while True:
                self.text += self._read()
        except OSError:  # Linux: the other end is closed
            os.close(self._end)
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> str:
        return os.read(self._end, 4096).decode("utf-8", "replace")


ASKED = "stop or detach? [s/d] (Ctrl-C again kills it at once)"


def test_ctrl_c_on_a_terminal_asks_and_stops_after_a_checkpoint(home):
    terminal = Terminal(home, "run", "demo", "--name", "x", FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    terminal.read_until("/1000")
    terminal.type(b"\x03")
    terminal.read_until(ASKED)
    terminal.type(b"what?\n")
    terminal.read_until(f"what?\r\n\r\n{ASKED}")
    terminal.type(b"s\n")
    assert terminal.close() == 143
    assert "stopping x after a checkpoint (Ctrl-C again kills it at once)" in terminal.text
    assert "stopped (exit 143): x was stopped on request after step " in terminal.text
    assert "\x1b[?25h" in terminal.text.rpartition("\x1b[?25l")[2], "the cursor is shown again"
    assert members(str(run_dir(home, "x").path)) == []


def test_ctrl_c_on_a_terminal_asks_and_leaves_the_run_alone(home):
    terminal = Terminal(home, "run", "demo", "--name", "x", FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    terminal.read_until("/1000")
    terminal.type(b"\x03")
    terminal.read_until(ASKED)
    terminal.type(b"d\n")
    assert terminal.close() == 0
    assert "x continues. Follow it with: launcher logs -f x" in terminal.text
    assert len(members(str(run_dir(home, "x").path))) == 3


def test_a_second_ctrl_c_instead_of_an_answer_kills_at_once(home):
    terminal = Terminal(home, "run", "demo", "--name", "x", FAKE_RANKS="deaf", FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    terminal.read_until("/1000")
    terminal.type(b"\x03")
    terminal.read_until(ASKED)
    terminal.type(b"\x03")
    assert terminal.close() == 130
    assert members(str(run_dir(home, "x").path)) == []
    assert terminal.text.rpartition(ASKED)[2].removeprefix(" ").removeprefix("^C").startswith("\r\n"), "a line of its own"


def test_a_second_ctrl_c_on_a_terminal_kills_at_once_and_leaves_nobody(home):
    terminal = Terminal(home, "run", "demo", "--name", "x", FAKE_RANKS="deaf", FAKE_STEPS="1000", FAKE_PAUSE="0.05")
    terminal.read_until("/1000")
    terminal.type(b"\x03")
    terminal.read_until(ASKED)
    terminal.type(b"s\n")
    terminal.read_until("stopping x after a checkpoint")
    assert len(members(str(run_dir(home, "x").path))) == 3
    terminal.type(b"\x03")
    assert terminal.close() == 130
    assert members(str(run_dir(home, "x").path)) == []
    assert run_dir(home, "x").read_record()["outcome"]["state"] == "aborted"


def test_tensorboard_sees_the_chosen_runs_side_by_side_until_ctrl_c(home):
    for name in ("a", "b", "c"):
        launcher(home, "run", "demo", "--name", name, FAKE_STEPS="1")
    (home / "tensorboard").mkdir()
    (home / "tensorboard" / "__init__.py").touch()
    (home / "tensorboard" / "main.py").write_text(
        "import glob, os, sys, time\n"
        "folder, port = sys.argv[1].removeprefix('--logdir='), sys.argv[2]\n"
        "links = sorted(glob.glob('*/*', root_dir=folder))\n"
        "print(port, *(f'{name}={os.path.realpath(os.path.join(folder, name))}' for name in links), flush=True)\n"
        "time.sleep(3600)\n"
    )
    server = begin(home, "tensorboard", "a", "b", "--port", "7007", PYTHONPATH=str(home))
    assert server.stdout.readline() == "TensorBoard shows exp_1/a, exp_1/b at http://localhost:7007/ (Ctrl-C stops it)\n"
    assert server.stdout.readline() == (
        f"--port=7007 exp_1/a={run_dir(home, 'a').tensorboard} exp_1/b={run_dir(home, 'b').tensorboard}\n"
    )
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=300) == 0
