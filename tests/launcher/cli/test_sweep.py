"""`--sweep` as a person types it; torchrun is played by ``tests/fakes``, which ends with the code in the point's environment."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.points import draw
from launcher.launch.sweeps.grid import Outcome, Point
from launcher.runs.known import Known
from tests.launcher.cli.typed import CONFIG, begin, has_stepped, launcher, run_dir, with_demo
from tests.waiting import wait_for


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with with_demo(tmp_path) as home:
        yield home


def record(home: Path, name: str) -> dict[str, Any]:
    return run_dir(home, name).read_record()


def timeless(text: str) -> str:
    return re.sub(r"\b(?:\d+ min )?\d+ s\b", "N s", text)


SWEEP = ("run", "demo", "--backend", "host", "--name", "grid", "--sweep", "launch.env.FAKE_RANKS=45,0")


def test_a_point_that_fails_does_not_stop_the_others_and_resume_continues_what_is_not_done(home: Path) -> None:
    done = launcher(home, *SWEEP)
    assert done.returncode == 1, done.stdout + done.stderr
    assert timeless(done.stdout).endswith(
        """\
[1/2] grid-1  FAKE_RANKS=45  started
[1/2] grid-1  FAKE_RANKS=45  failed (exit 45): rank 0 says 45
[2/2] grid-2  FAKE_RANKS=0  started
[2/2] grid-2  FAKE_RANKS=0  done
RUN     FAKE_RANKS  ACCURACY      MARGIN  LOSS    STATE        TOOK
grid-2  0           0.75 (train)  +0.500  0.6000  done         N s
grid-1  45          0.75 (train)  +0.500  0.6000  failed (45)  N s
grid-1: rank 0 says 45 (see: launcher why grid-1)
best        grid-2
1 of 2 points are done. Resume it with: launcher resume grid
"""
    )
    assert "sweep       grid: 2 points, 1 at a time\n" in done.stdout
    entry = record(home, "grid-2")["sweep"]
    assert (entry["name"], entry["point"], entry["settings"]) == ("grid", 2, ["launch.env.FAKE_RANKS=0"])

    shown = launcher(home, "status", "grid")
    assert timeless(shown.stdout) == timeless(done.stdout)[timeless(done.stdout).index("RUN  ") :]
    points = json.loads(launcher(home, "status", "grid", "--json").stdout)["points"]
    assert [(one["run"], one["state"]) for one in points] == [("grid-1", "failed"), ("grid-2", "done")]

    begun_by = record(home, "grid-1")["sweep"]["process"]
    again = launcher(home, "resume", "grid")
    assert again.returncode == 1
    assert "1 of 2 points are done\n[1/2] grid-1  FAKE_RANKS=45  resumed\n" in again.stdout
    assert [len(record(home, name)["attempts"]) for name in ("grid-1", "grid-2")] == [2, 1]
    assert record(home, "grid-1")["sweep"]["process"] != begun_by, "stop finds the command that starts the points now"
    assert launcher(home, *SWEEP).returncode == 1, "the same command continues it, too"
    assert [len(record(home, name)["attempts"]) for name in ("grid-1", "grid-2")] == [3, 1]


def test_stop_ends_all_running_points_and_starts_no_more_and_resume_completes_the_sweep(home: Path) -> None:
    slow = {"FAKE_WAIT": "600", "OMP_NUM_THREADS": ""}
    axis = "hyperparameters.beta=0.1,0.2,0.3"
    sweep = begin(home, "run", "demo", "--backend", "host", "--name", "grid", "--parallel", "2", "--sweep", axis, **slow)
    wait_for(lambda: run_dir(home, "grid-1").path.exists() and run_dir(home, "grid-2").path.exists())
    wait_for(lambda: has_stepped(run_dir(home, "grid-1")) and has_stepped(run_dir(home, "grid-2")))
    busy = launcher(home, "resume", "grid")
    assert (busy.returncode, busy.stderr) == (
        2,
        f"error: grid is being swept by process {sweep.pid}; stop it with: launcher stop grid\n",
    )
    stopped = launcher(home, "stop", "grid")
    assert stopped.returncode == 0, stopped.stderr
    assert sweep.wait(300) == 143
    points = json.loads(launcher(home, "status", "grid", "--json").stdout)["points"]
    assert [one["state"] for one in points] == ["stopped", "stopped", "not started"]

    file = home / "configs" / "demo.yml"
    file.write_text(CONFIG.replace("num_train_epochs: 3", "num_train_epochs: 4"))
    changed = launcher(home, "resume", "grid")
    assert changed.stderr == ("error: --name grid: the experiment has changed since grid-1 was started; choose another --name\n")
    file.write_text(CONFIG)
    resumed = launcher(home, "resume", "grid")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert [record(home, f"grid-{number}")["experiment"]["hyperparameters"]["beta"] for number in (1, 2, 3)] == [0.1, 0.2, 0.3]
    assert "notice: margins scale with beta: compare accuracies across values of beta\n" in resumed.stdout
    assert "next        launcher compare grid-1 grid-2 grid-3\n" in resumed.stdout


def test_ctrl_c_stops_a_sweep_as_a_run(home: Path) -> None:
    slow = {"FAKE_WAIT": "600"}
    sweep = begin(home, "run", "demo", "--backend", "host", "--name", "grid", "--sweep", "hyperparameters.beta=0.1,0.2", **slow)
    wait_for(lambda: has_stepped(run_dir(home, "grid-1")))
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(300) == 143
    assert sweep.stdout is not None
    assert "stopping grid-1 after a checkpoint\n" in sweep.stdout.read()
    assert (record(home, "grid-1")["outcome"]["state"], run_dir(home, "grid-2").path.exists()) == ("stopped", False)


def test_a_detached_sweep_continues_without_its_terminal_and_is_followed_explained_and_stopped_by_its_name(home: Path) -> None:
    slow = {"FAKE_WAIT": "600"}
    axis = "hyperparameters.beta=0.1,0.2"
    begun = launcher(home, "run", "demo", "--backend", "host", "--name", "grid", "--detach", "--sweep", axis, **slow)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    assert "sweep       grid: 2 points, 1 at a time\n" in begun.stdout
    assert begun.stdout.endswith("Sweep grid continues without this terminal. Follow it with: launcher logs -f grid\n")
    starter = record(home, "grid-1")["sweep"]["process"]["pid"]
    assert os.getsid(starter) == starter, "a session of its own: a hang-up of the terminal does not reach it"
    assert "0 of 2 points are done. Follow it with: launcher logs -f grid\n" in launcher(home, "status", "grid").stdout
    twice = launcher(home, "run", "demo", "--backend", "host", "--name", "grid", "--detach", "--sweep", axis)
    busy = f"error: grid is being swept by process {starter}; stop it with: launcher stop grid\n"
    assert (twice.returncode, twice.stderr) == (2, busy), "two processes would start the same points"
    why = launcher(home, "why", "grid").stdout
    assert "grid-2  beta=0.2  not started\nwhy         it waits for the points before it\n" in why
    follower = begin(home, "logs", "-f", "grid")
    wait_for(lambda: has_stepped(run_dir(home, "grid-1")))
    assert launcher(home, "stop", "grid").returncode == 0
    assert follower.wait(300) == 0
    assert follower.stdout is not None
    followed = follower.stdout.read()
    assert re.findall(r"^[\d-]{10} [\d:]{8}  (.*)$", followed, re.MULTILINE) == [
        "[1/2] grid-1  beta=0.1  started",
        "stopping grid-1 after a checkpoint",
        "[1/2] grid-1  beta=0.1  stopped (exit 143): stopped after a checkpoint",
    ]
    assert followed.endswith("0 of 2 points are done. Resume it with: launcher resume grid\n")

    resumed = launcher(home, "resume", "grid", "--detach")
    assert resumed.returncode == 0, resumed.stderr
    done = launcher(home, "logs", "-f", "grid")
    assert (done.returncode, done.stdout.startswith(followed)) == (0, True)
    assert "next        launcher compare grid-1 grid-2\n" in done.stdout
    assert launcher(home, "why", "grid").stdout == "every point of grid is done\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--parallel", "2"], "--parallel needs --sweep"),
        (["--sweep", "hyperparameters.beta=0.1,0.10"], "--sweep: points 1 (beta=0.1) and 2 (beta=0.10) are the same experiment"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_starts(home: Path, args: list[str], message: str) -> None:
    done = launcher(home, "run", "demo", *args)
    assert (done.returncode, done.stderr, (home / "out").exists()) == (2, f"error: {message}\n", False)


def test_render_prints_every_point(home: Path) -> None:
    done = launcher(
        home, "render", "demo", "--backend", "host", "--name", "grid", "--full", "--sweep", "hyperparameters.beta=0.1,0.2"
    )
    assert done.returncode == 0, done.stderr
    assert re.findall("^# grid-.*$", done.stdout, re.MULTILINE) == [
        "# grid-1: point 1 of 2: beta=0.1",
        "# grid-1: experiment demo on this machine: the CPU",
        "# grid-2: point 2 of 2: beta=0.2",
        "# grid-2: experiment demo on this machine: the CPU",
    ]
    assert re.findall('"beta": (.*),', done.stdout) == ["0.1", "0.2"]


def test_a_sweep_of_sft_shows_the_validation_loss_that_ranks_it(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        Known(f"s-{number}", "e", "done", None, None, 4, 4, loss, "", None, "", validation_loss=held_out)
        for number, loss, held_out in ((1, 0.1, 0.9), (2, 0.4, 0.5))
    ]
    points = [Point(number, (f"hyperparameters.r={number}",)) for number in (1, 2, 3)]
    outcomes = [
        *(Outcome(point, run.run, run) for point, run in zip(points, runs, strict=False)),
        Outcome(points[2], "s-3", None),
    ]
    draw("s", outcomes, is_swept=True)
    assert capsys.readouterr().out.splitlines()[:4] == [
        "RUN  r  VALIDATION LOSS  LOSS    STATE        TOOK",
        "s-2  2  0.5000           0.4000  done         -",
        "s-1  1  0.9000           0.1000  done         -",
        "s-3  3  -                -       not started  -",
    ]


@pytest.mark.parametrize(
    ("method", "head"), [("dpo", "ACCURACY  MARGIN"), (None, "ACCURACY  MARGIN"), ("sft", "VALIDATION LOSS")]
)
def test_a_sweep_without_figures_yet_has_the_columns_that_its_method_fills(
    capsys: pytest.CaptureFixture[str], method: str | None, head: str
) -> None:
    known = Known("s-1", "e", "running", None, None, None, None, None, "", None, "", method=method)
    draw("s", [Outcome(Point(1, ("hyperparameters.r=1",)), "s-1", known)], is_swept=True)
    assert capsys.readouterr().out.splitlines()[0] == f"RUN  r  {head}  LOSS  STATE    TOOK"
